"""Answers to held requests: what a client is sent, event by event."""

from collections.abc import AsyncGenerator, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import orjson
import pytest

from asyncsvc.journal.journal import Event
from asyncsvc.storage.entries import EventRow
from asyncsvc.tasks.state import Request, State, Task
from asyncsvc.web.openai.chat import DONE, ChatStream, EventStream, answered
from asyncsvc.web.openai.errors import Failure, failure, of_task
from asyncsvc.web.openai.held_request import Held, once

Step = tuple[str, dict[str, Any]] | None
ATTEMPT: Step = ("attempt", {"name": "fast"})
RETRY: Step = ("retry", {"why": {"code": "upstream_disconnected", "message": "cut"}})
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
DONE_TASK = Task(
    Request("t"), State.COMPLETED, name="fast", usage=USAGE, finish_reason="stop", seq=9
)
FILTERED = replace(
    DONE_TASK, state=State.FAILED, error={"code": "content_filtered", "message": "no"}
)


def text(piece: str) -> Step:
    return ("chunk", {"text": piece})


def thought(piece: str) -> Step:
    return ("reasoning", {"text": piece})


def call(arguments: str, **opening: Any) -> Step:
    named = {"name": opening.pop("name")} if "name" in opening else {}
    return ("tool_call", {"index": 0} | opening | {"function": named | {"arguments": arguments}})


class Script:
    """Stands for a held request whose task does what the steps say; `known` of them before."""

    def __init__(self, *steps: Step, task: Task = DONE_TASK, known: int = 0) -> None:
        self.services, self.task_id, self.created, self.known = None, "t", 7, known
        self.given_up = False
        self._steps, self._task = steps, task

    def headers(self, name: str | None = None) -> dict[str, str]:
        return {"x-task-id": "t"} | ({"x-name": name} if name else {})

    async def events(self, ticks: Any = None) -> AsyncGenerator[Event | None]:
        for seq, step in enumerate(self._steps, 1):
            if step is None:
                yield None
            else:
                data = orjson.dumps(step[1]).decode()
                yield EventRow(seq, 1, seq, step[0], 0, data).event("t")

    async def ended(self) -> tuple[Task | None, Failure | None]:
        completed = self._task.state is State.COMPLETED
        return self._task, None if completed else of_task(self._task)

    def waiting(self) -> str:
        return ": waiting\n\n"

    async def give_up(self) -> None:
        self.given_up = True


class Sent:
    """What a client has received."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.over = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        assert not self.over
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message["body"]
            self.over = not message.get("more_body", False)

    @property
    def data(self) -> list[dict[str, Any]]:
        lines = self.body.decode().split("\n\n")
        return [orjson.loads(x[6:]) for x in lines if x[:6] == "data: " and x[6:] != "[DONE]"]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [each["choices"][0]["delta"] for each in self.data if each.get("choices")]

    @property
    def text(self) -> str:
        return "".join(delta.get("content", "") for delta in self.deltas)


async def given(application: Any) -> Sent:
    sent = Sent()
    await application({"type": "http"}, None, sent)
    assert sent.over
    return sent


async def streamed(script: Script, usage: bool = False) -> Sent:
    return await given(EventStream([ChatStream(cast(Held, script), usage)]))


async def whole(script: Script) -> Sent:
    return await given(once(partial(answered, cast(Held, script))))


async def test_a_stream_in_openais_order() -> None:
    sent = await streamed(Script(ATTEMPT, thought("hm"), text("a"), text("b")), usage=True)
    assert sent.status == 200
    assert sent.body.endswith(DONE)
    assert sent.headers["x-name"] == "fast"
    assert sent.deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "a"},
        {"content": "b"},
        {},
    ]
    assert sent.data[-2]["choices"][0]["finish_reason"] == "stop"
    assert (sent.data[-1]["choices"], sent.data[-1]["usage"]) == ([], USAGE)
    assert all(each["usage"] is None for each in sent.data[:-1])


async def test_usage_is_sent_only_where_it_is_wanted() -> None:
    sent = await streamed(Script(ATTEMPT, text("a")))
    assert not [each for each in sent.data if "usage" in each]


async def test_comments_while_it_waits() -> None:
    sent = await streamed(Script(None, None, ATTEMPT, text("a")))
    assert sent.body.startswith(b": waiting\n\n: waiting\n\ndata: ")
    assert sent.text == "a"


async def test_a_failure_before_the_first_byte_has_a_status() -> None:
    failed = replace(DONE_TASK, state=State.FAILED, error={"code": "timeout", "message": "late"})
    sent = await streamed(Script(ATTEMPT, task=failed))
    assert sent.status == 504
    assert sent.headers["x-task-id"] == "t"


async def test_a_failure_after_it_is_an_event() -> None:
    failed = replace(DONE_TASK, state=State.FAILED, error={"code": "timeout", "message": "late"})
    sent = await streamed(Script(None, ATTEMPT, task=failed))
    assert sent.status == 200
    assert sent.data == [failure("timeout", "late").body()]
    assert DONE not in sent.body


async def test_an_attempt_that_fails_before_its_text_goes_unnoticed() -> None:
    sent = await streamed(Script(ATTEMPT, thought("hm"), RETRY, ATTEMPT, text("a")))
    assert sent.text == "a"
    assert sent.body.endswith(DONE)


@pytest.mark.parametrize("piece", [text("a"), call("{", id="c", name="f")])
@pytest.mark.parametrize("then", [RETRY, ATTEMPT])
async def test_no_attempt_follows_on_text(piece: Step, then: Step) -> None:
    script = Script(ATTEMPT, piece, then, text("never"))
    sent = await streamed(script)
    assert sent.data[-1]["error"]["code"] == "upstream_disconnected"
    assert script.given_up
    assert b"never" not in sent.body
    assert DONE not in sent.body


async def test_what_was_void_before_the_request_came_is_not_sent() -> None:
    steps = (ATTEMPT, text("void"), RETRY, ATTEMPT, text("a"), text("b"))
    for known in range(4, 7):
        sent = await streamed(Script(*steps, known=known))
        assert sent.text == "ab"
        assert sent.body.endswith(DONE)


async def test_a_finished_answer_is_sent_at_once() -> None:
    end: Step = ("status", {"status": "completed"})
    sent = await streamed(Script(ATTEMPT, text("a"), end, known=3))
    assert sent.text == "a"


async def test_an_answer_without_a_piece_is_one() -> None:
    sent = await streamed(Script(ATTEMPT))
    assert sent.deltas == [{"role": "assistant", "content": ""}, {}]


async def test_tool_calls_are_handed_on_as_they_come() -> None:
    steps = (ATTEMPT, call("", id="c", type="function", name="f"), call("{"), call("}"))
    task = replace(DONE_TASK, finish_reason="tool_calls")
    sent = await streamed(Script(*steps, task=task))
    pieces = [delta["tool_calls"][0] for delta in sent.deltas if "tool_calls" in delta]
    assert [piece["function"]["arguments"] for piece in pieces] == ["", "{", "}"]
    assert sent.data[-1]["choices"][0]["finish_reason"] == "tool_calls"
    answer = orjson.loads((await whole(Script(*steps, task=task))).body)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


async def test_a_whole_answer_is_that_of_the_last_attempt() -> None:
    sent = await whole(Script(ATTEMPT, text("void"), RETRY, ATTEMPT, thought("hm"), text("a")))
    answer = orjson.loads(sent.body)
    assert answer["choices"][0]["message"]["content"] == "a"
    assert answer["choices"][0]["message"]["reasoning_content"] == "hm"
    assert answer["usage"] == USAGE


async def test_an_answer_that_was_cut_for_its_content_ends_so() -> None:
    sent = await streamed(Script(ATTEMPT, text("a"), task=FILTERED))
    assert sent.data[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert sent.body.endswith(DONE)
    answer = orjson.loads((await whole(Script(ATTEMPT, text("a"), task=FILTERED))).body)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize("answering", [streamed, whole])
async def test_nothing_but_a_filter_is_a_bad_request(answering: Any) -> None:
    sent = await answering(Script(ATTEMPT, task=FILTERED))
    assert sent.status == 400
    assert b'"content_filter"' in sent.body
