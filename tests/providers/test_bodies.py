import asyncio
import gzip
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress
from itertools import chain

import httpx
import pytest

from asyncsvc.errors import UpstreamInvalid, UpstreamTooLarge, without_frames
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.providers.connections import (
    AROUND,
    PIECE_BYTES,
    body_of,
    inflaters,
)

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
    """gzip without an end. After a full flush a block depends on none before it."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    first, block = (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return chain([first], endless(block))


async def test_what_is_within_the_limits_comes_through() -> None:
    assert await read([b"data: x\n\n"] * 1000) == 9000


async def test_a_body_without_an_end_is_too_large() -> None:
    with pytest.raises(UpstreamTooLarge, match=r"than 32 MB, which limits\.answer_mb allows"):
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
    await read([gzip.compress(b" " * (30 * MB), 1)], encoding="gzip")
    beside.cancel()
    assert turns > 25


EMPTY, ONE = gzip.compress(b""), gzip.compress(b"x")


@pytest.mark.parametrize(
    ("parts", "encoding"),
    [
        ([EMPTY * 5000] * 200, "gzip"),
        ([ONE * 5000] * 200, "gzip"),
        ([gzip.compress(EMPTY * 1_000_000)], "gzip, gzip"),
        ([gzip.compress(gzip.compress(b" " * (100 * MB), 1), 1)], "gzip, gzip"),
    ],
    ids=["empty members", "short members", "packed empty members", "packed twice"],
)
async def test_what_packs_much_into_little_ends_and_gives_others_their_turn(
    parts: list[bytes], encoding: str
) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(other())
    with suppress(UpstreamTooLarge):
        assert await read(parts, encoding=encoding) < AROUND * 32 * MB
    beside.cancel()
    assert turns > 8


async def test_what_follows_a_compressed_answer_is_not_read_for_ever() -> None:
    with pytest.raises(UpstreamInvalid, match="follow the provider's answer"):
        await read([gzip.compress(EMPTY + b"z" * (100 * MB), 1)], encoding="gzip, gzip")


async def test_the_bound_on_an_answer_can_be_set() -> None:
    response = httpx.Response(200, stream=Parts([b"x" * 600_000] * 14))
    with pytest.raises(UpstreamTooLarge, match=r"than 1 MB, which limits\.answer_mb allows"):
        async with aclosing(body_of(response, 1_000_000)) as body:
            assert [part async for part in body]


@pytest.mark.parametrize("encoding", ["br", "zstd"])
async def test_an_encoding_that_was_not_asked_for_is_an_error_of_the_provider(
    encoding: str,
) -> None:
    with pytest.raises(UpstreamInvalid, match=encoding):
        await read([b"x"], encoding=encoding)


TEXT = '{"a": "你好🌍"}'.encode() * 40_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def inflated(header: str, parts: Iterable[bytes]) -> list[bytes]:
    layers = inflaters(header)
    found: list[bytes] = []
    for part in parts:
        pieces = [part]
        for layer in layers:
            pieces = [piece for each in pieces for piece in layer.feed(each)]
        found += pieces
    return [*found, *(layer.end() for layer in layers)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("header", "packed"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:])),
        ("gzip", gzip.compress(TEXT) + b"\0" * 20),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("gzip, deflate", zlib.compress(gzip.compress(TEXT))),
        ("identity, gzip", gzip.compress(TEXT)),
    ],
    ids=["gzip", "x-gzip", "members", "padded", "deflate", "bare", "two layers", "identity"],
)
def test_what_was_compressed_comes_back_wherever_it_is_cut(
    header: str, packed: bytes, size: int
) -> None:
    assert b"".join(inflated(header, cut(packed, size))) == TEXT


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1}', b"data: x\n\n"])
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_called_gzip_and_is_none_passes(text: bytes, size: int) -> None:
    assert b"".join(inflated("gzip", cut(text, size))) == text


@pytest.mark.parametrize("header", ["", "identity", " , "])
def test_what_is_not_compressed_has_no_layer(header: str) -> None:
    assert inflaters(header) == []


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, br", "compress"])
def test_an_encoding_that_was_not_asked_for_is_named(header: str) -> None:
    with pytest.raises(UpstreamInvalid, match="not asked for"):
        inflaters(header)


@pytest.mark.parametrize("header", ["gzip", "deflate"])
def test_what_is_broken_inside_is_an_error(header: str) -> None:
    packed = bytearray(gzip.compress(TEXT) if header == "gzip" else zlib.compress(TEXT))
    packed[20:40] = b"\xff" * 20
    with pytest.raises(UpstreamInvalid, match="is not the"):
        inflated(header, [bytes(packed)])


@pytest.mark.parametrize("data", [b" " * (200 * MB), b"\n\n" * (50 * MB)], ids=["one", "many"])
def test_few_bytes_that_stand_for_many_come_in_pieces(data: bytes) -> None:
    packed = gzip.compress(data, 1)
    (layer,) = inflaters("gzip")
    count = 0
    tracemalloc.start()
    try:
        for part in cut(packed, 16 * 1024):
            for piece in layer.feed(part):
                assert len(piece) <= PIECE_BYTES
                count += len(piece)
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
    finally:
        tracemalloc.stop()
    assert count == len(data)


class Ready(httpx.AsyncByteStream):
    """A body whose parts are there at once: reading it never waits."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


@pytest.mark.parametrize("parts", [[b"x"] * 30, [b"x\n" * (120 << 10)]], ids=["many", "one-long"])
async def test_while_parts_are_always_there_others_have_their_turn(parts: list[bytes]) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(other())
    async with aclosing(body_of(httpx.Response(200, stream=Ready(parts)))) as body:
        async for _ in body:
            time.sleep(0.003)  # noqa: ASYNC251
    counting.cancel()
    assert turns >= 20


async def test_of_many_such_bodies_one_goes_on_in_each_turn() -> None:
    each, turns, most, read = [b"x"] * 10, LoopTurns(), 0, 0

    async def reading() -> None:
        nonlocal read
        async with aclosing(body_of(httpx.Response(200, stream=Ready(each)), turns=turns)) as body:
            async for _ in body:
                time.sleep(0.003)  # noqa: ASYNC251
                read += 1

    readers = [asyncio.create_task(reading()) for _ in range(4)]
    await asyncio.sleep(0)  # each has read its first part
    before = read
    while not all(reader.done() for reader in readers):
        await asyncio.sleep(0)
        most, before = max(most, read - before), read
    assert (read, most) == (40, 1)


def test_an_error_without_frames_has_its_words_and_causes() -> None:
    def fails() -> None:
        try:
            raise OSError("beneath")
        except OSError as error:
            raise ValueError("above") from error

    with pytest.raises(ValueError, match="above") as found:
        fails()
    error = found.value
    assert error.__traceback__ is not None
    without_frames(error)
    assert error.__traceback__ is None
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is None
    assert str(error.__cause__) == "beneath"
