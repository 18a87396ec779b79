"""Request bodies: reading within a size limit, inflating (RFC 9110, 8.4), parsing JSON.

No more than the limit is ever in memory, whether the length was announced or not and however
little a compressed body has; a large body waits for memory (`body_memory`) before it is read.
A parsed value can be written as JSON again. An unknown encoding is refused with 415.
"""

import asyncio
import json
import zlib
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Receive

from asyncsvc.errors import (
    InvalidJson,
    InvalidRequest,
    RequestTimeout,
    TaskTooLarge,
    UnsupportedEncoding,
)
from asyncsvc.intake.admission import Aside, at_once
from asyncsvc.net.json_bounds import digits_at
from asyncsvc.web.http import json_size as structure
from asyncsvc.web.http.body_memory import SMALL, Bodies, Hold
from asyncsvc.web.http.json_size import LONG, SHALLOW

GZIP, DEFLATE = "gzip", "deflate"
KNOWN = {"gzip": GZIP, "x-gzip": GZIP, "deflate": DEFLATE}
MEMBERS_MOST = 16
"""A gzip body may be several, one behind the other; each costs a copy of what follows it."""
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


def coding(values: Iterable[str]) -> str | None:
    """How a body with these `Content-Encoding` lines is compressed; None where it is not. Raises
    UnsupportedEncoding."""
    words = [word.strip().lower() for value in values for word in value.split(",")]
    words = [word for word in words if word not in ("", "identity")]
    if not words:
        return None
    if len(words) > 1 or words[0] not in KNOWN:
        raise UnsupportedEncoding(
            f"Content-Encoding {', '.join(words)[:80]!r} is not known; known: gzip, deflate",
            param="Content-Encoding",
        )
    return KNOWN[words[0]]


class Inflater:
    """One compressed body; `more` gives what comes out, piece by piece."""

    def __init__(self, data: bytes, encoding: str) -> None:
        self._encoding = encoding
        self._bits = _bits(data, encoding)
        self._stream = zlib.decompressobj(self._bits)
        self._left = data
        self._members = 1
        self.ended = False

    def more(self, most: int) -> bytes:
        """Up to so many bytes; `ended` says whether these were the last. Raises InvalidJson for
        what is not compressed in that way, or is cut off."""
        found = bytearray()
        try:
            while len(found) < most and not self.ended:
                self._step(found, most)
        except zlib.error as error:
            raise self._broken(str(error)) from None
        return bytes(found)

    def _step(self, found: bytearray, most: int) -> None:
        stream = self._stream
        part = stream.decompress(self._left, most - len(found))
        found += part
        self._left = stream.unconsumed_tail
        if not stream.eof:
            if not part and not self._left:
                raise self._broken("it is cut off")
            return
        rest = stream.unused_data
        if not rest:
            self.ended = True
        elif self._encoding != GZIP or self._members == MEMBERS_MOST:
            raise self._broken("something follows its end")
        else:
            self._members += 1
            self._stream, self._left = zlib.decompressobj(self._bits), rest

    def _broken(self, why: str) -> InvalidJson:
        return InvalidJson(f"the body is not valid {self._encoding}: {why}")


def _bits(data: bytes, encoding: str) -> int:
    """The window bits for zlib; under the name deflate some send a stream without zlib's head."""
    if encoding == GZIP:
        return _GZIP_BITS
    framed = len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
    return _ZLIB_BITS if framed else _RAW_BITS


BOM = b"\xef\xbb\xbf"
"""A byte order mark, which some programs write before UTF-8; JSON has none (RFC 8259, 8.1)."""
NO_MEMORY = "memory"
"""In what orjson says of a text for which it was given none; none of its other words has it."""
SPARE = 16
"""Levels of nesting that our own answers may add around what a client has sent."""
GRACE_S = 20.0
LEAST_RATE = 64 * 1024
"""Bytes a second that a body must come at after the grace, as it holds the room of others."""


class ClientLeft(InvalidJson):
    """No client reads the answer; but a client that leaves is no fault of ours."""


Body = tuple[bytes, Hold | None]
"""A body, and the room that it holds where it is large: its receiver releases it."""


async def collect(receive: Receive, announced: int, limit: int, bodies: Bodies) -> Body:
    """The body, as it comes over ASGI; `announced` is its Content-Length, 0 where unknown.

    Raises TaskTooLarge as soon as it is above the limit, Overloaded where there is no room,
    RequestTimeout where it comes too slowly.
    """
    if announced > SMALL or announced > limit:
        if announced > limit:
            raise _too_large(limit)
        return await _collect_large(receive, bytearray(), announced, limit, bodies)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft("the client left before the body's end")
    data: bytes = message.get("body", b"")
    if len(data) <= SMALL and len(data) <= limit and not message.get("more_body", False):
        return data, None  # as nearly all do
    gathered, most = bytearray(data), min(SMALL, limit)
    while message.get("more_body", False) and len(gathered) <= most:
        message = await _next(receive)
        gathered += message.get("body", b"")
    if len(gathered) > limit:
        raise _too_large(limit)
    if len(gathered) <= most:
        return bytes(gathered), None
    if not message.get("more_body", False):
        return bytes(gathered), await bodies.hold(len(gathered))
    # Its length is unknown: there must be room for the largest.
    return await _collect_large(receive, gathered, limit, limit, bodies)


async def _collect_large(
    receive: Receive, gathered: bytearray, expected: int, limit: int, bodies: Bodies
) -> Body:
    """The rest, with room for all that is expected."""
    hold = await bodies.hold(expected)
    try:
        async with asyncio.timeout(GRACE_S + expected / LEAST_RATE):
            more = True
            while more:
                message = await _next(receive)
                gathered += message.get("body", b"")
                if len(gathered) > limit:
                    raise _too_large(limit)
                more = message.get("more_body", False)
    except BaseException as error:
        hold.release()
        if isinstance(error, TimeoutError):
            raise RequestTimeout("the body came too slowly") from None
        raise
    hold.shrink(min(hold.size, len(gathered)))
    return bytes(gathered), hold


async def _next(receive: Receive) -> Any:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft("the client left before the body's end")
    return message


class ReceivedBody:
    """The body of a request: `async with ReceivedBody(request, limit, bodies) as (data, aside)`.

    `data` is the whole body, inflated; `aside` runs a function on it, in a thread where it is
    large. The memory of a large body is given back at the end of the block. Entering raises what
    `collect` raises, and UnsupportedEncoding.
    """

    __slots__ = ("_bodies", "_hold", "_limit", "_request")

    def __init__(self, request: Request, limit: int, bodies: Bodies) -> None:
        self._request = request
        self._limit = limit
        self._bodies = bodies
        self._hold: Hold | None = None

    async def __aenter__(self) -> tuple[bytes, Aside]:
        announced, encodings = 0, []
        for name, value in self._request.scope["headers"]:
            if name == b"content-length" and value.isdigit():
                announced = int(value)
            elif name == b"content-encoding":
                encodings.append(value.decode("latin-1"))
        encoding = coding(encodings) if encodings else None
        limit, bodies = self._limit, self._bodies
        data, hold = await collect(self._request.receive, announced, limit, bodies)
        if encoding is not None and data:
            data, hold = await _inflated(data, hold, encoding, limit, bodies)
        self._hold = hold
        return data, at_once if hold is None else hold.aside

    async def __aexit__(self, *_: object) -> None:
        if self._hold is not None:
            self._hold.release()


async def _inflated(
    data: bytes, hold: Hold | None, encoding: str, limit: int, bodies: Bodies
) -> Body:
    """A compressed body as it was before. Raises TaskTooLarge where more than the limit would come
    out; a large one has room before it is inflated."""
    if hold is not None:
        hold.release()  # kept, it could wait for room that it holds itself
    body = Inflater(data, encoding)
    small = body.more(min(SMALL, limit) + 1)
    if body.ended and len(small) <= min(SMALL, limit):
        return small, None
    hold = await bodies.hold(limit)
    try:
        rest = await hold.aside(body.more, limit + 1 - len(small))
        if len(small) + len(rest) > limit or not body.ended:
            raise _too_large(limit)
        hold.shrink(min(hold.size, len(small) + len(rest)))
        return small + rest, hold
    except BaseException:
        hold.release()
        raise


def as_object(body: bytes | str) -> dict[str, Any]:
    """Raises InvalidJson, or InvalidRequest or TaskTooLarge where it is JSON that we cannot
    take."""
    data = body.encode() if isinstance(body, str) else body
    data = data.removeprefix(BOM)
    large = len(data) > SMALL
    if large:
        structure.check(data)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if NO_MEMORY in str(error).lower():
            raise MemoryError from None
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    if large:
        return value
    if data.count(b"[") + data.count(b"{") > SHALLOW:
        _check_depth(value)
    if digits_at(data, LONG) >= 0:
        # orjson makes a float of a larger number, and so another number.
        json.loads(data, parse_int=structure.fitting)
    return value


def _check_depth(value: dict[str, Any]) -> None:
    """orjson reads more levels than it writes."""
    wrapped: Any = value
    for _ in range(SPARE):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except orjson.JSONEncodeError:
        raise structure.too_deep() from None


def _too_large(limit: int) -> TaskTooLarge:
    return TaskTooLarge(f"the body is larger than {limit} bytes")
