"""`chat --agent`: what a person is asked, what is sent, and how the conversation goes on."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from asyncsvc.cli import agent_chat
from asyncsvc.cli.agent_chat import AgentConversation
from asyncsvc.cli.client import Api, Unreachable
from asyncsvc.cli.options import Failure
from asyncsvc.cli.transcript import Transcript

ASKED = {"id": "call_1", "name": "write_file", "arguments": {"path": "a.txt", "content": "hi"}}
PAUSED = {"status": "paused", "cause": "paused", "error": {"code": "needs_approval", "message": ""}}
RESUMED = {"status": "pending", "cause": "resumed", "error": None}
COMPLETED = {"status": "completed", "cause": "completed"}
Events = list[tuple[str, dict[str, Any]]]


class Service:
    """Requests that were sent; the steps of each task that it says a task has made."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.steps = 1
        self.refusal: Failure | None = None
        self.waiting: str | None = None

    def post(self, path: str, body: Any) -> dict[str, Any]:
        self.sent.append((path, body))
        return {"task_id": f"task-{len(self.sent)}"}

    def command(self, task_id: str, verb: str, fields: Any = None) -> dict[str, Any]:
        if verb in ("approve", "deny", "resume") and self.refusal is not None:
            raise self.refusal
        return self.post(f"/tasks/{task_id}/{verb}", fields)

    def fork(self, task_id: str, step: int | None, content: str | None) -> dict[str, Any]:
        assert step is None
        return self.command(task_id, "fork", {"content": content})

    def task(self, _: str) -> dict[str, Any]:
        approval = None if self.waiting is None else {"id": self.waiting}
        return {"metadata": {"steps": self.steps}, "approval": approval}


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Events]]:
    """The events that each look at a stream gives; all are used up at the end."""
    left: list[Events] = []

    def stream(_: Api, task_id: str, transcript: Transcript, *, until_asked: bool) -> bool:
        transcript.view.task_id = task_id
        for kind, data in left.pop(0):
            if kind == "interrupt":
                return True
            transcript.take({"type": kind, "data": data, "seq": 1})
        return False

    monkeypatch.setattr(agent_chat, "stream_or_cancel", stream)
    yield left
    assert left == []


def typing(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> list[str]:
    """Type these lines, one for each question; the questions are returned."""
    questions: list[str] = []
    left = list(lines)

    def typed(question: str) -> str:
        questions.append(question)
        line = left.pop(0)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", typed)
    return questions


def conversation(service: Service) -> AgentConversation:
    return AgentConversation(cast(Api, service), {"type": "agent"}, asks=True)


ASKS: Events = [("step", {"number": 1}), ("approval", ASKED), ("status", PAUSED)]
ENDS: Events = [("status", RESUMED), ("status", COMPLETED)]


def test_the_second_question_goes_on_from_the_task_of_the_first(
    service: Service, streams: list[Events]
) -> None:
    streams += [[("status", COMPLETED)], [("status", COMPLETED)]]
    talk = conversation(service)
    assert talk.ask("one")
    assert talk.ask("two")
    assert service.sent == [
        ("/tasks", {"type": "agent", "content": "one"}),
        ("/tasks/task-1/fork", {"content": "two"}),
    ]


def test_a_task_that_made_no_step_is_nothing_to_go_on_from(
    service: Service, streams: list[Events]
) -> None:
    streams += [[("interrupt", {})], [("status", COMPLETED)]]
    service.steps = 0
    talk = conversation(service)
    assert not talk.ask("one")
    assert talk.ask("two")
    assert [path for path, _ in service.sent] == ["/tasks", "/tasks"]


def test_the_last_question_is_asked_again_from_where_it_was_asked(
    service: Service, streams: list[Events]
) -> None:
    streams += [[("status", COMPLETED)]] * 4
    talk = conversation(service)
    assert talk.ask("one")
    assert talk.ask("two")
    assert talk.retry()
    assert [turn.question for turn in talk.turns] == ["one", "two"]
    talk.clear()
    assert talk.ask("three")
    assert service.sent[1:] == [
        ("/tasks/task-1/fork", {"content": "two"}),
        ("/tasks/task-1/fork", {"content": "two"}),
        ("/tasks", {"type": "agent", "content": "three"}),
    ]


def test_the_system_message_is_that_of_a_new_conversation(
    service: Service, streams: list[Events]
) -> None:
    streams += [[("status", COMPLETED)]] * 2
    talk = conversation(service)
    talk.system = "Be brief."
    assert talk.ask("one")
    assert talk.under_way
    assert talk.ask("two")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"}]
    assert service.sent == [
        ("/tasks", {"type": "agent", "messages": messages}),
        ("/tasks/task-1/fork", {"content": "two"}),
    ]


@pytest.mark.parametrize(
    ("typed", "path", "fields"),
    [
        (["y"], "approve", {}),
        (["", " YES "], "approve", {}),
        (["n"], "deny", {}),
        (["not in this folder"], "deny", {"reason": "not in this folder"}),
    ],
)
def test_an_approval_is_asked_for(
    service: Service,
    streams: list[Events],
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    path: str,
    fields: dict[str, Any],
) -> None:
    streams += [ASKS, ENDS]
    questions = typing(monkeypatch, *typed)
    assert conversation(service).ask("write it")
    assert service.sent[1] == (f"/tasks/task-1/{path}", {"id": "call_1", **fields})
    assert questions[0] == 'allow write_file a.txt content="hi"? [y]es / [n]o / why not: '


@pytest.mark.parametrize(
    ("typed", "decision"), [(["x", "r"], "rerun"), (["skip"], "skip"), (["F"], "fail")]
)
def test_a_review_is_asked_for(
    service: Service,
    streams: list[Events],
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    decision: str,
) -> None:
    streams += [[("step", {"number": 1}), ("approval", ASKED | {"review": True})]]
    streams[0].append(("status", PAUSED))
    streams += [ENDS]
    typing(monkeypatch, *typed)
    assert conversation(service).ask("fetch it")
    assert service.sent[1] == ("/tasks/task-1/resume", {"id": "call_1", "decision": decision})


def test_long_arguments_are_shown_whole_before_the_question(
    service: Service,
    streams: list[Events],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ASKED | {"arguments": {"code": "x" * 5000}}
    streams += [[("approval", asked), ("status", PAUSED)], ENDS]
    typing(monkeypatch, "y")
    assert conversation(service).ask("run it")
    assert "x" * 5000 in capsys.readouterr().err


def test_a_question_that_is_left_lets_the_task_wait(
    service: Service,
    streams: list[Events],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    streams += [ASKS]
    typing(monkeypatch, EOFError)
    assert not conversation(service).ask("write it")
    assert len(service.sent) == 1
    assert "approve task-1" in capsys.readouterr().err


def test_ctrl_c_at_the_question_cancels_the_task(
    service: Service, streams: list[Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    streams += [ASKS, [("status", {"status": "cancelled", "cause": "cancelled"})]]
    typing(monkeypatch, KeyboardInterrupt)
    assert not conversation(service).ask("write it")
    assert service.sent[1][0] == "/tasks/task-1/cancel"


def test_another_decision_that_was_faster_is_no_end(
    service: Service,
    streams: list[Events],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.refusal = Failure("another decision was faster")
    streams += [ASKS, ENDS]
    typing(monkeypatch, "y")
    assert conversation(service).ask("write it")
    assert "not decided: another decision was faster" in capsys.readouterr().err


def test_a_decision_that_is_refused_is_asked_for_again_while_the_call_waits(
    service: Service, streams: list[Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.refusal, service.waiting = Failure("reason: at most 4096 characters"), "call_1"
    streams += [ASKS]
    questions = typing(monkeypatch, "x" * 5000, EOFError)
    assert not conversation(service).ask("write it")
    assert len(questions) == 2


def test_a_service_that_is_gone_ends_the_turn(
    service: Service, streams: list[Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.refusal = Unreachable("cannot reach asyncsvc")
    streams += [ASKS]
    typing(monkeypatch, "y")
    with pytest.raises(Unreachable):
        conversation(service).ask("write it")
