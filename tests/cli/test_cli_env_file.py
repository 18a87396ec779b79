"""Commands read the `.env` beside the settings, and count relative paths from there."""

import os
from pathlib import Path

import pytest

from asyncsvc.cli.client import find
from asyncsvc.cli.options import environment
from asyncsvc.cli.parser import run

KEY = "sk-" + "0123456789abcdefghijkl-wxyz"
SETTINGS = """
[models.mine]
base_url = "http://127.0.0.1:9/v1"
model = "some-id"
api_key_env = "MINE_KEY"
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings; the working directory is another one."""
    for name in os.environ:
        if name.startswith("ASYNCSVC_"):
            monkeypatch.delenv(name)
    here, conf = tmp_path / "here", tmp_path / "conf"
    here.mkdir()
    conf.mkdir()
    (conf / "settings.toml").write_text(SETTINGS)
    monkeypatch.chdir(here)
    return conf


def checked(conf: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert run(["check", "--settings", str(conf / "settings.toml")]) == code
    output = capsys.readouterr()
    return output.out + output.err


def test_a_key_in_the_file_enables_its_model_and_is_not_shown(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (conf / ".env").write_text(f"MINE_KEY={KEY}\n")
    (conf / ".env").chmod(0o600)
    text = checked(conf, capsys)
    assert "enabled   mine" in text
    assert KEY not in text
    assert "MINE_KEY" not in os.environ


def test_a_misspelt_name_is_asked_about(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (conf / ".env").write_text(f"MINE_APIKEY={KEY}\nASYNCSVC_SERVER_PORT=9\n")
    text = checked(conf, capsys)
    assert "MINE_KEY is not set, but MINE_APIKEY is: is its name misspelt?" in text
    assert "did you mean ASYNCSVC_SERVER__PORT?" in text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_that_others_can_read_is_warned_of(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (conf / ".env").touch()
    (conf / ".env").chmod(0o644)
    assert f"chmod 600 {conf / '.env'}" in checked(conf, capsys)


def test_a_fault_in_the_file_is_reported_like_one_in_the_settings(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (conf / ".env").write_text(f"A=1\n{KEY}\n")
    text = checked(conf, capsys, 2)
    assert f"{conf / '.env'}: line 2 is neither" in text
    assert KEY not in text


def test_the_address_of_a_service_may_stand_in_the_file(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(conf)
    (conf / ".env").write_text("ASYNCSVC_URL=http://127.0.0.1:7\nASYNCSVC_TOKEN=t\n")
    address = find(None, environment(conf / "settings.toml"))
    assert (address.url, address.token) == ("http://127.0.0.1:7", "t")
    assert find("http://127.0.0.1:8", environment(conf / "settings.toml")).url.endswith(":8")
    (conf / ".env").write_text("ASYNCSVC_SERVER__PORT=6\n")
    assert find(None, environment(conf / "settings.toml")).url == "http://127.0.0.1:6"


def test_a_database_in_the_working_directory_is_pointed_at_and_not_moved(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = Path("data/asyncsvc.db").absolute()
    earlier.parent.mkdir()
    earlier.touch()
    text = checked(conf, capsys)
    assert f"database  {conf / 'data/asyncsvc.db'}" in text
    assert f"a database lies at {earlier}, which is not used" in text
    assert f"move {earlier}* to {conf / 'data'}" in text
    assert earlier.exists()


def test_without_a_settings_file_the_way_to_one_is_shown(
    conf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncsvc.cli.check.settings_file", lambda _: None)
    assert run(["check"]) == 0
    assert " init` writes one" in capsys.readouterr().out
