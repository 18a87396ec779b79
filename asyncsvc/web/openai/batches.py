"""`/v1/batches`: the lines of a file as tasks, their answers as a file.

Owns the routes and OpenAI's shape of a batch. Never runs anything.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.errors import InvalidRequest
from asyncsvc.storage.entries import EXPIRING, Batch
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.openai import fields, schemas
from asyncsvc.web.openai.errors import answering
from asyncsvc.web.tasks.routes import integer, services
from asyncsvc.web.tasks.schemas import SubmitHeaders
from asyncsvc.web.tasks.submit import idempotency_key

ENDPOINTS = ("/v1/chat/completions", "/v1/embeddings", "/v1/responses")
WINDOW = "24h"
BODY_MOST = 64 * 1024
LIST_DEFAULT, LIST_MOST = 20, 100
PAIRS_MOST, NAME_MOST, VALUE_MOST = 16, 64, 512
HEADERS = ("x-lane", "x-priority", "x-session-id")
Object = dict[str, Any]


@operation(
    answer=schemas.BatchObject,
    body=schemas.BatchBody,
    example={
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": WINDOW,
    },
    headers=SubmitHeaders,
    errors=("not_found", "queue_full", "idempotency_conflict"),
    invalid=400,
)
@answering
async def create_batch(request: Request) -> Response:
    """POST /v1/batches: make each line of a file a task.

    `x-lane`, `x-priority` and `x-session-id` are for all of them; without, they wait in `long`.
    """
    parts = services(request)
    async with body.ReceivedBody(request, BODY_MOST, parts.bodies) as (data, _):
        given = body.as_object(data)
    endpoint = given.pop("endpoint", None)
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(f"endpoint must be one of {', '.join(ENDPOINTS)}", param="endpoint")
    if given.pop("completion_window", None) != WINDOW:
        raise InvalidRequest(f"completion_window must be {WINDOW}", param="completion_window")
    file_id = given.pop("input_file_id", None)
    if not isinstance(file_id, str) or not file_id:
        raise InvalidRequest("input_file_id must be a file's id", param="input_file_id")
    metadata = _metadata(given.pop("metadata", None))
    if given:
        name = min(given)
        raise InvalidRequest(f"{name!r} is not a field of a batch", param=name)
    headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
    fields.queued({}, request.headers)  # a wrong priority is told now, not with every line
    owner, key = request.scope["owner"], idempotency_key(request.headers)
    batch = await parts.batches.create(endpoint, file_id, metadata, headers, owner, key)
    return JSON(shown(batch))


@operation(answer=schemas.BatchList, query=schemas.PageQuery, invalid=400)
@answering
async def list_batches(request: Request) -> Response:
    """GET /v1/batches: the batches, newest first."""
    query = request.query_params
    limit = integer(query.get("limit"), "limit", LIST_DEFAULT, 1, LIST_MOST)
    found = await services(request).batches.page(query.get("after"), limit + 1)
    page = [shown(batch) for batch in found[:limit]]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    answer = {"object": "list", "data": page, "first_id": first, "last_id": last}
    return JSON(answer | {"has_more": len(found) > limit})


@operation(answer=schemas.BatchObject, errors=("not_found",))
@answering
async def show_batch(request: Request) -> Response:
    """GET /v1/batches/{id}: how far it is."""
    return JSON(shown(await services(request).batches.get(request.path_params["batch_id"])))


@operation(answer=schemas.BatchObject, errors=("not_found", "illegal_transition"))
@answering
async def cancel_batch(request: Request) -> Response:
    """POST /v1/batches/{id}/cancel: end it; what is done stays in its files."""
    return JSON(shown(await services(request).batches.cancel(request.path_params["batch_id"])))


def shown(batch: Batch) -> Object:
    """A batch as OpenAI shows it."""
    ended = batch.state in ("completed", "cancelled", "expired", "failed")
    output, errors = (
        file_id if size and ended else None
        for file_id, size in zip(batch.files, batch.written, strict=True)
    )
    times = {
        f"{state}_at": None if (at := batch.times.get(state)) is None else at // 1000
        for state in (
            "in_progress", "finalizing", "completed", "failed", "expired", "cancelling",
            "cancelled",
        )
    }  # fmt: skip
    return times | {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": WINDOW,
        "status": "in_progress" if batch.state == EXPIRING else batch.state,
        "output_file_id": output,
        "error_file_id": errors,
        "created_at": batch.created_at // 1000,
        "expires_at": batch.expires_at // 1000,
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": batch.metadata,
    }


def _metadata(given: Any) -> dict[str, str] | None:
    """As OpenAI limits it: 16 pairs of short strings."""
    if given is None:
        return None
    if (
        not isinstance(given, dict)
        or len(given) > PAIRS_MOST
        or not all(isinstance(value, str) and len(value) <= VALUE_MOST for value in given.values())
        or not all(len(name) <= NAME_MOST for name in given)
    ):
        raise InvalidRequest(
            f"metadata must be at most {PAIRS_MOST} pairs of strings, names up to {NAME_MOST} "
            f"and values up to {VALUE_MOST} characters long",
            param="metadata",
        )
    return given


ROUTES = [
    resource("/v1/batches", GET=list_batches, POST=create_batch),
    resource("/v1/batches/{batch_id}", GET=show_batch),
    resource("/v1/batches/{batch_id}/cancel", POST=cancel_batch),
]
