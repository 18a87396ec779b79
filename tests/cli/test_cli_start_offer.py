"""`submit` and `chat` offer to start the service: to a person, here, where none runs."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.cli import start_offer
from asyncsvc.cli.failures import Failure
from asyncsvc.cli.start_offer import LOG, offer_start


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A person who answers with the items of the list, in a folder with settings."""
    answers: list[str] = []
    for name in os.environ:
        if name.startswith("ASYNCSVC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start_offer, "has_person", lambda: True)
    monkeypatch.setattr("builtins.input", lambda: answers.pop(0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("settings.toml").write_text(f"[server]\nport = {port}\n")
    return answers


def test_a_service_is_started_apart_and_can_be_ended(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.append("")
    process = offer_start(None)
    assert process is not None
    try:
        text = capsys.readouterr().err
        assert f"kill {process.pid}" in text
        assert str(tmp_path / "data" / LOG) in text
        assert os.getsid(process.pid) == process.pid
        assert offer_start(None) is None  # it answers now, so there is no question
        assert (tmp_path / "data" / LOG).stat().st_mode & 0o077 == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "listening on" in (tmp_path / "data" / LOG).read_text()


def test_why_it_does_not_start_is_one_line(asked: list[str], tmp_path: Path) -> None:
    asked.append("y")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/asyncsvc.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Failure, match=r"did not start: .*asyncsvc\.db.* is not a database"):
        offer_start(None)


@pytest.mark.parametrize("answer", ["n", "no", "never"])
def test_a_person_may_not_want_it(asked: list[str], answer: str) -> None:
    asked.append(answer)
    assert offer_start(None) is None
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:9"),
        ({"ASYNCSVC_URL": "http://127.0.0.1:9"}, None),
        ({"ASYNCSVC_SERVER__PORT": "0"}, None),
        ({"ASYNCSVC_SERVER__HOST": "192.0.2.1", "ASYNCSVC_TOKENS": "x" * 20}, None),
    ],
)
def test_another_service_is_not_ours_to_start(
    asked: list[str],
    variables: dict[str, str],
    url: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert offer_start(url) is None
    assert asked == []


def test_without_a_terminal_nothing_is_asked(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_question(*_: Any) -> str:
        raise AssertionError("a question without a terminal")

    monkeypatch.setattr(start_offer, "has_person", lambda: False)
    monkeypatch.setattr("builtins.input", no_question)
    assert offer_start(None) is None
