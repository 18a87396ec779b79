"""`POST /v1/chat/completions`, and `POST /v1/completions` of the legacy API.

A whole answer is that of the last attempt. So are the joined pieces of a stream: sent text cannot
be taken back, so a stream whose attempt fails after its first piece ends with an error instead of
a further attempt. A legacy completion has a task for each prompt, and their texts in that order.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asyncsvc.access import Permission
from asyncsvc.journal.journal import Event
from asyncsvc.providers.answers.tool_calls import LATE_ID, put_together
from asyncsvc.tasks.state import EventType, Task
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.large_answers import WHOLE_CHARS, roomy
from asyncsvc.web.http.resources import resource
from asyncsvc.web.http.streaming import LIVE
from asyncsvc.web.openai import errors, requests, schemas
from asyncsvc.web.openai.errors import Failure, task_endpoint
from asyncsvc.web.openai.held_request import (
    COMMENT_S,
    HEAD_S,
    Held,
    HeldResponse,
    give_up,
    once,
    submitted,
)
from asyncsvc.web.tasks.views import call_shown

Object = dict[str, Any]
DONE = b"data: [DONE]\n\n"
SSE = {"Content-Type": "text/event-stream; charset=utf-8", **LIVE}
FILTERED = "content_filtered"
PIECES = frozenset({EventType.CHUNK, EventType.REASONING, EventType.TOOL_CALL, EventType.MESSAGE})
TEXT_REASONS = frozenset({None, "stop", "length", "content_filter"})
"""Finish reasons of the legacy API, which has no tools."""
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@task_endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.Completion,
    media=("application/json", "text/event-stream"),
    body=schemas.ChatBody,
    example={"model": "auto", "messages": [{"role": "user", "content": "What is HTTP?"}]},
)
async def completions(request: Request) -> Response:
    """POST /v1/chat/completions: a chat in OpenAI's shape, as a task.

    Hanging up cancels the task. With `stream` the answer comes as server-sent events.
    """
    call, held = await submitted(request, requests.chat)
    if call.stream:
        return HeldResponse(held, EventStream([ChatStream(held[0], call.include_usage)]))
    return HeldResponse(held, once(partial(_answered_with_room, held[0])))


@task_endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.TextCompletion,
    media=("application/json", "text/event-stream"),
    body=schemas.CompletionsBody,
    example={"model": "auto", "prompt": "HTTP is"},
)
async def text_completions(request: Request) -> Response:
    """POST /v1/completions: texts in the shape of OpenAI's legacy API, a task for each prompt.

    Hanging up cancels the tasks. With `stream` the texts come as server-sent events.
    """
    call, held = await submitted(request, requests.completions)
    if call.stream:
        last = len(held) - 1
        streams = [
            TextStream(one, call.include_usage and index == last, index, call.heads[index])
            for index, one in enumerate(held)
        ]
        return HeldResponse(held, EventStream(streams))
    return HeldResponse(held, once(partial(_texts_answered, held, call.heads)))


async def answered(held: Held) -> Response:
    """The chat completion of a task, once it is finished."""
    answer = await _answer(held)
    return answer if isinstance(answer, Response) else await _completion(held, answer)


async def _answered_with_room(held: Held) -> Response:
    """The same as `answered`; a large completion has room until it is sent."""
    answer = await _answer(held)
    if isinstance(answer, Response):
        return answer
    make = partial(_completion, held, answer)
    return await roomy(held.services.answers, answer.chars, "POST", make)


async def _completion(held: Held, answer: "_Answer") -> Response:
    """The chat completion of a finished task."""
    await answer.complete(held)
    choice: schemas.Choice = {
        "index": 0,
        "message": answer.message(),
        "logprobs": None,
        "finish_reason": answer.finish_reason,
    }
    whole: schemas.Completion = {
        "id": f"chatcmpl-{held.task_id}",
        "object": "chat.completion",
        "created": held.created,
        "model": answer.name,
        "choices": [choice],
        "usage": answer.usage,
    }
    return JSON(whole, headers=held.headers(answer.name))


async def _texts_answered(held: Sequence[Held], heads: Sequence[str]) -> Response:
    """The legacy completion of several tasks, once they are finished; a failure fails it."""
    answers = []
    for answer in await asyncio.gather(*map(_answer, held)):
        if isinstance(answer, Response):
            await give_up(held)
            return answer
        answers.append(answer)
    make = partial(_text_completion, held, heads, answers)
    chars = sum(answer.chars for answer in answers)
    return await roomy(held[0].services.answers, chars, "POST", make)


async def _text_completion(
    held: Sequence[Held], heads: Sequence[str], answers: Sequence["_Answer"]
) -> Response:
    """The legacy completion of finished tasks."""
    for one, answer in zip(held, answers, strict=True):
        await answer.complete(one)
    whole: schemas.TextCompletion = {
        "id": f"cmpl-{held[0].task_id}",
        "object": "text_completion",
        "created": held[0].created,
        "model": answers[0].name,
        "choices": [
            _text_choice(index, head + answer.text, answer.finish_reason)
            for index, (head, answer) in enumerate(zip(heads, answers, strict=True))
        ],
        "usage": _sum([answer.usage for answer in answers]),
    }
    return JSON(whole, headers=held[0].headers(answers[0].name))


class _Answer:
    """The answer of a task: what its latest attempt has sent. A long text is not collected: it
    is read from the disk by `complete`."""

    def __init__(self) -> None:
        self.task_n = 0
        self.name = ""
        self.finish_reason = "stop"
        self.usage: Object | None = None
        self._clear()

    def _clear(self) -> None:
        self.chars = 0
        """Characters of text and thinking."""
        self._text_chars = 0
        self._is_long = False
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[Object] = []
        self._refusals: list[str] = []
        self._fields: Object = {}

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def take(self, event: Event) -> None:
        """Add an event of the task."""
        match event.type:
            case EventType.ATTEMPT:
                self._clear()
            case EventType.CHUNK:
                data = event.data
                self._add_text(data["text"])
                self._refusals += [data["text"]] if data.get("refusal") else []
            case EventType.REASONING:
                self._thoughts.append(event.data["text"])
                self.chars += len(self._thoughts[-1])
            case EventType.TOOL_CALL if _is_piece(event):
                self._calls.append(event.data)
            case EventType.MESSAGE:
                self._fields = event.data

    def _add_text(self, text: str) -> None:
        self.chars += len(text)
        self._text_chars += len(text)
        self._texts.append(text)
        if self._text_chars > WHOLE_CHARS:
            self._is_long = True
            self._texts = ["".join(self._texts)[:1]]  # enough to know that there is one

    async def complete(self, held: Held) -> None:
        """Read the text where it was too long to be collected."""
        if self._is_long:
            self._is_long = False
            self._texts = [await held.services.journal.store.result(self.task_n) or ""]

    def message(self) -> Object:
        """The message in OpenAI's shape. The content repeats a refusal, for clients that read
        nothing else; those that parse the content look for a refusal first."""
        message: Object = self._fields | {
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


async def _answer(held: Held) -> _Answer | Response:
    """The answer of a task once it is finished, or the error response."""
    answer = _Answer()
    async with aclosing(held.events()) as events:
        async for event in events:
            if event is not None:
                answer.take(event)
    task, failed = await held.ended()
    if failed is not None and not (_filtered(task) and answer.text):
        return failed.response(held.headers(task.name if task else None))
    assert task is not None
    answer.task_n, answer.name, answer.usage = task.n, task.name or "", task.usage
    answer.finish_reason = _finish_reason(task)
    return answer


class ChatStream:
    """The answer of one task as the data of server-sent events."""

    PREFIX, KIND = "chatcmpl", "chat.completion.chunk"

    def __init__(self, held: Held, include_usage: bool) -> None:
        self.held = held
        self.name: str | None = None
        """The model's name in the settings."""
        self.usage: Object | None = None
        """The usage of the finished task."""
        self._null: Object = {"usage": None} if include_usage else {}
        self._begun = False
        self._bound = False
        """Text has been sent: no other attempt can follow."""
        self._early: list[Event] = []
        """Pieces from before the request, which a later attempt may have made void."""

    async def frames(self) -> AsyncGenerator[bytes | Failure]:
        """The frames of the stream, some of them empty; a failure is the last of them."""
        events = self.held.events((HEAD_S, COMMENT_S))
        try:
            async for event in events:
                if event is None:
                    yield self.held.waiting().encode()
                elif (failed := self._void(event)) is not None:
                    yield failed
                    return
                else:
                    yield self._frames(event)
        finally:
            await events.aclose()
        task, failed = await self.held.ended()
        if failed is not None and not (_filtered(task) and self._bound):
            yield failed
            return
        assert task is not None
        self.usage = task.usage
        yield self._first() + self._chunk({}, _finish_reason(task))

    def usage_frame(self, usage: Object | None) -> bytes:
        """The chunk with the usage, where the client wants one."""
        return _data(self._envelope() | {"choices": [], "usage": usage}) if self._null else b""

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
            self.name = event.data["name"]
            self._early = []
        if event.seq < self.held.known:
            self._early += [event] if _is_piece(event) else []
            return b""
        early, self._early = self._early, []
        pieces = [*early, event] if _is_piece(event) else early
        return b"".join(self._piece(piece) for piece in pieces)

    def _piece(self, event: Event) -> bytes:
        first, data = self._first(), event.data
        if event.type == EventType.REASONING:
            return first + self._chunk({"reasoning_content": data["text"]})
        self._bound = True
        if event.type == EventType.CHUNK:
            refused = {"refusal": data["text"]} if data.get("refusal") else {}
            return first + self._chunk({"content": data["text"]} | refused)
        if event.type == EventType.MESSAGE:
            return first + self._chunk(data)
        # A sent id is kept: clients join the ids that they receive.
        call = {name: value for name, value in data.items() if name != LATE_ID}
        empty = call.keys() == {"index", "function"} and call["function"] == {"arguments": ""}
        return first if empty else first + self._chunk({"tool_calls": [call_shown(call)]})

    def _first(self) -> bytes:
        """The chunk that begins the message, once."""
        begun, self._begun = self._begun, True
        return b"" if begun else self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: Object, reason: str | None = None) -> bytes:
        choice = self._choice(delta, reason)
        return _data(self._envelope() | {"choices": [choice]} | self._null) if choice else b""

    def _envelope(self) -> Object:
        return {
            "id": f"{self.PREFIX}-{self.held.task_id}",
            "object": self.KIND,
            "created": self.held.created,
            "model": self.name or "",
        }

    def _choice(self, delta: Object, reason: str | None) -> Any:
        """The choice with that piece of the message; None: the stream has no place for it."""
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


class TextStream(ChatStream):
    """The text of one task of a legacy completion, which begins with `head`."""

    PREFIX, KIND = "cmpl", "text_completion"

    def __init__(self, held: Held, include_usage: bool, index: int, head: str) -> None:
        super().__init__(held, include_usage)
        self._index = index
        self._head = head

    def _choice(self, delta: Object, reason: str | None) -> Any:
        text = delta.get("content") or ""
        if "role" in delta:
            text, self._head = self._head + text, ""
        return _text_choice(self._index, text, reason) if text or reason is not None else None


class EventStream:
    """An ASGI application that sends the streams of a request's tasks one after the other. The
    status is sent with the first frame."""

    def __init__(self, streams: Sequence[ChatStream]) -> None:
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened = False
        for stream in self._streams:
            async with aclosing(stream.frames()) as frames:
                async for frame in frames:
                    if isinstance(frame, Failure) and not opened:
                        headers = stream.held.headers(stream.name)
                        await frame.response(headers)(scope, receive, send)
                    elif isinstance(frame, Failure):
                        await _send(send, _data(frame.body()), more=False)
                    elif frame:
                        if not opened:
                            await _open(send, stream.held.headers(stream.name))
                        opened = True
                        await _send(send, frame)
                    if isinstance(frame, Failure):
                        await give_up([one.held for one in self._streams])
                        return
        usage = _sum([one.usage for one in self._streams])
        await _send(send, self._streams[-1].usage_frame(usage) + DONE, more=False)


async def _open(send: Send, headers: dict[str, str]) -> None:
    sent = Headers(SSE | headers).raw
    await send({"type": "http.response.start", "status": 200, "headers": sent})


async def _send(send: Send, data: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


def _is_piece(event: Event) -> bool:
    """Whether the event is part of the answer; a call that a gateway's agent has made is not."""
    if event.type == EventType.TOOL_CALL:
        return "by" not in event.data
    return event.type in PIECES


def _filtered(task: Task | None) -> bool:
    """Whether the provider has cut the answer short for its content."""
    return task is not None and task.error is not None and task.error["code"] == FILTERED


def _finish_reason(task: Task) -> str:
    return "content_filter" if _filtered(task) else task.finish_reason or "stop"


def _text_choice(index: int, text: str, reason: str | None) -> schemas.TextChoice:
    end: Any = reason if reason in TEXT_REASONS else "stop"
    return {"index": index, "text": text, "logprobs": None, "finish_reason": end}


def _sum(usages: Sequence[Object | None]) -> Object | None:
    """The tokens of all tasks; those of one task with all details of its provider."""
    if len(usages) == 1:
        return usages[0]
    return {name: sum((one or {}).get(name, 0) for one in usages) for name in COUNTS}


def _data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


ROUTES = [
    resource("/v1/chat/completions", POST=completions),
    resource("/v1/completions", POST=text_completions),
]
