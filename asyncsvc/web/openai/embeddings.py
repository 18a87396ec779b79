"""`POST /v1/embeddings`.

Owns the shape of the answer: numbers, or base64 of little-endian float32. Promises a vector for
each text, in their order. Never asks a provider for base64: what is stored are numbers.
"""

import struct
from base64 import b64encode
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation
from asyncsvc.web.openai import asking, errors, schemas
from asyncsvc.web.openai.errors import answering
from asyncsvc.web.openai.held_request import Held, PersistedValue, hold
from asyncsvc.web.tasks.routes import services
from asyncsvc.web.tasks.submit import ADMISSION


@operation(
    answer=schemas.Embeddings,
    body=schemas.EmbeddingsBody,
    example={"model": "auto", "input": ["What is HTTP?", "And what is HTTPS?"]},
    headers=schemas.CallHeaders,
    errors=(*ADMISSION, "idempotency_conflict"),
    gives=(errors.TASK_ID,),
    invalid=400,
    fails=errors.statuses(),
)
@answering
async def embeddings(request: Request) -> Response:
    """POST /v1/embeddings: vectors in OpenAI's shape, as a task.

    Hanging up cancels the task.
    """
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        call = asking.embedding(await aside(body.as_object, data), request.headers)
        held = await hold(parts, call, request.scope["owner"], aside)

    async def give(scope: Scope, receive: Receive, send: Send) -> None:
        response = await answered(held, call.base64)
        await response(scope, receive, send)

    return PersistedValue(held, give)


async def answered(held: Held, base64: bool) -> Response:
    """The answer, once the task is finished."""
    task, failed = await held.finished()
    headers = held.headers(task.name if task else None)
    if failed is not None:
        return failed.response(headers)
    assert task is not None
    vectors: list[list[float]] = orjson.loads(
        await held.services.journal.store.result(task.n) or "[]"
    )
    shown: list[Any] = [_packed(vector) for vector in vectors] if base64 else vectors
    data = [
        {"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)
    ]
    used = task.usage or {}
    usage = {name: used.get(name, 0) for name in ("prompt_tokens", "total_tokens")}
    answer = {"object": "list", "data": data, "model": task.name, "usage": usage}
    return JSON(answer, headers=headers)


def _packed(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
