"""`/v1/batches`: the lines of a file as tasks, their answers as a file.

A line is parsed, refused and answered as the same request to its endpoint is: `endpoints` gives
the runner of batches the way from a line to a task and from a task to an answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import SERVICE, Caller, Permission
from asyncsvc.batches.lines import Answered, BatchEndpoint, Prepared
from asyncsvc.errors import InvalidRequest, RequestError, TaskNotFound
from asyncsvc.storage.entries import EXPIRING, Batch, ResponseRequest
from asyncsvc.tasks.state import State
from asyncsvc.web.http.body import ReceivedBody, as_object
from asyncsvc.web.http.errors import JSON, check_names, check_query
from asyncsvc.web.http.resources import caller, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.openai import chat, embeddings, requests, responses, schemas
from asyncsvc.web.openai.errors import endpoint, refusal
from asyncsvc.web.openai.held_request import Held
from asyncsvc.web.openai.response_request import parsed
from asyncsvc.web.tasks.routes import idempotency_key, integer, parse_as
from asyncsvc.web.tasks.schemas import SubmitHeaders

BODY_MOST = 64 * 1024
LIST_DEFAULT, LIST_MOST = 20, 100
HEADERS = ("x-lane", "x-priority", "x-session-id")
LANE = "long"
BASE64 = "base64"
Object = dict[str, Any]
Parse = Callable[[Services, Caller, Object, Headers], Awaitable[Prepared]]
"""Makes a task of the body of a caller's line. Raises RequestError."""
Answering = Callable[[Held, str | None], Awaitable[Response]]
"""The answer of a task in a form of `Prepared.form`."""


@endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.BatchObject,
    body=schemas.BatchBody,
    example={
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    },
    headers=SubmitHeaders,
    errors=("not_found", "queue_full", "idempotency_conflict"),
)
async def create_batch(request: Request) -> Response:
    """POST /v1/batches: make each line of a file a task.

    `x-lane`, `x-priority` and `x-session-id` are for all of them; without, they wait in `long`.
    """
    parts = services(request)
    async with ReceivedBody(request, BODY_MOST, parts.bodies) as (data, _):
        given = as_object(data)
    check_names(given, schemas.BatchBody.model_fields, "field of a batch")
    wanted = parse_as(schemas.BatchBody, given)
    headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
    requests.queued({}, request.headers)  # a wrong priority fails now, not with every line
    key = idempotency_key(request.headers)
    batch = await parts.batches.create(
        wanted.endpoint, wanted.input_file_id, wanted.metadata, headers, caller(request), key
    )
    return JSON(shown(batch))


@endpoint(scope=Permission.READ, answer=schemas.BatchList, query=schemas.PageQuery)
async def list_batches(request: Request) -> Response:
    """GET /v1/batches: the batches, newest first."""
    query = request.query_params
    check_query(query, schemas.PageQuery.__annotations__, None)
    limit = integer(query.get("limit"), "limit", LIST_DEFAULT, 1, LIST_MOST)
    found = await services(request).batches.page(caller(request), query.get("after"), limit + 1)
    return JSON(schemas.listed([shown(batch) for batch in found], limit))


@endpoint(scope=Permission.READ, answer=schemas.BatchObject, errors=("not_found",))
async def show_batch(request: Request) -> Response:
    """GET /v1/batches/{id}: how far it is."""
    batches, batch_id = services(request).batches, request.path_params["batch_id"]
    return JSON(shown(await batches.get(caller(request), batch_id)))


@endpoint(
    scope=Permission.SUBMIT, answer=schemas.BatchObject, errors=("not_found", "illegal_transition")
)
async def cancel_batch(request: Request) -> Response:
    """POST /v1/batches/{id}/cancel: end it; what is done stays in its files."""
    batches, batch_id = services(request).batches, request.path_params["batch_id"]
    return JSON(shown(await batches.cancel(caller(request), batch_id)))


def shown(batch: Batch) -> schemas.BatchObject:
    """A batch in OpenAI's shape."""
    ended = batch.state in ("completed", "cancelled", "expired", "failed")
    output, errors = (
        file_id if size and ended else None
        for file_id, size in zip(batch.files, batch.written, strict=True)
    )

    def at(state: str) -> int | None:
        return None if (time := batch.times.get(state)) is None else time // 1000

    status: Any = "in_progress" if batch.state == EXPIRING else batch.state
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": status,
        "output_file_id": output,
        "error_file_id": errors,
        "created_at": batch.created_at // 1000,
        "in_progress_at": at("in_progress"),
        "expires_at": batch.expires_at // 1000,
        "finalizing_at": at("finalizing"),
        "completed_at": at("completed"),
        "failed_at": at("failed"),
        "expired_at": at("expired"),
        "cancelling_at": at("cancelling"),
        "cancelled_at": at("cancelled"),
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": batch.metadata,
    }


class Endpoint:
    """`BatchEndpoint` for one endpoint of `/v1`."""

    def __init__(self, services: Services, parse: Parse, answered: Answering) -> None:
        self._services = services
        self._parse = parse
        self._answered = answered

    async def prepare(self, body: Object, headers: dict[str, str], owner: str | None) -> Prepared:
        # A line waits in the lane for long work unless it names another, and for as long as its
        # batch: no client is there who could call again.
        line, author = {"lane": LANE} | body, self._services.clients.of(owner)
        prepared = await self._parse(self._services, author, line, Headers(headers))
        submission = prepared.submission.model_copy(update={"max_wait_s": None})
        return replace(prepared, submission=submission)

    def refused(self, error: RequestError) -> Answered:
        failure = refusal(error)
        return Answered(failure.status, failure.body())

    async def answer(self, task_id: str, form: str | None) -> Answered:
        try:
            task = await self._services.journal.task(task_id)
        except TaskNotFound as gone:
            return self.refused(gone)
        response = await self._answered(Held(self._services, SERVICE, task, owned=False), form)
        body = orjson.loads(bytes(response.body))
        return Answered(response.status_code, body, task_id, task.state is State.CANCELLED)


async def _parse_chat(_: Services, __: Caller, body: Object, headers: Headers) -> Prepared:
    call = requests.chat(body, headers)
    _refuse("stream", call.stream)
    return Prepared(call.submissions[0])


async def _parse_embeddings(_: Services, __: Caller, body: Object, headers: Headers) -> Prepared:
    call = requests.embedding(body, headers)
    return Prepared(call.submissions[0], BASE64 if call.base64 else None)


async def _parse_response(
    services: Services, author: Caller, body: Object, headers: Headers
) -> Prepared:
    wanted, call, request = await parsed(services, author, body, headers)
    _refuse("stream", wanted.stream)
    _refuse("background", wanted.background)
    return Prepared(call.submissions[0], beside=lambda task_id: ResponseRequest(task_id, request))


def _refuse(name: str, given: bool | None) -> None:
    if given:
        raise InvalidRequest(f"{name} means nothing in a batch", param=name)


async def _response(held: Held, form: str | None) -> Response:
    request = await held.services.journal.store.response_request(held.task_id) or {"model": ""}
    return await responses.answered(held, request)


def endpoints(services: Services) -> Mapping[str, BatchEndpoint]:
    """The endpoints of batches by their paths, for the runner of batches."""
    return {
        "/v1/chat/completions": Endpoint(
            services, _parse_chat, lambda held, form: chat.answered(held)
        ),
        "/v1/embeddings": Endpoint(
            services,
            _parse_embeddings,
            lambda held, form: embeddings.answered(held, form == BASE64),
        ),
        "/v1/responses": Endpoint(services, _parse_response, _response),
    }


ROUTES = [
    resource("/v1/batches", GET=list_batches, POST=create_batch),
    resource("/v1/batches/{batch_id}", GET=show_batch),
    resource("/v1/batches/{batch_id}/cancel", POST=cancel_batch),
]
