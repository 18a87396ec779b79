"""A transport that decompresses answers and bounds their size.

Owns the bounds on an answer's bytes. Promises that a body without an end stops the reading instead
of filling the memory, counted after decompression, and that decompressing much does not hold up
the event loop. Never looks into what it lets through.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import cast

import httpx

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.providers.inflating import Inflater, inflaters

MOST_BYTES = 8 * 1024 * 1024
"""The longest event of a stream, the longest whole body and the longest text of an answer: a batch
of embeddings is one of a few MB, a token's event is 300 bytes."""
STREAM_BYTES = 256 * 1024 * 1024
"""The longest stream: 500,000 tokens with 500 bytes around each."""
BREATHE_BYTES = 1024 * 1024
"""After so much from compressed data, other tasks have their turn: little input may be behind."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Wraps another transport; the body's bound holds whatever reads it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        encoding = response.headers.pop("content-encoding", "")
        response.stream = _BoundedStream(cast(httpx.AsyncByteStream, response.stream), encoding)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, encoding: str) -> None:
        self._inner = inner
        self._encoding = encoding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        layers = inflaters(self._encoding)
        if not layers:
            async for part in self._inner:
                length += len(part)
                if length > STREAM_BYTES:
                    raise _too_large()
                yield part
            return
        breath = BREATHE_BYTES
        async for packed in self._inner:
            for part in _inflated(layers, [packed]):
                length += len(part)
                if length > STREAM_BYTES:
                    raise _too_large()
                yield part
                if length > breath:
                    breath = length + BREATHE_BYTES
                    await asyncio.sleep(0)
        for layer in layers:
            if left := layer.end():
                yield left

    async def aclose(self) -> None:
        await self._inner.aclose()


def _inflated(layers: Sequence[Inflater], parts: Iterable[bytes]) -> Iterator[bytes]:
    for layer in layers:
        parts = _through(layer, parts)
    yield from parts


def _through(layer: Inflater, parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from layer.feed(part)


def _too_large() -> UpstreamTooLarge:
    return UpstreamTooLarge(f"the provider sent more than {STREAM_BYTES} bytes")
