"""A transport that refuses what no provider sends in earnest.

Owns the limits on an answer while it is being read. Promises that a line without an end or
bytes that are not UTF-8 stop the reading instead of filling the memory or the database.
Never looks into what it lets through.
"""

import codecs
from collections.abc import AsyncIterator
from typing import cast

import httpx

from asyncsvc.errors import UpstreamInvalid

LINE_BYTES = 8 * 1024 * 1024
"""The longest line: a batch of embeddings is one of a few MB, a token's line is 300 bytes."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Wraps another transport; the body's limits hold whatever reads it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        stream = cast(httpx.AsyncByteStream, response.stream)
        if response.status_code == 200:
            response.stream = _BoundedStream(
                stream, strict="content-encoding" not in response.headers
            )
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, strict: bool) -> None:
        self._inner = inner
        self._strict = strict

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        line = 0
        async for part in self._inner:
            end = part.rfind(b"\n")
            line = line + len(part) if end < 0 else len(part) - end - 1
            if line > LINE_BYTES:
                raise UpstreamInvalid(f"the provider sent a line above {LINE_BYTES} bytes")
            if self._strict:
                # Raises UnicodeDecodeError; a character may be split over two parts.
                decoder.decode(part)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
