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
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from asyncsvc.errors import AsyncsvcError, Conflict, InvalidRequest, NotFound, TaskNotFound
from asyncsvc.tasks.asked import asked, asking
from asyncsvc.tasks.task import State, Task
from asyncsvc.web import body, errors
from asyncsvc.web.api import house, integer
from asyncsvc.web.errors import JSON
from asyncsvc.web.operations import operation
from asyncsvc.web.resources import resource
from asyncsvc.web.state import House
from asyncsvc.web.submit import ADMISSION
from asyncsvc.web.v1 import asking as fields
from asyncsvc.web.v1.errors import TASK_ID, answering, failure, of_task
from asyncsvc.web.v1.items import CreateResponse, Messages, chat_messages, input_items
from asyncsvc.web.v1.response_stream import PREFIX, Telling

KEEP_ALIVE_S = 10.0
"""Between two comments to a client that has nothing to read."""
ITEMS_DEFAULT, ITEMS_MOST = 20, 100
EVENT_STREAM = "text/event-stream"
Object = dict[str, Any]


@operation(
    answer=Object,
    media=("application/json", EVENT_STREAM),
    body=CreateResponse,
    example={"model": "auto", "input": "What is HTTP?"},
    errors=(*ADMISSION, "idempotency_conflict"),
    gives=(TASK_ID,),
)
@answering
async def create(request: Request) -> Response:
    """POST /v1/responses: a response, whole, streamed, or in the background."""
    parts = house(request)
    given = await body.read_object(request, parts.settings.queue.max_task_bytes)
    queued = fields.queued(given, request.headers)
    if "metadata" in queued:
        given["metadata"] = queued["metadata"]
    wanted = parse(given)
    if wanted.background and wanted.store is False:
        raise InvalidRequest("a background response needs store: true", param="store")
    messages = wanted.messages(await _earlier(parts, wanted.previous_response_id))
    submission = fields.submission(
        fields.named(wanted.model) | {"messages": messages, "params": wanted.params()} | queued
    )
    kept = wanted.model_dump(exclude_none=True, exclude={"stream", "stream_options"})
    accepted = await parts.intake.submit(
        submission,
        request.scope["owner"],
        fields.key(request.headers),
        lambda ids: [asking(task_id, kept) for task_id in ids],
    )
    task_id = accepted.task_id
    kept = await asked(parts.journal.store, task_id) or kept
    headers = {TASK_ID: task_id}
    if wanted.stream:
        return _Stream(parts, task_id, kept, -1, cancels=not wanted.background)
    if wanted.background:
        return JSON((await told(parts, task_id, kept)).response(), headers=headers)
    return await _whole(request, parts, task_id, kept)


@operation(
    answer=Object,
    media=("application/json", EVENT_STREAM),
    errors=("not_found",),
    gives=(TASK_ID,),
)
@answering
async def retrieve(request: Request) -> Response:
    """GET /v1/responses/{id}: a response as it stands; with `stream=true` its events.

    `starting_after=N` leaves out those up to the `sequence_number` N.
    """
    parts, query = house(request), request.query_params
    task_id, kept = await _stored(parts, request)
    headers = {TASK_ID: task_id}
    if query.get("stream", "false").lower() not in ("true", "1"):
        return JSON((await told(parts, task_id, kept)).response(), headers=headers)
    after = integer(query.get("starting_after"), "starting_after", -1, -1, None)
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers=headers)
    return _Stream(parts, task_id, kept, after, cancels=False)


@operation(answer=Object, errors=("not_found", "illegal_transition"))
@answering
async def cancel(request: Request) -> Response:
    """POST /v1/responses/{id}/cancel: end a response; again is the same as once."""
    parts = house(request)
    task_id, kept = await _stored(parts, request)
    task = await parts.journal.task(task_id)
    if task.state is not State.CANCELLED:
        task = await parts.control.cancel(task_id)
    return JSON((await told(parts, task_id, kept)).response(), headers={TASK_ID: task_id})


@operation(answer=Object, errors=("not_found",))
@answering
async def delete(request: Request) -> Response:
    """DELETE /v1/responses/{id}: remove a response and its task, which is cancelled before."""
    parts = house(request)
    task_id, _ = await _stored(parts, request)
    task = await parts.journal.task(task_id)
    if not task.finished:
        await parts.control.cancel(task_id)
    await parts.control.delete(task_id)
    return JSON({"id": PREFIX + task_id, "object": "response", "deleted": True})


@operation(answer=Object, errors=("not_found",))
@answering
async def items(request: Request) -> Response:
    """GET /v1/responses/{id}/input_items: what the response was given, newest first."""
    parts, query = house(request), request.query_params
    task_id, kept = await _stored(parts, request)
    limit = integer(query.get("limit"), "limit", ITEMS_DEFAULT, 1, ITEMS_MOST)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc", param="order")
    found = input_items(kept, task_id)
    return JSON(listed(found if order == "asc" else found[::-1], query.get("after"), limit))


def listed(found: list[Object], after: str | None, limit: int) -> Object:
    """A page of a list in OpenAI's shape. Raises InvalidRequest."""
    if after:
        places = [index for index, one in enumerate(found) if one["id"] == after]
        if not places:
            raise InvalidRequest(f"after names nothing in this list: {after[:80]!r}", param="after")
        found = found[places[0] + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


def parse(given: Object) -> CreateResponse:
    """Raises InvalidRequest."""
    try:
        return CreateResponse.model_validate(given)
    except ValidationError as error:
        fault = errors.invalid(error)
        raise InvalidRequest(
            str(fault).replace("a field of a task", "a field that is known here"), param=fault.param
        ) from None


async def told(parts: House, task_id: str, kept: Object) -> Telling:
    """The response as far as its journal goes now."""
    task, telling = await parts.journal.task(task_id), Telling(task_id, kept)
    seq, store = 0, parts.journal.store
    while rows := await store.events(task.n, seq):
        for row in rows:
            telling.take(orjson.loads(row.event(task_id).wire))
        seq = rows[-1].seq
    return telling


async def _stored(parts: House, request: Request) -> tuple[str, Object]:
    """The task of the response in the path, and what was asked. Raises NotFound."""
    wanted = request.path_params["response_id"]
    found = await _find(parts, wanted)
    if found is None:
        raise NotFound(f"there is no response {wanted[:80]!r}", param="response_id")
    return found


async def _find(parts: House, wanted: str) -> tuple[str, Object] | None:
    if not wanted.startswith(PREFIX):
        return None
    task_id = wanted.removeprefix(PREFIX)
    kept = await asked(parts.journal.store, task_id)
    return None if kept is None or kept.get("store") is False else (task_id, kept)


async def _earlier(parts: House, previous: str | None) -> Messages:
    """What was said up to a response, its instructions left out. Raises InvalidRequest."""
    if previous is None:
        return []
    where = "previous_response_id"
    found = await _find(parts, previous)
    if found is None:
        raise InvalidRequest(f"there is no response {previous[:80]!r}", param=where)
    task_id, kept = found
    task = await parts.journal.task(task_id)
    if task.state is not State.COMPLETED:
        raise Conflict(
            "illegal_transition", f"{previous} is {task.state.value}: only a completed one goes on"
        )
    messages: Messages = orjson.loads(await parts.journal.store.body(task.n))["messages"]
    head = 0 if kept.get("instructions") is None else 1
    output = (await told(parts, task_id, kept)).response()["output"]
    return messages[head:] + chat_messages(output)


async def _whole(request: Request, parts: House, task_id: str, kept: Object) -> Response:
    """Wait for the end of a response, and end it where its client leaves before."""
    waits = asyncio.ensure_future(_finished(parts, task_id))
    left = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({waits, left}, return_when=asyncio.FIRST_COMPLETED)
        if not waits.done():
            await _cancel(parts, task_id)
            return Response(status_code=499)  # nobody reads it
    finally:
        for step in (waits, left):
            step.cancel()
        await asyncio.gather(waits, left, return_exceptions=True)
    headers, task = {TASK_ID: task_id}, waits.result()
    if task is None:
        return failure("cancelled", f"task {task_id} was deleted").response(headers)
    if not task.finished:
        again = f"the service is stopping; task {task_id} goes on after its start"
        return failure("shutting_down", again).response(headers)
    if task.state is not State.COMPLETED:
        return of_task(task).response(headers)
    return JSON((await told(parts, task_id, kept)).response(), headers=headers)


async def _finished(parts: House, task_id: str) -> Task | None:
    """The task when there is nothing more to hear of it; None where it was deleted."""
    try:
        task = await parts.journal.task(task_id)
        async with aclosing(parts.journal.follow(task_id, task.seq)) as pages:
            async for _ in pages:
                pass
        return await parts.journal.task(task_id)
    except TaskNotFound:
        return None


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel(parts: House, task_id: str) -> None:
    """Its client has left. That it has ended meanwhile is no fault."""
    with suppress(AsyncsvcError):
        await parts.control.cancel(task_id)


class _Stream(StreamingResponse):
    """The response's events behind the number `after`, until its last.

    `cancels`: where its client leaves before, the response is cancelled.
    """

    def __init__(self, parts: House, task_id: str, kept: Object, after: int, cancels: bool) -> None:
        self._parts = parts
        self._task_id = task_id
        self._kept = kept
        self._after = after
        self._cancels = cancels
        headers = {TASK_ID: task_id, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._frames(), media_type=EVENT_STREAM, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._cancels:
                await _cancel(self._parts, self._task_id)

    async def _frames(self) -> AsyncIterator[str]:
        telling = Telling(self._task_id, self._kept)
        async with aclosing(self._parts.journal.follow(self._task_id)) as pages:
            ask = asyncio.ensure_future(anext(pages, None))
            try:
                while True:
                    await asyncio.wait({ask}, timeout=KEEP_ALIVE_S)
                    if not ask.done():
                        yield ": \n\n"
                        continue
                    if (page := ask.result()) is None:
                        break
                    ask = asyncio.ensure_future(anext(pages, None))
                    said = [one for e in page for one in telling.take(orjson.loads(e.wire))]
                    frames = [_frame(one) for one in said if one["sequence_number"] > self._after]
                    if frames:
                        yield "".join(frames)
            except TaskNotFound:
                pass  # it was deleted just before we came to follow it
            finally:
                ask.cancel()
                await asyncio.gather(ask, return_exceptions=True)
        # To its end, or the service stops: then the task goes on after the next start.
        self._cancels = False


def _frame(event: Object) -> str:
    return f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n\n"


ROUTES = [
    resource("/v1/responses", POST=create),
    resource("/v1/responses/{response_id}", GET=retrieve, DELETE=delete),
    resource("/v1/responses/{response_id}/cancel", POST=cancel),
    resource("/v1/responses/{response_id}/input_items", GET=items),
]
