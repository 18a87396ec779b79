"""`POST /v1/chat/completions`.

Owns the shapes of an answer, whole and in pieces. Promises that a whole answer is that of the
last attempt, that the pieces of a stream joined are it as well, and that a stream which cannot
keep this says so and ends: text once sent cannot be taken back, so an attempt that fails after
its first piece is not followed by another. Never parses a request.
"""

from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asyncsvc.errors import TaskNotFound
from asyncsvc.journal.journal import Event
from asyncsvc.providers.answers.tool_calls import LATE_ID
from asyncsvc.tasks.state import EventType, Task
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation
from asyncsvc.web.openai import asking, errors, schemas
from asyncsvc.web.openai.errors import Failure, answering
from asyncsvc.web.openai.held_request import COMMENT_S, HEAD_S, Held, PersistedValue, hold
from asyncsvc.web.tasks.routes import services
from asyncsvc.web.tasks.submit import ADMISSION
from asyncsvc.web.tasks.views import call_shown, put_together

DONE = b"data: [DONE]\n\n"
SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
UNBUFFERED = (b"x-accel-buffering", b"no")
FILTERED = "content_filtered"
PIECES = frozenset({EventType.CHUNK, EventType.REASONING, EventType.TOOL_CALL, EventType.MESSAGE})


@operation(
    answer=schemas.Completion,
    media=("application/json", "text/event-stream"),
    body=schemas.ChatBody,
    example={"model": "auto", "messages": [{"role": "user", "content": "What is HTTP?"}]},
    headers=schemas.CallHeaders,
    errors=(*ADMISSION, "idempotency_conflict"),
    gives=(errors.TASK_ID,),
    invalid=400,
    fails=errors.statuses(),
)
@answering
async def completions(request: Request) -> Response:
    """POST /v1/chat/completions: a chat in OpenAI's shape, as a task.

    Hanging up cancels the task. With `stream` the answer comes as server-sent events.
    """
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        call = asking.chat(await aside(body.as_object, data), request.headers)
        held = await hold(parts, call, request.scope["owner"], aside)
    if call.stream:
        return PersistedValue(held, Stream(held, call.include_usage).give)
    return PersistedValue(held, Whole(held).give)


class Whole:
    """An answer in one piece."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._said = _Said()

    async def give(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self.answered())(scope, receive, send)

    async def answered(self) -> Response:
        """The answer, once the task is finished."""
        with suppress(TaskNotFound):
            async with aclosing(self._held.events()) as events:
                async for event in events:
                    if event is not None:
                        self._said.take(event)
        return self._response(*await self._held.ended())

    def _response(self, task: Task | None, failed: Failure | None) -> Response:
        headers = self._held.headers(task.name if task else None)
        reason = task.finish_reason if task else None
        if failed is not None:
            if not (task and _filtered(task) and self._said.text):
                return failed.response(headers)
            reason = "content_filter"
        assert task is not None
        choice = {"index": 0, "message": self._said.message(), "logprobs": None}
        answer = _envelope(self._held, "chat.completion", task.name) | {
            "choices": [choice | {"finish_reason": reason or "stop"}],
            "usage": task.usage,
        }
        return JSON(answer, headers=headers)


class Stream:
    """An answer as server-sent events."""

    KIND = "chat.completion.chunk"

    def __init__(self, held: Held, include_usage: bool) -> None:
        self._held = held
        self._usage: dict[str, Any] = {"usage": None} if include_usage else {}
        self._name: str | None = None
        self._open = False
        self._begun = False
        self._bound = False
        """Text has been sent: no other attempt can follow."""
        self._early: list[Event] = []
        """Pieces from before the request, which a later attempt may have made void."""

    async def give(self, scope: Scope, receive: Receive, send: Send) -> None:
        lost: Failure | None = None
        with suppress(TaskNotFound):
            async with aclosing(self._held.events((HEAD_S, COMMENT_S))) as events:
                async for event in events:
                    if event is None:
                        await self._send(send, self._held.waiting().encode())
                    elif (lost := self._void(event)) is not None:
                        break
                    elif data := self._frames(event):
                        await self._send(send, data)
        if lost is not None:
            await self._send(send, _data(lost.body()), last=True)
            await self._held.give_up()
            return
        task, failed = await self._held.ended()
        if failed is not None and not (task and _filtered(task) and self._bound):
            if not self._open:
                await failed.response(self._held.headers(self._name))(scope, receive, send)
                return
            await self._send(send, _data(failed.body()), last=True)
            return
        assert task is not None
        await self._send(send, self._end(task), last=True)

    def _void(self, event: Event) -> Failure | None:
        """Why the stream cannot go on: another attempt would begin its text anew."""
        if not self._bound:
            return None
        if event.type == EventType.RETRY:
            why = event.data["why"]
            return errors.failure(why["code"], f"{why['message']}; the text so far is void")
        if event.type == EventType.ATTEMPT:
            return errors.failure("upstream_disconnected", "the answer began anew; it is void")
        return None

    def _frames(self, event: Event) -> bytes:
        if event.type == EventType.ATTEMPT:
            self._name = event.data["name"]
            self._early = []
        if event.seq < self._held.known:
            self._early += [event] if _is_piece(event) else []
            return b""
        early, self._early = self._early, []
        pieces = [*early, event] if _is_piece(event) else early
        return b"".join(self._piece(piece) for piece in pieces)

    def _piece(self, event: Event) -> bytes:
        first = b"" if self._begun else self._chunk({"role": "assistant", "content": ""})
        self._begun = True
        data = event.data
        if event.type == EventType.REASONING:
            return first + self._chunk({"reasoning_content": data["text"]})
        self._bound = True
        if event.type == EventType.CHUNK:
            refused = {"refusal": data["text"]} if data.get("refusal") else {}
            return first + self._chunk({"content": data["text"]} | refused)
        if event.type == EventType.MESSAGE:
            return first + self._chunk(data)
        # An id that was given out is kept: clients join what they are sent.
        call = {name: value for name, value in data.items() if name != LATE_ID}
        empty = call.keys() == {"index", "function"} and call["function"] == {"arguments": ""}
        return first if empty else first + self._chunk({"tool_calls": [call_shown(call)]})

    def _end(self, task: Task) -> bytes:
        reason = "content_filter" if _filtered(task) else task.finish_reason or "stop"
        first = b"" if self._begun else self._chunk({"role": "assistant", "content": ""})
        last = first + self._chunk({}, reason)
        if self._usage:
            envelope = _envelope(self._held, self.KIND, self._name)
            last += _data(envelope | {"choices": [], "usage": task.usage})
        return last + DONE

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = self._choice(delta, reason)
        if choice is None:
            return b""
        envelope = _envelope(self._held, self.KIND, self._name)
        return _data(envelope | {"choices": [choice]} | self._usage)

    def _choice(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any] | None:
        """A choice with that piece of the message; None: the stream has no place for it."""
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    async def _send(self, send: Send, data: bytes, last: bool = False) -> None:
        if not self._open:
            self._open = True
            named = self._held.headers(self._name).items()
            told = [(name.encode(), value.encode()) for name, value in named]
            headers = [*SSE, UNBUFFERED, *told]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data, "more_body": not last})


class _Said:
    """What the latest attempt has said."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._refusals: list[str] = []
        self._fields: dict[str, Any] = {}

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def take(self, event: Event) -> None:
        match event.type:
            case EventType.ATTEMPT:
                self._clear()
            case EventType.CHUNK:
                data = event.data
                self._texts.append(data["text"])
                self._refusals += [data["text"]] if data.get("refusal") else []
            case EventType.REASONING:
                self._thoughts.append(event.data["text"])
            case EventType.TOOL_CALL if _is_piece(event):
                self._calls.append(event.data)
            case EventType.MESSAGE:
                self._fields = event.data

    def message(self) -> dict[str, Any]:
        """The message in OpenAI's shape. The content repeats a refusal, for the clients that read
        nothing else; those that parse the content look for a refusal first."""
        message: dict[str, Any] = self._fields | {
            "role": "assistant",
            "content": self.text,
            "refusal": "".join(self._refusals) or None,
        }
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        if self._calls:
            calls = [call_shown(call) for call in put_together(self._calls)]
            message |= {"content": self.text or None, "tool_calls": calls}
        return message


def _is_piece(event: Event) -> bool:
    """Whether it is part of the answer. What a gateway's agent has called by itself is not."""
    if event.type == EventType.TOOL_CALL:
        return "by" not in event.data
    return event.type in PIECES


def _filtered(task: Task) -> bool:
    """Whether the provider has cut the answer short for its content."""
    return task.error is not None and task.error["code"] == FILTERED


def _envelope(held: Held, kind: str, name: str | None) -> dict[str, Any]:
    return {
        "id": f"{'chatcmpl' if kind.startswith('chat') else 'cmpl'}-{held.task_id}",
        "object": kind,
        "created": held.created,
        "model": name or "",
    }


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
