"""`/v1/responses`: OpenAI's Responses API, each response being a task.

`resp_<task id>` and the task are the same thing. A response that is not in the background is
cancelled when its client leaves; its stream can be resumed behind any `sequence_number`, by any
client, across restarts. No state is kept between two requests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from asyncsvc.access import Permission
from asyncsvc.errors import InvalidRequest, NotFound
from asyncsvc.providers.tokens import of_prompt
from asyncsvc.storage.entries import ResponseRequest
from asyncsvc.tasks.state import State, Task
from asyncsvc.tasks.trace import of_headers
from asyncsvc.web.http.errors import JSON, check_query
from asyncsvc.web.http.large_answers import Paced, in_parts, room, roomy
from asyncsvc.web.http.resources import caller, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import LIVE
from asyncsvc.web.openai import requests, schemas
from asyncsvc.web.openai.errors import TASK_ID, endpoint, task_endpoint
from asyncsvc.web.openai.held_request import (
    COMMENT_S,
    Held,
    HeldResponse,
    hold,
    once,
    received,
)
from asyncsvc.web.openai.items import input_items
from asyncsvc.web.openai.response_request import (
    CreateResponse,
    find,
    parsed,
    replayed,
    with_history,
)
from asyncsvc.web.openai.response_stream import PREFIX, ResponseEvents
from asyncsvc.web.tasks.routes import cursor, integer

ITEMS_DEFAULT, ITEMS_MOST = 20, 100
EVENT_STREAM = "text/event-stream"
Object = dict[str, Any]


@task_endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.ResponseObject,
    media=("application/json", EVENT_STREAM),
    body=CreateResponse,
    example={"model": "auto", "input": "What is HTTP?"},
)
async def create_response(request: Request) -> Response:
    """POST /v1/responses: a response, whole, streamed, or in the background."""
    parts = services(request)
    async with received(request) as (body, aside):
        wanted, call, asked = await parsed(parts, caller(request), body, request.headers)

        def also(ids: Sequence[str]) -> list[ResponseRequest]:
            return [ResponseRequest(task_id, asked) for task_id in ids]

        background = bool(wanted.background)
        trace = of_headers(request.headers)
        held = await hold(parts, call, caller(request), aside, also, background, trace)
    asked = await parts.journal.store.response_request(held[0].task_id) or asked
    if wanted.stream:
        return HeldResponse(held, _stream(held[0], asked, -1))
    if background:
        return await _shown(parts, held[0].task_id, asked, request.method)
    return HeldResponse(held, once(partial(_answered_with_room, held[0], asked)))


@endpoint(
    scope=Permission.READ,
    answer=schemas.ResponseObject,
    media=("application/json", EVENT_STREAM),
    query=schemas.ResponseQuery,
    errors=("not_found",),
    gives=(TASK_ID,),
)
async def show_response(request: Request) -> Response:
    """GET /v1/responses/{id}: a response as it stands; with `stream=true` its events.

    `starting_after=N` leaves out those up to the `sequence_number` N.
    """
    parts, query = services(request), request.query_params
    check_query(query, schemas.ResponseQuery.__annotations__, None)
    task_id, asked = await _stored(parts, request)
    if query.get("stream", "false").lower() not in ("true", "1"):
        return await _shown(parts, task_id, asked, request.method)
    given, after = query.get("starting_after"), -1
    if given not in (None, "-1"):
        after = cursor(given, "starting_after", (await replayed(parts, task_id, asked)).last)
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers={TASK_ID: task_id})
    held = Held(parts, caller(request), await parts.journal.task(task_id), owned=False)
    return HeldResponse([held], _stream(held, asked, after))


@endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.ResponseObject,
    errors=("not_found", "illegal_transition"),
)
async def cancel_response(request: Request) -> Response:
    """POST /v1/responses/{id}/cancel: end a response; again is the same as once."""
    parts = services(request)
    task_id, asked = await _stored(parts, request)
    task = await parts.journal.task(task_id)
    if task.state is not State.CANCELLED:
        task = await parts.control.cancel(task_id)
    return await _shown(parts, task_id, asked, request.method)


@endpoint(scope=Permission.SUBMIT, answer=schemas.DeletedResponse, errors=("not_found",))
async def delete_response(request: Request) -> Response:
    """DELETE /v1/responses/{id}: remove a response and its task, which is cancelled before."""
    parts = services(request)
    task_id, _ = await _stored(parts, request)
    task = await parts.journal.task(task_id)
    if not task.finished:
        await parts.control.cancel(task_id)
    await parts.control.delete(task_id)
    return JSON({"id": PREFIX + task_id, "object": "response", "deleted": True})


@endpoint(
    scope=Permission.READ,
    answer=schemas.InputItems,
    query=schemas.ItemsQuery,
    errors=("not_found",),
)
async def response_items(request: Request) -> Response:
    """GET /v1/responses/{id}/input_items: the input of the response, newest first."""
    parts, query = services(request), request.query_params
    check_query(query, schemas.ItemsQuery.__annotations__, None)
    task_id, asked = await _stored(parts, request)
    limit = integer(query.get("limit"), "limit", ITEMS_DEFAULT, 1, ITEMS_MOST)
    found = input_items(asked, task_id)
    if not requests.ascending(query.get("order")):
        found = found[::-1]
    if (after := query.get("after")) is not None:
        ids = [item["id"] for item in found]
        if after not in ids:
            raise InvalidRequest(
                f"after: {after[:80]!r} is not one of our cursors: this list has no such id",
                param="after",
            )
        found = found[ids.index(after) + 1 :]
    return JSON(schemas.listed(found, limit))


@endpoint(
    scope=Permission.READ,
    answer=schemas.InputTokens,
    body=schemas.CountTokens,
    errors=("illegal_transition",),
    example={"input": "How many tokens is this?"},
)
async def input_tokens(request: Request) -> Response:
    """POST /v1/responses/input_tokens: about how many tokens a request would have."""
    async with received(request) as (body, _):
        given = {"model": requests.AUTO} | requests.present(body)
        found = await with_history(services(request), caller(request), given)
    count = of_prompt(found.messages, found.params)
    return JSON({"object": "response.input_tokens", "input_tokens": count})


async def answered(held: Held, request: Object) -> Response:
    """The response of a task, once it is finished."""
    task, failed = await held.finished()
    headers = held.headers(task.name if task else None)
    if failed is not None:
        return failed.response(headers)
    return await _response(held.services, held.task_id, request, headers)


async def _answered_with_room(held: Held, request: Object) -> Response:
    """The same as `answered`; a large response has room until it is sent."""
    task, failed = await held.finished()
    headers = held.headers(task.name if task else None)
    if failed is not None:
        return failed.response(headers)
    assert task is not None
    make = partial(_response, held.services, held.task_id, request, headers)
    return await _with_room(held.services, task, "POST", make)


async def _shown(parts: Services, task_id: str, request: Object, method: str) -> Response:
    """The response so far."""
    task = await parts.journal.task(task_id)
    make = partial(_response, parts, task_id, request, {TASK_ID: task_id})
    return await _with_room(parts, task, method, make)


async def _with_room(
    parts: Services, task: Task, method: str, make: Callable[[], Awaitable[Response]]
) -> Response:
    volume = await parts.journal.store.texts.volume(task.n)
    return await roomy(parts.answers, volume, method, make)


async def _response(
    parts: Services, task_id: str, request: Object, headers: Mapping[str, str]
) -> Response:
    """The response up to the last event of its task."""
    events = await replayed(parts, task_id, request)
    return JSON(events.response(), headers=headers)


async def _stored(parts: Services, request: Request) -> tuple[str, Object]:
    """(the task's id, the stored request) of the response in the path. Raises NotFound."""
    wanted = request.path_params["response_id"]
    found = await find(parts, caller(request), wanted)
    if found is None:
        raise NotFound(f"there is no response {wanted[:80]!r}", param="response_id")
    return found


def _stream(held: Held, request: Object, after: int) -> ASGIApp:
    """An ASGI application that sends the response's events behind the `sequence_number` `after`."""

    async def frames() -> AsyncIterator[bytes]:
        events, answers = ResponseEvents(held.task_id, request), held.services.answers
        journal, chars, kind = held.events((COMMENT_S, COMMENT_S), replay=True), 0, ""
        try:
            async for event in journal:
                if event is None:
                    yield held.waiting().encode()
                    continue
                chars += len(event.text)
                # The end of an item repeats all of its text, four times at the end of the answer.
                long = chars if event.type != kind else len(event.text)
                kind = event.type
                async with room(answers, long):
                    new = events.take(orjson.loads(event.wire))
                    sent = [_frame(one) for one in new if one["sequence_number"] > after]
                    if sent:
                        yield "".join(sent).encode()
        finally:
            await journal.aclose()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = LIVE | held.headers()
        parts = in_parts(frames())
        streamed = StreamingResponse(parts, media_type=EVENT_STREAM, headers=headers)
        # `HeldResponse` looks whether the client leaves.
        await streamed.stream_response(Paced(send))

    return application


def _frame(event: Object) -> str:
    return f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n\n"


ROUTES = [
    resource("/v1/responses", POST=create_response),
    resource("/v1/responses/input_tokens", POST=input_tokens),
    resource("/v1/responses/{response_id}", GET=show_response, DELETE=delete_response),
    resource("/v1/responses/{response_id}/cancel", POST=cancel_response),
    resource("/v1/responses/{response_id}/input_items", GET=response_items),
]
