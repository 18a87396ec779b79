"""`POST /v1/completions`, the legacy API.

Owns the shape of its answers, whole and in pieces. A prompt is one user message of a chat task,
several prompts are several tasks. Promises the texts in the order of the prompts. Never parses a
request.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from asyncsvc.tasks.state import Task
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation
from asyncsvc.web.openai import asking, errors, schemas
from asyncsvc.web.openai.chat import DONE, Stream, Whole
from asyncsvc.web.openai.errors import answering
from asyncsvc.web.openai.held_request import Held, PersistedValue, taken
from asyncsvc.web.tasks.routes import services
from asyncsvc.web.tasks.submit import ADMISSION

Usage = dict[str, Any] | None
KIND = "text_completion"
ENDS = frozenset({"stop", "length", "content_filter"})
"""Finish reasons of the legacy API; there are no tools in it."""
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@operation(
    answer=schemas.TextCompletion,
    media=("application/json", "text/event-stream"),
    body=schemas.CompletionsBody,
    example={"model": "auto", "prompt": "HTTP is"},
    headers=schemas.CallHeaders,
    errors=(*ADMISSION, "idempotency_conflict"),
    gives=(errors.TASK_ID,),
    invalid=400,
    fails=errors.statuses(),
)
@answering
async def text_completions(request: Request) -> Response:
    """POST /v1/completions: texts in the shape of OpenAI's legacy API, a task for each prompt.

    Hanging up cancels the tasks. With `stream` the texts come as server-sent events.
    """
    parts = services(request)
    limit, owner = parts.settings.queue.max_task_bytes, request.scope["owner"]
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        call = asking.completions(await aside(body.as_object, data), request.headers)
        if len(call.submissions) == 1:
            accepted = [await parts.intake.submit(call.submissions[0], owner, call.key, aside)]
        else:
            accepted = await parts.intake.submit_all(call.submissions, owner, call.key, aside)
    tasks = Tasks([await taken(parts, one) for one in accepted])
    heads = call.prompts if call.echo else [""] * len(call.prompts)
    if call.stream:
        return PersistedValue(tasks, Streams(tasks, heads, call.include_usage).give)
    return PersistedValue(tasks, Texts(tasks, heads).give)


class Tasks:
    """The tasks of one request."""

    def __init__(self, held: Sequence[Held]) -> None:
        self.held = held

    async def give_up(self) -> None:
        """Cancel those that the request has made."""
        for one in self.held:
            await one.give_up()


class Texts:
    """All texts in one answer. `heads` are what they begin with."""

    def __init__(self, tasks: Tasks, heads: Sequence[str]) -> None:
        self._tasks = tasks
        self._heads = heads

    async def give(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = await asyncio.gather(*(Whole(one).answered() for one in self._tasks.held))
        failed = next((one for one in answers if one.status_code != 200), None)
        if failed is not None:
            await self._tasks.give_up()
            await failed(scope, receive, send)
            return
        found = [orjson.loads(bytes(one.body)) for one in answers]
        choices = [
            _choice(index, self._heads[index] + (one["message"]["content"] or ""), one)
            for index, one in enumerate(answer["choices"][0] for answer in found)
        ]
        held = self._tasks.held[0]
        whole = {
            "id": f"cmpl-{held.task_id}",
            "object": KIND,
            "created": held.created,
            "model": found[0]["model"],
            "choices": choices,
            "usage": _sum([answer["usage"] for answer in found]),
        }
        headers = {n: v for n, v in answers[0].headers.items() if n.startswith("x-")}
        await JSON(whole, headers=headers)(scope, receive, send)


class TextStream(Stream):
    """One text as server-sent events. `before` are the usages of the texts before it."""

    KIND = KIND

    def __init__(
        self, held: Held, include_usage: bool, index: int, head: str, before: list[Usage]
    ) -> None:
        super().__init__(held, include_usage)
        self._index = index
        self._head = head
        self._before = before

    def _choice(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any] | None:
        text = delta.get("content") or ""
        if "role" in delta:
            text, self._head = self._head + text, ""
        if not text and reason is None:
            return None
        return _choice(self._index, text, {"finish_reason": reason})

    def _end(self, task: Task) -> bytes:
        self._before.append(task.usage)
        return super()._end(replace(task, usage=_sum(self._before)))


class Streams:
    """Several texts in one stream, one after the other; their tasks run side by side."""

    def __init__(self, tasks: Tasks, heads: Sequence[str], include_usage: bool) -> None:
        self._tasks = tasks
        self._heads = heads
        self._include_usage = include_usage
        self._open = False
        self._failed = False

    async def give(self, scope: Scope, receive: Receive, send: Send) -> None:
        held, usages = self._tasks.held, list[Usage]()
        for index, one in enumerate(held):
            last = index == len(held) - 1
            counted = self._include_usage and last
            stream = TextStream(one, counted, index, self._heads[index], usages)
            await stream.give(scope, receive, self._through(send, last))
            if self._failed:
                await self._tasks.give_up()
                return

    def _through(self, send: Send, last: bool) -> Send:
        """Passes on what belongs into the one answer: one head, one end."""
        refused = False

        async def sent(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] != 200
                if not self._open:
                    await send(message)
                self._failed, fresh, self._open = refused, not self._open, True
                if refused and fresh:
                    refused = False
                return
            data, more = message.get("body", b""), message.get("more_body", False)
            if refused:
                data = b"data: " + data + b"\n\n"
            ended = not more and not last and not self._failed and data.endswith(DONE)
            self._failed = self._failed or (not more and not data.endswith(DONE))
            data = data.removesuffix(DONE) if ended else data
            await send({"type": message["type"], "body": data, "more_body": more or ended})

        return sent


def _choice(index: int, text: str, chosen: dict[str, Any]) -> dict[str, Any]:
    reason = chosen["finish_reason"]
    end = reason if reason is None or reason in ENDS else "stop"
    return {"index": index, "text": text, "logprobs": None, "finish_reason": end}


def _sum(usages: Sequence[Usage]) -> Usage:
    """The tokens of all tasks; one task's own, with all that its provider says of them."""
    if len(usages) == 1:
        return usages[0]
    return {name: sum((one or {}).get(name, 0) for one in usages) for name in COUNTS}
