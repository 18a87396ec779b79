import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing

import httpx
import pytest

from asyncsvc.errors import UpstreamInvalid, UpstreamTooLarge
from asyncsvc.providers.connections import STREAM_BYTES, body_of

MB = 1024 * 1024


class Parts(httpx.AsyncByteStream):
    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await asyncio.sleep(0)
            yield part


async def read(parts: Iterable[bytes], encoding: str | None = None) -> int:
    """How many bytes came through."""
    headers = {"content-encoding": encoding} if encoding else {}
    async with aclosing(body_of(httpx.Response(200, headers=headers, stream=Parts(parts)))) as body:
        return sum([len(part) async for part in body])


def endless(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


def packed(part: bytes) -> Iterator[bytes]:
    """gzip without an end."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    while True:
        yield packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)


async def test_what_is_within_the_limits_comes_through() -> None:
    assert await read([b"data: x\n\n"] * 1000) == 9000


async def test_a_body_without_an_end_is_too_large() -> None:
    with pytest.raises(UpstreamTooLarge, match=f"more than {STREAM_BYTES} bytes"):
        await read(endless(b"x" * MB))


async def test_a_compressed_body_without_an_end_is_too_large_at_no_cost_of_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamTooLarge):
            await read(packed(b" " * (8 * MB)), encoding="gzip")
        assert tracemalloc.get_traced_memory()[1] < 12 * MB  # the writer's own 8 MB among them
    finally:
        tracemalloc.stop()


async def test_what_is_compressed_is_given_as_it_was() -> None:
    text = "data: 你好🌍é\n\n".encode() * 1000
    body = gzip.compress(text)
    assert await read([body[i : i + 1] for i in range(len(body))], encoding="gzip") == len(text)


async def test_while_much_is_decompressed_others_have_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(other())
    await read([gzip.compress(b" " * (64 * MB), 1)], encoding="gzip")
    beside.cancel()
    assert turns > 50


@pytest.mark.parametrize("encoding", ["br", "zstd"])
async def test_an_encoding_that_was_not_asked_for_is_an_error_of_the_provider(
    encoding: str,
) -> None:
    with pytest.raises(UpstreamInvalid, match=encoding):
        await read([b"x"], encoding=encoding)
