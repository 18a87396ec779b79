"""`POST /v1/embeddings`: a vector for each text, in their order.

Vectors are sent as numbers, or as base64 of little-endian float32. Numbers are stored: a provider
is never asked for base64.
"""

import struct
from base64 import b64encode
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import resource
from asyncsvc.web.openai import requests, schemas
from asyncsvc.web.openai.errors import task_endpoint
from asyncsvc.web.openai.held_request import Held, HeldResponse, once, submitted


@task_endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.Embeddings,
    body=schemas.EmbeddingsBody,
    example={"model": "auto", "input": ["What is HTTP?", "And what is HTTPS?"]},
)
async def embeddings(request: Request) -> Response:
    """POST /v1/embeddings: vectors in OpenAI's shape, as a task.

    Hanging up cancels the task.
    """
    call, held = await submitted(request, requests.embedding)
    return HeldResponse(held, once(partial(answered, held[0], call.base64)))


async def answered(held: Held, base64: bool) -> Response:
    """The vectors of a task, once it is finished."""
    task, failed = await held.finished()
    headers = held.headers(task.name if task else None)
    if failed is not None:
        return failed.response(headers)
    assert task is not None
    stored = await held.services.journal.store.result(task.n)
    vectors: list[list[float]] = orjson.loads(stored or "[]")
    used = task.usage or {}
    answer: schemas.Embeddings = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if base64 else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": task.name or "",
        "usage": {name: used.get(name, 0) for name in ("prompt_tokens", "total_tokens")},
    }
    return JSON(answer, headers=headers)


def _packed(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


ROUTES = [resource("/v1/embeddings", POST=embeddings)]
