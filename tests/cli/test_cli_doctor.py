"""`doctor` and `check --try`: all faults at once, each with its remedy; calls when asked for."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.cli import examination, trial_calls
from asyncsvc.cli.examination import within
from asyncsvc.cli.findings import Finding
from asyncsvc.cli.parser import run
from asyncsvc.storage.lock import FileLock
from tests.cli.processes import Place

KEY = "sk-" + "0123456789abcdefghijkl-wxyz"
Found = dict[str, Any]


@pytest.fixture
def here(tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings whose model a simulated provider serves; no service runs."""
    for name in os.environ:
        if name.startswith("ASYNCSVC_"):
            monkeypatch.delenv(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "settings.toml").write_text(
        f'[server]\nport = {port}\n[models.fast]\nbase_url = "{provider}/v1"\nmodel = "fast-1"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def quick_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox has tests of its own."""
    found = Finding("sandbox", "ok", "not tried")
    monkeypatch.setattr(examination, "sandbox", lambda _: found)


def looked(capsys: pytest.CaptureFixture[str], code: int, *argv: str) -> list[Found]:
    assert run(["doctor", "--json", *argv]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is (code == 0)
    findings: list[Found] = answer["findings"]
    return findings


def of(findings: list[Found], part: str, level: str) -> str:
    return "\n".join(
        f"{each['text']} {each['remedy']}"
        for each in findings
        if (each["part"], each["level"]) == (part, level)
    )


def test_a_machine_without_faults_and_no_call(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = looked(capsys, 0)
    assert {each["part"] for each in found} >= {"versions", "clock", "disk", "port", "database"}
    assert "fast" in of(found, "model", "ok")
    assert "none answers" in of(found, "service", "note")
    assert of(found, "call", "ok") == ""
    assert os.listdir(here) == ["settings.toml"]
    assert run(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")


def test_all_faults_are_found_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "data").mkdir()
    (here / "data/asyncsvc.db").write_bytes(b"this is no database" * 100)
    text = (here / "settings.toml").read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (here / "settings.toml").write_text(
            text.replace("[models", "[limits]\ndisk_free_mb = 1000000000\n[models", 1)
        )
        os.environ["ASYNCSVC_SERVER__PORT"] = str(port)
        try:
            found = looked(capsys, 2, "--url", "http://127.0.0.1:9")
        finally:
            del os.environ["ASYNCSVC_SERVER__PORT"]
    assert f"127.0.0.1:{port}" in of(found, "port", "wrong")
    assert "server.port" in of(found, "port", "wrong")
    assert "database" in of(found, "database", "wrong")
    assert "make room" in of(found, "disk", "wrong")


def test_faults_of_the_settings_do_not_hide_the_rest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "settings.toml").write_text("[server]\nprot = 1\n[queue]\nmax_length = 0\n")
    found = looked(capsys, 2)
    assert "did you mean 'port'" in of(found, "settings", "wrong")
    assert "queue.max_length" in of(found, "settings", "wrong")
    assert of(found, "versions", "ok")
    assert of(found, "clock", "ok")


def test_a_call_shows_model_time_and_clock(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = looked(capsys, 0, "--call")
    assert "fast  fast-1  " in of(found, "call", "ok")
    assert run(["check", "--try"]) == 0
    output = capsys.readouterr()
    assert "calls     1 call of 1 token, one for each key" in output.out
    assert output.out.index("calls ") < output.out.index("call      fast")
    assert "ready: " in output.out


def test_a_provider_that_is_away_is_named_with_no_key_shown(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    (here / ".env").write_text(f"FAST_KEY='Bearer {KEY}'\n")
    (here / "settings.toml").write_text(
        f'[models.fast]\nbase_url = "http://127.0.0.1:{closed}/v1"\nmodel = "fast-1"\n'
        'api_key_env = "FAST_KEY"\n'
    )
    assert run(["check", "--try"]) == 2
    output = capsys.readouterr()
    assert f"nothing listens at 127.0.0.1:{closed}" in output.err
    assert "Errno" not in output.err
    assert "FAST_KEY holds quotes or a word such as Bearer" in output.err
    assert KEY[3:-4] not in output.out + output.err


def test_a_running_service_makes_the_calls_and_keeps_no_task(
    service: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = service.env["ASYNCSVC_URL"]
    monkeypatch.chdir(service.folder)
    monkeypatch.setattr(trial_calls, "POLL_S", 0.02)
    before = service.run("tasks", "--json").json["tasks"]
    found = looked(capsys, 0, "--call", "--url", url)
    assert f"{url} answers: process " in of(found, "service", "ok")
    assert "fast  fast-1  " in of(found, "call", "ok")
    assert of(found, "port", "ok") == ""
    after = service.run("tasks", "--json").json["tasks"]
    assert [task["task_id"] for task in after] == [task["task_id"] for task in before]


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("3.11.7", ">=3.11", True),
        ("1.2", ">=1.2,<2", True),
        ("1.2.post1", ">=1.2,<2", True),
        ("2.0.0", "<2", False),
        ("1.10", ">=1.9", True),
        ("1.9", ">=1.10", False),
        ("1.0", "==1", True),
        ("1.5", "!=1.5", False),
        ("anything", "", True),
    ],
)
def test_versions_are_compared_number_by_number(version: str, bounds: str, fits: bool) -> None:
    assert within(version, bounds) is fits


def test_a_clock_of_another_age_or_set_back_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.db"
    assert examination.clock(file).level == "ok"
    monkeypatch.setattr(examination, "now_ms", lambda: 1_000)
    assert examination.clock(file).level == "wrong"
    monkeypatch.setattr(examination, "now_ms", lambda: 1_790_000_000_000)
    file.touch()
    os.utime(file, (1_790_000_900, 1_790_000_900))
    assert "set back" in str(examination.clock(file))


def test_a_slow_disk_is_noticed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "sync_s", lambda _: 0.4)
    assert "400.0 ms" in of(looked(capsys, 0), "disk", "warning")


def test_a_service_that_does_not_answer_is_not_called_around(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = here / "data/asyncsvc.db"
    database.parent.mkdir()
    database.touch()
    with FileLock(database):
        found = looked(capsys, 2, "--call")
    assert "none answers" in of(found, "service", "wrong")
    assert "nothing was called" in of(found, "call", "wrong")
    assert of(found, "call", "ok") == ""
