"""Reading a request's body.

Owns the limit on its size and the parsing of JSON. Promises that no more than the limit is
ever held, whether the length was announced or not, and that what it gives can be written as
JSON again and is what was sent. Never validates fields.
"""

import json
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Receive

from asyncsvc.errors import InvalidJson, InvalidRequest, TaskTooLarge

SPARE = 16
"""Levels of nesting that our own answers may add around what a client has sent."""
SHALLOW = 200
"""With fewer brackets than this nothing can be too deep, and the check is left out."""
INT64, UINT64 = -(1 << 63), (1 << 64) - 1
_LONG = b"0" * 19
"""The shortest run of digits that may be a whole number of more than 64 bits."""
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))


async def read(request: Request, limit: int) -> bytes:
    """The body. Raises TaskTooLarge as soon as it is above the limit."""
    announced = request.headers.get("content-length", "")
    return await collect(request.receive, int(announced) if announced.isdigit() else 0, limit)


async def collect(receive: Receive, announced: int, limit: int) -> bytes:
    """The body, as it comes over ASGI; `announced` is its Content-Length, 0 where unknown."""
    if announced > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            # Nobody reads this answer; but a client that leaves is no fault of ours.
            raise InvalidJson("the client left before the body's end")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object."""
    return as_object(await read(request, limit))


def as_object(body: bytes | str) -> dict[str, Any]:
    """Raises InvalidJson, or InvalidRequest where it is JSON but nothing that we can take."""
    data = body.encode() if isinstance(body, str) else body
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    if data.count(b"[") + data.count(b"{") > SHALLOW:
        _check_depth(value)
    if _LONG in data.translate(_DIGITS):
        # orjson makes a float of a larger number, and so another number.
        json.loads(data, parse_int=_fitting)
    return value


def _check_depth(value: dict[str, Any]) -> None:
    """orjson reads more levels than it writes."""
    wrapped: Any = value
    for _ in range(SPARE):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except orjson.JSONEncodeError:
        raise InvalidRequest("the body is nested too deeply") from None


def _fitting(digits: str) -> int:
    if len(digits) > 20 or not INT64 <= int(digits) <= UINT64:
        raise InvalidRequest(f"the number {digits[:40]} does not fit into 64 bits")
    return int(digits)


def _too_large(limit: int) -> TaskTooLarge:
    return TaskTooLarge(f"the body is larger than {limit} bytes")
