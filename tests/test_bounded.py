import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator

import httpx
import pytest

from asyncsvc.errors import UpstreamInvalid
from asyncsvc.providers.bounded import MOST_BYTES, BoundedTransport

MB = 1024 * 1024
STREAM, JSON = "text/event-stream; charset=utf-8", "application/json"


class Parts(httpx.AsyncByteStream):
    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await asyncio.sleep(0)
            yield part

    async def aclose(self) -> None:
        self.closed = True


async def read(
    parts: Iterable[bytes], kind: str = STREAM, status: int = 200, encoding: str | None = None
) -> tuple[int, Parts]:
    """How many bytes came through, and the stream beneath."""
    body = Parts(parts)
    headers = {"content-type": kind} | ({"content-encoding": encoding} if encoding else {})

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=body)

    transport = BoundedTransport(httpx.MockTransport(answer))
    async with (
        httpx.AsyncClient(transport=transport) as http,
        http.stream("GET", "http://x.test/") as response,
    ):
        count = sum([len(part) async for part in response.aiter_raw()])
    return count, body


async def refused(parts: Iterable[bytes], kind: str = STREAM) -> str:
    with pytest.raises(UpstreamInvalid) as found:
        await read(parts, kind)
    return str(found.value)


def endless(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


async def test_what_is_within_the_limits_comes_through_and_is_closed() -> None:
    count, body = await read([b"data: x\n\n"] * 1000)
    assert count == 9000
    assert body.closed


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (b"x" * MB, STREAM),
        (b"data: x\n" * 10_000, STREAM),
        (b": comment\r\n" * 10_000, STREAM),
        (b"x" * MB, JSON),
        (b" \n\n" * 100_000, JSON),
        (b"x" * MB, "text/html"),
    ],
    ids=["line", "event", "comments", "body", "blank lines", "page"],
)
async def test_what_has_no_end_is_refused(part: bytes, kind: str) -> None:
    assert f"more than {MOST_BYTES} bytes" in await refused(endless(part), kind)


async def test_a_line_of_100_mb_costs_next_to_no_memory() -> None:
    tracemalloc.start()
    try:
        await refused(b"x" * 65_536 for _ in range(1600))
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\n\r\n"])
@pytest.mark.parametrize("cut", range(5))
async def test_a_blank_line_ends_what_is_measured_wherever_it_is_cut(
    blank: bytes, cut: int
) -> None:
    event = b"data: " + b"x" * (MOST_BYTES // 2) + blank
    at = len(event) - min(cut, len(blank))
    parts = [part for _ in range(3) for part in (event[:at], event[at:]) if part]
    assert (await read(parts))[0] == 3 * len(event)


async def test_a_blank_line_cut_into_single_bytes_is_seen() -> None:
    half = b"x" * (MOST_BYTES // 2)
    parts = [half, *(bytes([byte]) for byte in b"\r\n\r\n"), half, b"\n", b"\n", half]
    assert (await read(parts))[0] == sum(map(len, parts))


async def test_an_event_of_just_the_limit_passes_and_one_byte_more_does_not() -> None:
    await read([b"x" * MOST_BYTES], JSON)
    await refused([b"x" * MOST_BYTES, b"x"], JSON)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x98x"])
async def test_bytes_that_are_not_utf8_stop_the_reading(bad: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        await read([b"data: ", bad, b"\n\n"])


async def test_characters_may_be_cut_anywhere() -> None:
    text = "data: 你好🌍é\n\n".encode()
    assert (await read([text[i : i + 1] for i in range(len(text))]))[0] == len(text)


async def test_a_compressed_body_is_not_judged_as_text() -> None:
    assert (await read([b"\xff\xfe\x00"], encoding="gzip"))[0] == 3


async def test_the_body_of_a_refusal_is_left_to_its_reader() -> None:
    assert (await read([b"\xff" * MB] * 10, status=500))[0] == 10 * MB
