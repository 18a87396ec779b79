"""A transport that refuses what no provider sends in earnest.

Owns the limits on an answer while it is being read. Promises that an event or a body without
an end, or bytes that are not UTF-8, stop the reading instead of filling the memory or the
database. Never looks into what it lets through.
"""

import codecs
from collections.abc import AsyncIterator
from typing import cast

import httpx

from asyncsvc.errors import UpstreamInvalid

MOST_BYTES = 8 * 1024 * 1024
"""The longest event of a stream, and the longest whole body: a batch of embeddings is one of
a few MB, a token's event is 300 bytes."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Wraps another transport; the body's limits hold whatever reads it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        stream = cast(httpx.AsyncByteStream, response.stream)
        if response.status_code == 200:
            response.stream = _BoundedStream(
                stream,
                events="text/event-stream" in response.headers.get("content-type", ""),
                strict="content-encoding" not in response.headers,
            )
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    """`events`: a blank line ends what is measured. `strict`: the bytes must be UTF-8."""

    def __init__(self, inner: httpx.AsyncByteStream, *, events: bool, strict: bool) -> None:
        self._inner = inner
        self._events = events
        self._strict = strict

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        length, tail = 0, b""
        async for part in self._inner:
            length += len(part)
            if self._events:
                # A blank line may be split over two parts.
                seen = tail + part
                if (end := max(seen.rfind(b"\n\n"), seen.rfind(b"\n\r\n"))) >= 0:
                    length = len(seen) - end
                tail = seen[-2:]
            if length > MOST_BYTES:
                raise UpstreamInvalid(f"the provider sent more than {MOST_BYTES} bytes in one go")
            if self._strict:
                # Raises UnicodeDecodeError; a character may be split over two parts.
                decoder.decode(part)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
