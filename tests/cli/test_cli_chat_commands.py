"""What a person types into `chat` beside questions: commands, many lines, and the history."""

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from asyncsvc.cli import conversation
from asyncsvc.cli.chat import HELP, Chat
from asyncsvc.cli.chat_input import LONGEST_LINE, MOST_LINES, Questions, history_file
from asyncsvc.cli.client import Api, Unreachable
from asyncsvc.cli.conversation import Look, ModelConversation
from asyncsvc.cli.transcript import Transcript
from tests.cli.processes import Place
from tests.cli.test_cli_conversing import newest, screen

MODELS = [
    {"name": "fast", "model": "fast-1", "enabled": True, "type": "chat"},
    {"name": "off", "model": "off-1", "enabled": False, "reason": "no key", "type": "chat"},
    {"name": "vectors", "model": "v-1", "enabled": True, "type": "embedding"},
]


class Service:
    """What was submitted; the answer to the n-th question is "answer n", or none."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.silent = False
        self.away = False

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/models"
        return {"models": MODELS}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/tasks"
        self.sent.append(json.loads(json.dumps(body)))
        return {"task_id": f"task-{len(self.sent)}"}

    def task(self, _: str) -> dict[str, Any]:
        if self.away:
            raise Unreachable("cannot reach asyncsvc")
        return {"result": None if self.silent else f"answer {len(self.sent)}"}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()

    def stream(_: Api, __: str, transcript: Transcript) -> bool:
        attempt = {"number": 1, "name": "fast", "model": "fast-1", "why": "the first"}
        transcript.take({"type": "attempt", "data": attempt})
        if not made.silent:
            transcript.take({"type": "chunk", "data": {"text": f"answer {len(made.sent)}"}})
        transcript.take({"type": "status", "data": {"status": "completed"}})
        return False

    monkeypatch.setattr(conversation, "stream_or_cancel", stream)
    return made


def converse(scripted: Service, *lines: str) -> ModelConversation:
    talk = ModelConversation(cast(Api, scripted), {"lane": "priority"}, Look(names_model=True))
    Chat(cast(Api, scripted), talk).converse(lines)
    return talk


def test_the_model_is_named_once_with_the_reason(
    scripted: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    converse(scripted, "one", "two")
    shown = capsys.readouterr()
    assert shown.err == "  fast (fast-1): the first\n"
    assert shown.out == "answer 1\nanswer 2\n"


def test_the_last_question_is_asked_again(scripted: Service) -> None:
    talk = converse(scripted, "one", "two", "/retry")
    assert [turn.answer for turn in talk.turns] == ["answer 1", "answer 3"]
    assert scripted.sent[2] == scripted.sent[1]


def test_a_question_without_an_answer_can_be_asked_again(scripted: Service) -> None:
    scripted.silent = True
    talk = ModelConversation(cast(Api, scripted), {}, Look())
    assert not talk.ask("one")
    scripted.silent = False
    assert talk.retry()
    assert [turn.question for turn in talk.turns] == ["one"]
    assert scripted.sent[1] == scripted.sent[0]


def test_an_answer_whose_service_has_gone_since_is_kept(scripted: Service) -> None:
    scripted.away = True
    assert converse(scripted, "one").turns[0].answer == "answer 1"


def test_the_model_and_the_system_message_are_set(
    scripted: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = converse(
        scripted, "/system Be brief.", "/model fast", "one", "/model auto", "/system off", "two"
    )
    assert scripted.sent[0]["model"] == "fast"
    assert scripted.sent[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "model" not in scripted.sent[1]
    assert [each["role"] for each in scripted.sent[1]["messages"]] == ["user", "assistant", "user"]
    assert talk.system is None
    assert "fast answers from now on" in capsys.readouterr().out


def test_the_models_are_listed(scripted: Service, capsys: pytest.CaptureFixture[str]) -> None:
    converse(scripted, "/model", "/model off", "/model nosuch")
    shown = capsys.readouterr()
    assert "fast-1" in shown.out
    assert "off-1  disabled: no key" in shown.out
    assert "* auto" in shown.out
    assert "vectors" not in shown.out
    assert "model off is disabled: no key" in shown.err
    assert "there is no model 'nosuch'" in shown.err
    assert scripted.sent == []


def test_a_conversation_is_forgotten(scripted: Service, capsys: pytest.CaptureFixture[str]) -> None:
    talk = converse(scripted, "one", "/clear", "/retry", "two")
    assert len(scripted.sent[1]["messages"]) == 1
    assert len(talk.turns) == 1
    assert "no question yet" in capsys.readouterr().err


def test_a_conversation_is_saved(
    scripted: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, messages = tmp_path / "talk of tea.md", tmp_path / "talk.json"
    converse(
        scripted,
        f"/save {text}",
        "/save",
        "/system Be brief.",
        "what is tea?",
        f"/save {text}",
        f"/save {messages}",
        f"/save {text}",
    )
    assert text.read_text() == (
        "## System\n\nBe brief.\n\n## Question\n\nwhat is tea?\n\n## fast\n\nanswer 1\n"
    )
    roles = [each["role"] for each in json.loads(messages.read_text())]
    assert roles == ["system", "user", "assistant"]
    errors = capsys.readouterr().err
    assert "nothing to save yet" in errors
    assert "name a file" in errors
    assert errors.count(str(text)) == 1  # a file that is there already stays as it is


def test_the_help_names_each_command(scripted: Service, capsys: pytest.CaptureFixture[str]) -> None:
    converse(scripted, "/help", "/halp")
    shown = capsys.readouterr()
    assert all(name in shown.out for name in HELP)
    assert "there is no command /halp" in shown.err
    assert scripted.sent == []


@pytest.mark.parametrize("question", ["/etc/hosts: what is it?", " /help me, please", "a /b"])
def test_a_question_may_begin_with_a_slash(scripted: Service, question: str) -> None:
    converse(scripted, question)
    assert scripted.sent[0]["messages"][0]["content"] == question.strip()


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> list[str]:
    """What is asked where these lines are typed, up to Ctrl-D."""
    left: Iterator[str | type[BaseException]] = iter([*lines, EOFError])

    def type_line(_: str) -> str:
        line = next(left)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", type_line)
    monkeypatch.setitem(sys.modules, "readline", None)
    return list(Questions(None, []))


@pytest.mark.parametrize(
    ("lines", "questions"),
    [
        (["one", "", "  ", "two"], ["one", "two"]),
        (["one \\", "two\\", "three"], ["one \ntwo\nthree"]),
        (['"""', "one", "", "two", '"""'], ["one\n\ntwo"]),
        (['"""one', 'two"""', "three"], ["one\ntwo", "three"]),
        (['"""one"""'], ["one"]),
        (["one \\", KeyboardInterrupt, "two"], ["two"]),
        (['"""', "one"], []),
    ],
)
def test_questions_of_many_lines(
    monkeypatch: pytest.MonkeyPatch, lines: list[Any], questions: list[str]
) -> None:
    assert typed(monkeypatch, *lines) == questions


class Readline:
    """The history of the library readline, whose own is that of the whole process."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.length = -1

    def set_auto_history(self, _: bool) -> None: ...
    def set_completer_delims(self, _: str) -> None: ...
    def set_completer(self, _: Any) -> None: ...
    def parse_and_bind(self, _: str) -> None: ...
    def set_history_length(self, length: int) -> None:
        self.length = length

    def read_history_file(self, file: Path) -> None:
        self.lines = file.read_text().splitlines()

    def add_history(self, line: str) -> None:
        self.lines.append(line)

    def append_history_file(self, count: int, file: Path) -> None:
        with file.open("a") as out:
            out.writelines(f"{line}\n" for line in self.lines[-count:])


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    return history_file()


def test_the_history_is_a_file_of_its_owner(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert history == tmp_path / "asyncsvc" / "chat_history"
    lines = iter(["one", "x" * (LONGEST_LINE + 1), "two"])
    monkeypatch.setitem(sys.modules, "readline", cast(Any, Readline()))
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    questions = iter(Questions(history, []))
    for _ in range(3):
        next(questions)
    assert history.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    later = Readline()
    monkeypatch.setitem(sys.modules, "readline", cast(Any, later))
    Questions(history, [])
    assert (later.lines, later.length) == (["one", "two"], MOST_LINES)
    without = Readline()
    monkeypatch.setitem(sys.modules, "readline", cast(Any, without))
    Questions(None, [])
    assert without.lines == []


def test_a_link_in_the_place_of_the_history_is_left_alone(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_text("of others\n")
    other.chmod(0o644)
    history.parent.mkdir()
    os.symlink(other, history)
    monkeypatch.setitem(sys.modules, "readline", cast(Any, Readline()))
    monkeypatch.setattr("builtins.input", lambda _: "one")
    assert next(iter(Questions(history, []))) == "one"
    assert other.read_text() == "of others\n"
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


def test_a_terminal_with_many_lines_commands_and_a_history(service_place: Place) -> None:
    with screen(service_place, "--model", "fast") as shown:
        assert "/help lists more" in shown.until("> ")
        shown.type("What is\\\r")
        shown.until("… ")
        shown.type("tea?\r")
        assert "fast (fast-1): named by the task" in shown.until("[simulated answer]")
        shown.until("> ")
        assert newest(service_place)["messages"][0]["content"] == "What is\ntea?"
        shown.type("/re\t\r")
        shown.until("[simulated answer]")
        shown.until("> ")
        shown.type("/clear\r")
        shown.until("forgotten")
        shown.until("> ")
        shown.type("\x04")
        assert shown.left() == 0
    with screen(service_place, "--model", "fast") as shown:
        shown.until("> ")
        shown.type("\x1b[A\x1b[A\x1b[A")
        shown.until("tea?")
        shown.interrupt()
        shown.type("\x04")
        assert shown.left() == 0


@pytest.fixture
def service_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where commands find the service, with a state folder of its own."""
    place: Place = request.getfixturevalue("service")
    own = {"XDG_STATE_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}  # readline shows … in UTF-8 alone
    return Place(place.folder, dict(place.env) | own)
