"""Heads of responses are bounded before they are parsed, and interim answers are left out."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from asyncsvc.net.response_heads import HEAD_MOST, INTERIM_MOST, BoundedResponse

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-more: 1\r\n\r\nHello"
INTERIM = b"HTTP/1.1 102 Processing\r\nx-step: 3\r\n\r\n"
LONG = b"x-more: and more\r\n" * 10_000


@asynccontextmanager
async def answering(*answers: Iterable[bytes], closes: bool = False) -> AsyncGenerator[str]:
    """A server that gives one of the answers to each request on a connection, part by part."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for parts in answers:
                await reader.readuntil(b"\r\n\r\n")
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
            if not closes:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def asked(url: str, times: int = 1) -> list[tuple[int, str]]:
    """(status, body) of requests on one connection."""
    found = []
    connector = aiohttp.TCPConnector(limit=1)
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession(connector=connector, response_class=BoundedResponse) as session,
    ):
        for _ in range(times):
            async with session.get(url) as response:
                found.append((response.status, await response.text()))
    return found


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 13, 10_000])
@pytest.mark.parametrize(
    "before",
    [
        b"",
        INTERIM,
        INTERIM * INTERIM_MOST,
        b"HTTP/1.1 103 Early Hints\n\n",
        b"HTTP/1.0 199 x\r\n\r\n",
    ],
    ids=["none", "one", "many", "lf", "1.0"],
)
async def test_interim_answers_are_left_out_wherever_they_are_cut(before: bytes, size: int) -> None:
    parts = cut(before + ANSWER, size if len(before) < 1000 else max(size, 100))
    async with answering(parts, [ANSWER], cut(ANSWER, 3)) as url:
        assert await asked(url, 3) == [(200, "Hello")] * 3


async def test_a_body_may_be_long_and_look_like_an_interim_answer() -> None:
    body = INTERIM * 5000
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with answering(cut(head + body, 40_000), [head + body]) as url:
        assert await asked(url, 2) == [(200, body.decode())] * 2


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([INTERIM * (INTERIM_MOST + 1) + ANSWER], "more than 256 interim answers"),
        ([INTERIM] * (INTERIM_MOST + 1), "more than 256 interim answers"),
        ([b"HTTP/1.1 200 OK\r\n", LONG], f"the head of the response has more than {HEAD_MOST}"),
        (cut(b"HTTP/1.1 200 OK\r\n" + LONG, 1000), "Too many headers"),  # aiohttp's own bound
        ([b"HTTP/1.1 200 OK\r\nx: ", b"x" * 100_000], "the head of the response has more than"),
        ([b"HTTP/1.1 102 Wait\r\n", LONG], f"an interim answer has more than {HEAD_MOST} bytes"),
    ],
)
async def test_what_does_not_come_to_its_end_costs_the_connection(
    parts: list[bytes], why: str
) -> None:
    async with answering(parts) as url:
        with pytest.raises(aiohttp.ClientError, match=why):
            await asked(url)


@pytest.mark.parametrize(
    "parts", [[INTERIM], [INTERIM[:-3]], [b"HTTP/1.1 1"], [b"HTTP/1.1 20"], [ANSWER[:20]]]
)
async def test_a_head_that_is_cut_off_is_a_lost_connection(parts: list[bytes]) -> None:
    async with answering(parts, closes=True) as url:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await asked(url)


async def test_switching_protocols_is_no_interim_answer() -> None:
    async with answering([b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"], closes=True) as url:
        assert await asked(url) == [(101, "")]
