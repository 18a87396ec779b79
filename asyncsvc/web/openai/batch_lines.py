"""A batch's lines: what each endpoint makes of one, and what it answers.

Owns the doors of `/v1/batches`. Promises that a line is understood, refused and answered as the
same request to its endpoint is. Never submits.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from asyncsvc.batches.lines import Answered, BatchEndpoint, Prepared
from asyncsvc.errors import InvalidRequest, RequestError, TaskNotFound
from asyncsvc.storage.entries import ResponseRequest
from asyncsvc.tasks.state import State, Task
from asyncsvc.web.http.state import Services
from asyncsvc.web.openai import asking as requests
from asyncsvc.web.openai import responses
from asyncsvc.web.openai.asking import Call
from asyncsvc.web.openai.chat import Whole
from asyncsvc.web.openai.embeddings import answered
from asyncsvc.web.openai.errors import refusal
from asyncsvc.web.openai.held_request import Held
from asyncsvc.web.openai.stored_responses import understood

LANE = "long"
BASE64 = "base64"
Object = dict[str, Any]


class _Endpoint:
    """What is the same for all endpoints."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def refused(self, error: RequestError) -> Answered:
        failure = refusal(error)
        return Answered(failure.status, failure.body())

    async def answer(self, task_id: str, form: str | None) -> Answered:
        try:
            task = await self._services.journal.task(task_id)
        except TaskNotFound as gone:
            return self.refused(gone)
        status, body = await self._answer(Held(self._services, task, mine=False), task, form)
        return Answered(status, body, task_id, task.state is State.CANCELLED)

    async def _answer(self, held: Held, task: Task, form: str | None) -> tuple[int, Object]:
        raise NotImplementedError


class Chat(_Endpoint):
    """/v1/chat/completions"""

    async def prepare(self, body: Object, headers: dict[str, str]) -> Prepared:
        return _prepared(requests.chat(_queued(body), Headers(headers)))

    async def _answer(self, held: Held, task: Task, form: str | None) -> tuple[int, Object]:
        return await captured(Whole(held).give)


class Embeddings(_Endpoint):
    """/v1/embeddings"""

    async def prepare(self, body: Object, headers: dict[str, str]) -> Prepared:
        return _prepared(requests.embedding(_queued(body), Headers(headers)))

    async def _answer(self, held: Held, task: Task, form: str | None) -> tuple[int, Object]:
        return await captured(await answered(held, form == BASE64))


class Responses(_Endpoint):
    """/v1/responses"""

    async def prepare(self, body: Object, headers: dict[str, str]) -> Prepared:
        wanted, submission, kept = await understood(self._services, _queued(body), Headers(headers))
        if wanted.stream or wanted.background:
            name = "stream" if wanted.stream else "background"
            raise InvalidRequest(f"{name} means nothing in a batch", param=name)
        return Prepared(submission, beside=lambda task_id: ResponseRequest(task_id, kept))

    async def _answer(self, held: Held, task: Task, form: str | None) -> tuple[int, Object]:
        kept = await self._services.journal.store.response_request(task.id) or {"model": ""}
        return await captured(responses.Whole(held, kept).give)


def doors(services: Services) -> Mapping[str, BatchEndpoint]:
    """By endpoint."""
    return {
        "/v1/chat/completions": Chat(services),
        "/v1/embeddings": Embeddings(services),
        "/v1/responses": Responses(services),
    }


def _queued(body: Object) -> Object:
    """A line waits in the lane for long work, unless it says otherwise."""
    return {"lane": LANE} | body


def _prepared(call: Call) -> Prepared:
    if call.stream:
        raise InvalidRequest("stream means nothing in a batch", param="stream")
    # A line waits as long as its batch: nobody is there who could come back later.
    submission = call.submission.model_copy(update={"max_wait_s": None})
    return Prepared(submission, BASE64 if call.base64 else None)


async def captured(give: Any) -> tuple[int, Object]:
    """Status and body of an answer, which is sent to nobody."""
    status, data = 0, bytearray()

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        data.extend(message.get("body", b""))

    receive: Receive = _nobody
    scope: Scope = {"type": "http", "method": "POST"}
    sending: Send = send
    await give(scope, receive, sending)
    body: Object = orjson.loads(bytes(data))
    return status, body


async def _nobody() -> Message:
    return {"type": "http.disconnect"}
