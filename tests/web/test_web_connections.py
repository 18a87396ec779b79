"""Connections before anything is asked on them: too many, too slow, too idle, too large."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from asyncsvc.server import make_room_for_connections
from asyncsvc.web.http.connections import SPARE
from asyncsvc.web.http.heads import HEAD_BYTES
from tests.web.serving import Service, ask, serving
from tests.web.wire import Wire, chunked, head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"content": "x", "delay_s": 60}'
GET = head("GET", "/tasks")


@asynccontextmanager
async def hasty(folder: Path, most: int = 1000) -> AsyncIterator[Service]:
    """A service that waits for its clients for less than a second."""
    server = {"client_timeout_s": 0.4, "max_connections": most, "keep_alive_s": 1}
    async with serving(folder, server=server) as service:
        yield service


async def silence(line: Wire) -> bytes:
    """All that still comes until the server closes."""
    async with asyncio.timeout(20):
        try:
            return await line.reader.read()
        except ConnectionResetError:
            return b""


async def test_one_connection_too_many_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_connections": 3}) as service, AsyncExitStack() as s:
        lines = [await s.enter_async_context(wire(service.port)) for _ in range(3)]
        for line in lines:
            assert (await line.ask(GET)).status == 200  # these wait for their next request
        async with wire(service.port) as probe:
            assert (await probe.ask(head("GET", "/livez"))).status == 200
            answer = await probe.ask(GET)
            assert (answer.status, answer.code()) == (503, "overloaded")
            assert answer.headers["connection"] == "close"
            assert await silence(probe) == b""
        lines[0].writer.close()
        async with asyncio.timeout(20):
            while True:
                async with wire(service.port) as line:
                    if (await line.ask(GET)).status == 200:
                        break


async def test_beyond_the_spare_ones_no_client_is_even_received(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_connections": 1}) as service, AsyncExitStack() as s:
        for _ in range(1 + SPARE):
            line = await s.enter_async_context(wire(service.port))
            await line.ask(head("GET", "/livez"))
        async with wire(service.port) as line:
            answer = await line.answer()  # unasked
            assert (answer.status, answer.code()) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            line.writer.write(GET)
            assert await silence(line) == b""
        with pytest.raises(InvalidStatus, match="503"):
            async with service.ws():
                pass


async def test_sockets_count_until_they_are_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_connections": 2}) as service:
        for _ in range(5):
            async with service.ws() as first, service.ws() as second:
                for socket in (first, second):
                    assert (await ask(socket, op="ping"))["op"] == "ok"
            async with asyncio.timeout(20):
                while True:
                    async with wire(service.port) as line:
                        if (await line.ask(GET)).status == 200:
                            break


async def test_a_thousand_connections_work(tmp_path: Path) -> None:
    make_room_for_connections()  # both ends are in this process
    async with serving(tmp_path) as service, AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(service.port)) for _ in range(1000)]
        answers = await asyncio.gather(*(line.ask(GET) for line in lines))
        assert {answer.status for answer in answers} == {200}
        async with wire(service.port) as line:
            assert (await line.ask(GET)).status == 503


SLOW_STARTS = {
    "nothing at all": (b"", b""),
    "half a head": (b"GET /tasks HTTP/1.1\r\nhos", b"HTTP/1.1 408"),
    "half a body": (post("/tasks", BODY)[:-5], b"HTTP/1.1 408"),
    "half of a chunked body": (chunked("/tasks", BODY)[:-9], b"HTTP/1.1 408"),
    "half of a large body": (post("/tasks", b" " * 100_000)[:-5], b"HTTP/1.1 408"),
}


@pytest.mark.parametrize(("sent", "answer"), SLOW_STARTS.values(), ids=SLOW_STARTS)
async def test_who_stops_in_the_middle_is_cut(tmp_path: Path, sent: bytes, answer: bytes) -> None:
    async with hasty(tmp_path) as service, wire(service.port) as line:
        line.writer.write(sent)
        received = await silence(line)
        assert received.startswith(answer)
        assert answer or not received
        assert (b"request_timeout" in received) == bool(answer)
        assert (await service.http.get("/tasks")).json()["tasks"] == []


async def dripping(port: int, start: bytes) -> bytes:
    """The answer to a client that sends a start and then a byte now and then.

    Over a plain socket: a stream loses what has arrived where a later byte is refused.
    """
    loop = asyncio.get_running_loop()

    async def drip() -> None:
        await loop.sock_sendall(line, start)
        while True:
            await loop.sock_sendall(line, b" ")
            await asyncio.sleep(0.02)

    found = b""
    with socket.socket() as line:
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", port))
        drops = asyncio.create_task(drip())
        try:
            with suppress(ConnectionError):
                async with asyncio.timeout(20):
                    while part := await loop.sock_recv(line, 65536):
                        found += part
        finally:
            drops.cancel()
            await asyncio.gather(drops, return_exceptions=True)
    return found


@pytest.mark.parametrize(
    "start", [b"GET /tasks HTTP/1.1\r\nx: ", post("/tasks", b" " * 10_000)[:-9999]]
)
async def test_a_byte_now_and_then_is_no_progress(tmp_path: Path, start: bytes) -> None:
    async with hasty(tmp_path) as service:
        assert (await dripping(service.port, start)).startswith(b"HTTP/1.1 408")


async def test_the_rest_of_a_refused_body_cannot_be_dripped(tmp_path: Path) -> None:
    async with hasty(tmp_path) as service, wire(service.port) as line:
        answer = await line.ask(head("POST", "/tasks", "content-length: 99999999") + b"{")
        assert answer.status == 413
        for _ in range(3):
            line.writer.write(b" ")
            await asyncio.sleep(0.05)
        assert await silence(line) == b""


async def test_slow_answers_of_ours_cut_no_client(tmp_path: Path) -> None:
    async with hasty(tmp_path) as service:
        task_id = await service.running()
        async with wire(service.port) as line:
            line.writer.write(head("GET", f"/tasks/{task_id}/events", "accept: text/event-stream"))
            for _ in range(3):  # progress comes once a second, the patience is 0.4 s
                async with asyncio.timeout(20):
                    await line.reader.readuntil(b"progress")


async def test_an_idle_connection_is_closed_after_its_time(tmp_path: Path) -> None:
    async with hasty(tmp_path) as service, wire(service.port) as line:
        assert (await line.ask(GET)).status == 200
        assert await silence(line) == b""


async def test_a_head_without_an_end_is_refused(service: Service) -> None:
    for start in (b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"):
        async with wire(service.port) as line:
            line.writer.write(start)
            filler = b"x: y\r\n" * 1000 if start.endswith(b"\n") else b"a" * 6000
            for _ in range(HEAD_BYTES // 6000 + 2):
                line.writer.write(filler)
                await asyncio.sleep(0.01)  # in pieces, as the first is always taken whole
            received = await silence(line)
            assert received.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")), start
            assert b'"code":' in received


async def test_what_is_no_http_is_reported_in_our_shape(service: Service) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET  / HTTP/9\r\n\r\n"):
        async with wire(service.port) as line:
            line.writer.write(sent)
            answer = await line.answer()
            assert (answer.status, answer.code()) == (400, "invalid_http")


async def test_chunks_with_endless_trailers_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = {"max_task_bytes": 1024}
    async with serving(tmp_path, queue=queue) as service, wire(service.port) as line:
        line.writer.write(chunked("/tasks", BODY)[:-2])
        for _ in range(40):
            line.writer.write(b"x: " + b"y" * 65536 + b"\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(20):
                while True:
                    line.writer.write(b"x: " + b"y" * 65536 + b"\r\n")
                    await line.writer.drain()
