"""`init`: what it writes, what it asks, and that it overwrites nothing."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncsvc.cli import init as command
from asyncsvc.cli.init import KEYS, env_text, template, with_model
from asyncsvc.cli.parser import run
from asyncsvc.config.environment import parsed
from asyncsvc.config.load import load
from tests.docgen import SETTINGS, TEMPLATE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str | BaseException]:
    """What a person types at the questions, one after another; then Ctrl-D."""
    answers: list[str | BaseException] = []

    def asked(_: str) -> str:
        answer = answers.pop(0) if answers else EOFError()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(command, "getpass", asked)
    monkeypatch.setattr(command, "has_person", lambda: True)
    return answers


def test_the_template_is_the_settings_file_of_the_project() -> None:
    assert TEMPLATE.read_bytes() == SETTINGS.read_bytes(), "run python -m tests.docgen"


def test_it_writes_settings_and_a_secret_env_and_check_is_content(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init"]) == 0
    assert sorted(os.listdir(here)) == [".env", "settings.toml"]
    assert set(load(here / "settings.toml", {}).models) >= {"zhipu", "hunyuan"}
    if os.name != "nt":
        assert (here / ".env").stat().st_mode & 0o777 == 0o600
    assert set(parsed((here / ".env").read_text()).values()) == {""}
    output = capsys.readouterr().out
    assert "check --try" in output
    assert run(["check"]) == 0
    assert "ready: " in capsys.readouterr().out


def test_nothing_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "settings.toml").write_text("[server]\nport = 9\n")
    assert run(["init"]) == 2
    assert "settings.toml exists already" in capsys.readouterr().err
    assert os.listdir(here) == ["settings.toml"]
    (here / "settings.toml").unlink()
    (here / ".env").write_text("MINE=1")
    assert run(["init"]) == 0
    assert (here / ".env").read_text() == "MINE=1"
    assert "kept " in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_nowhere_is_a_file_too(here: Path) -> None:
    (here / "settings.toml").symlink_to(here.parent / "outside")
    assert run(["init"]) == 2
    assert not (here.parent / "outside").exists()


def test_another_folder_is_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--dir", "a/b"]) == 0
    assert (here / "a/b/settings.toml").exists()
    assert "cd a/b && " in capsys.readouterr().out
    (here / "file").touch()
    assert run(["init", "--dir", "file/b"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_repository_leaves_out_keys_and_data(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / ".git").mkdir()
    (here / ".gitignore").write_text("data\n*.pyc")
    assert run(["init"]) == 0
    assert (here / ".gitignore").read_text() == "data\n*.pyc\n.env\n"
    assert ".gitignore" in capsys.readouterr().out


def test_keys_that_are_typed_go_into_the_env_file_alone(
    here: Path, typed: list[str | BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    place = list(KEYS).index("DEEPSEEK_API_KEY")
    typed += [' "Bearer zhipu-secret" '] + [""] * (place - 1) + ["schlüssel", "sk-deep secret#1"]
    assert run(["init"]) == 0
    found = parsed((here / ".env").read_text())
    assert found["ZHIPU_API_KEY"] == "zhipu-secret"
    assert found["DEEPSEEK_API_KEY"] == "sk-deep secret#1"
    settings = load(here / "settings.toml", {})
    assert settings.models["deepseek"].api_key_env == "DEEPSEEK_API_KEY"
    assert "moonshot" not in settings.models
    output = capsys.readouterr()
    shown = (here / "settings.toml").read_text() + output.out + output.err
    assert not [key for key in ("zhipu-secret", "sk-deep", "secret#1") if key in shown]
    assert "no HTTP header" in output.out


def test_an_end_by_ctrl_c_writes_nothing(here: Path, typed: list[str | BaseException]) -> None:
    typed += ["a-key", KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        run(["init"])
    assert os.listdir(here) == []


def comments() -> Iterator[str]:
    text = template()
    yield from (line[10:-1] for line in text.splitlines() if line.startswith("# [models."))


def test_each_model_that_is_a_comment_can_be_used() -> None:
    text = template()
    for name in comments():
        text = with_model(text, name)
    models = tomllib.loads(text)["models"]
    assert set(comments()) < set(models)
    named = {model["api_key_env"] for model in models.values() if "api_key_env" in model}
    assert named == set(KEYS)
    for variable, (name, _, _) in KEYS.items():
        assert models[name]["api_key_env"] == variable


@pytest.mark.parametrize("key", ["plain-1", "with space", 'with "quotes" and \\', "with #", "$x"])
def test_a_key_is_read_as_it_was_typed(key: str) -> None:
    assert parsed(env_text({"OPENAI_API_KEY": key}))["OPENAI_API_KEY"] == key


def test_the_places_of_the_keys_are_those_of_the_documents() -> None:
    text = (SETTINGS.parent / "docs/keys.md").read_text(encoding="utf-8")
    missing = [where for _, _, where in KEYS.values() if where[:4] == "http" and where not in text]
    assert not missing
