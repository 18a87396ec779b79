"""Reading a request's body.

Owns the limit on its size and the parsing of JSON. Promises that no more than the limit is
ever held, whether the length was announced or not. Never validates fields.
"""

from typing import Any

import orjson
from starlette.requests import Request

from asyncsvc.errors import InvalidJson, InvalidRequest, TaskTooLarge


async def read(request: Request, limit: int) -> bytes:
    """The body. Raises TaskTooLarge as soon as it is above the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object."""
    return as_object(await read(request, limit))


def as_object(body: bytes | str) -> dict[str, Any]:
    """Raises InvalidJson, or InvalidRequest where it is JSON but no object."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


def _too_large(limit: int) -> TaskTooLarge:
    return TaskTooLarge(f"the body is larger than {limit} bytes")
