"""`/v1/responses`: OpenAI's Responses API, each response being a task.

Owns the routes. Promises that `resp_<task id>` and the task are the same thing; that a response
which is not in the background is cancelled when its client leaves; that a stream can be taken up
again behind any `sequence_number`, by anybody, across restarts. Never keeps anything between two
requests.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from asyncsvc.errors import InvalidRequest, NotFound, TaskNotFound
from asyncsvc.intake.admission import Accepted
from asyncsvc.providers.tokens import of_prompt
from asyncsvc.storage.entries import ResponseRequest
from asyncsvc.tasks.state import State
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import Services
from asyncsvc.web.openai import fields
from asyncsvc.web.openai.asking import AUTO
from asyncsvc.web.openai.errors import TASK_ID, answering, statuses
from asyncsvc.web.openai.held_request import COMMENT_S, Held, PersistedValue
from asyncsvc.web.openai.items import input_items, listed
from asyncsvc.web.openai.response_request import CreateResponse
from asyncsvc.web.openai.response_stream import PREFIX, Telling
from asyncsvc.web.openai.schemas import (
    CountTokens,
    DeletedResponse,
    InputItems,
    InputTokens,
    ItemsQuery,
    ResponseObject,
    ResponseQuery,
)
from asyncsvc.web.openai.stored_responses import as_told, find, understood, with_history
from asyncsvc.web.tasks.routes import cursor, integer, services
from asyncsvc.web.tasks.submit import ADMISSION, idempotency_key

ITEMS_DEFAULT, ITEMS_MOST = 20, 100
EVENT_STREAM = "text/event-stream"
Object = dict[str, Any]


@operation(
    answer=ResponseObject,
    media=("application/json", EVENT_STREAM),
    body=CreateResponse,
    example={"model": "auto", "input": "What is HTTP?"},
    errors=(*ADMISSION, "idempotency_conflict"),
    gives=(TASK_ID,),
    invalid=400,
    fails=statuses(),
)
@answering
async def create_response(request: Request) -> Response:
    """POST /v1/responses: a response, whole, streamed, or in the background."""
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        given = await aside(body.as_object, data)
        wanted, submission, kept = await understood(parts, given, request.headers)
        accepted = await parts.intake.submit(
            submission,
            request.scope["owner"],
            idempotency_key(request.headers),
            aside,
            lambda ids: [ResponseRequest(task_id, kept) for task_id in ids],
        )
    held = await _held(parts, accepted, background=bool(wanted.background))
    kept = await parts.journal.store.response_request(held.task_id) or kept
    if wanted.stream:
        return PersistedValue(held, Stream(held, kept, -1).give)
    if wanted.background:
        return JSON((await as_told(parts, held.task_id, kept)).response(), headers=held.headers())
    return PersistedValue(held, Whole(held, kept).give)


@operation(
    answer=ResponseObject,
    media=("application/json", EVENT_STREAM),
    query=ResponseQuery,
    errors=("not_found",),
    invalid=400,
    gives=(TASK_ID,),
)
@answering
async def show_response(request: Request) -> Response:
    """GET /v1/responses/{id}: a response as it stands; with `stream=true` its events.

    `starting_after=N` leaves out those up to the `sequence_number` N.
    """
    parts, query = services(request), request.query_params
    task_id, kept = await _stored(parts, request)
    headers = {TASK_ID: task_id}
    if query.get("stream", "false").lower() not in ("true", "1"):
        return JSON((await as_told(parts, task_id, kept)).response(), headers=headers)
    after = await _starting_after(parts, query.get("starting_after"), task_id, kept)
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers=headers)
    held = Held(parts, await parts.journal.task(task_id), mine=False)
    return PersistedValue(held, Stream(held, kept, after).give)


@operation(answer=ResponseObject, errors=("not_found", "illegal_transition"))
@answering
async def cancel_response(request: Request) -> Response:
    """POST /v1/responses/{id}/cancel: end a response; again is the same as once."""
    parts = services(request)
    task_id, kept = await _stored(parts, request)
    task = await parts.journal.task(task_id)
    if task.state is not State.CANCELLED:
        task = await parts.control.cancel(task_id)
    return JSON((await as_told(parts, task_id, kept)).response(), headers={TASK_ID: task_id})


@operation(answer=DeletedResponse, errors=("not_found",))
@answering
async def delete_response(request: Request) -> Response:
    """DELETE /v1/responses/{id}: remove a response and its task, which is cancelled before."""
    parts = services(request)
    task_id, _ = await _stored(parts, request)
    task = await parts.journal.task(task_id)
    if not task.finished:
        await parts.control.cancel(task_id)
    await parts.control.delete(task_id)
    return JSON({"id": PREFIX + task_id, "object": "response", "deleted": True})


@operation(answer=InputItems, query=ItemsQuery, errors=("not_found",), invalid=400)
@answering
async def response_items(request: Request) -> Response:
    """GET /v1/responses/{id}/input_items: what the response was given, newest first."""
    parts, query = services(request), request.query_params
    task_id, kept = await _stored(parts, request)
    limit = integer(query.get("limit"), "limit", ITEMS_DEFAULT, 1, ITEMS_MOST)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc", param="order")
    found = input_items(kept, task_id)
    return JSON(listed(found if order == "asc" else found[::-1], query.get("after"), limit))


async def _starting_after(parts: Services, given: str | None, task_id: str, kept: Object) -> int:
    """The `sequence_number` that a client has seen last; -1: none. Raises InvalidRequest."""
    if given is None or given == "-1":
        return -1
    last = (await as_told(parts, task_id, kept)).last
    return cursor(given, "starting_after", last)


async def _stored(parts: Services, request: Request) -> tuple[str, Object]:
    """The task of the response in the path, and what was asked. Raises NotFound."""
    wanted = request.path_params["response_id"]
    found = await find(parts, wanted)
    if found is None:
        raise NotFound(f"there is no response {wanted[:80]!r}", param="response_id")
    return found


async def _held(parts: Services, accepted: Accepted, background: bool) -> Held:
    """Hold its task, unless it is in the background.

    The same Idempotency-Key finds the same response; one that was cancelled, as it is when a
    client hangs up and tries again, starts anew.
    """
    task = await parts.journal.task(accepted.task_id)
    anew = accepted.repeated and task.state is State.CANCELLED
    if anew:
        task = await parts.control.retry(task.id)
    return Held(parts, task, mine=not background and (anew or not accepted.repeated))


@operation(answer=InputTokens, body=CountTokens, errors=("illegal_transition",), invalid=400)
@answering
async def input_tokens(request: Request) -> Response:
    """POST /v1/responses/input_tokens: about how many tokens a request would have."""
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        given = {"model": AUTO} | fields.present(await aside(body.as_object, data))
        asked = await with_history(parts, given)
    count = of_prompt(asked.messages, asked.params)
    return JSON({"object": "response.input_tokens", "input_tokens": count})


class Whole:
    """A response when it is done."""

    def __init__(self, held: Held, kept: Object) -> None:
        self._held = held
        self._kept = kept

    async def give(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = self._held
        task, failed = await held.finished()
        headers = held.headers(task.name if task else None)
        if failed is not None:
            answer = failed.response(headers)
        else:
            told_so = await as_told(held.services, held.task_id, self._kept)
            answer = JSON(told_so.response(), headers=headers)
        await answer(scope, receive, send)


class Stream:
    """The events of a response behind the number `after`, until its last."""

    def __init__(self, held: Held, kept: Object, after: int) -> None:
        self._held = held
        self._telling = Telling(held.task_id, kept)
        self._after = after

    async def give(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"} | self._held.headers()
        frames = StreamingResponse(self._frames(), media_type=EVENT_STREAM, headers=headers)
        await frames(scope, _never, send)

    async def _frames(self) -> AsyncIterator[str]:
        with suppress(TaskNotFound):  # it was deleted just before we came to follow it
            async with aclosing(self._held.events((COMMENT_S, COMMENT_S))) as events:
                async for event in events:
                    if event is None:
                        yield self._held.waiting()
                        continue
                    said = self._telling.take(orjson.loads(event.wire))
                    frames = [_frame(one) for one in said if one["sequence_number"] > self._after]
                    if frames:
                        yield "".join(frames)


async def _never() -> Message:
    """Whoever holds the request looks whether its client has left."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets")


def _frame(event: Object) -> str:
    return f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n\n"


ROUTES = [
    resource("/v1/responses", POST=create_response),
    resource("/v1/responses/input_tokens", POST=input_tokens),
    resource("/v1/responses/{response_id}", GET=show_response, DELETE=delete_response),
    resource("/v1/responses/{response_id}/cancel", POST=cancel_response),
    resource("/v1/responses/{response_id}/input_items", GET=response_items),
]
