"""Floods on one connection: trailers, framing, pipelined requests, WebSocket frames."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import psutil
import pytest
from websockets.asyncio.client import ClientConnection

from asyncsvc.web.http.connections import PIPELINED
from asyncsvc.web.http.pieces import UNPARSED_MOST, Parsing, Pieces
from asyncsvc.web.http.socket_protocol import CONTROL_MOST, FRAGMENTS_MOST, SocketProtocol
from tests.polling import until
from tests.web.serving import Service, serving
from tests.web.wire import Wire, chunked, head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVEZ = head("GET", "/livez")
START = head("POST", "/tasks", "transfer-encoding: chunked")
TRAILING = START + b"1\r\n{\r\n0\r\n"
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "trailers": (TRAILING, b"x-y: z\r\n" * 8000),
    "one trailer": (TRAILING + b"x: ", b"y" * 60_000),
    "a trailer byte by byte": (TRAILING + b"x: ", b"y"),
    "an extension": (START + b"1;a=", b"y" * 60_000),
    "zeros of a size": (START, b"0" * 60_000),
    "chunks of a byte": (START, b"1\r\n \r\n" * 10_000),
    "chunks with extensions": (START, (b"1;" + b"y" * 1000 + b"\r\n \r\n") * 60),
    "empty lines": (LIVEZ, b"\r\n" * 30_000),
    "header fields": (b"GET / HTTP/1.1\r\n", b"a:\r\n" * 15_000),
}
LIMIT = 32 << 20
"""Bytes that a client may send of a flood before it is cut; what the kernel takes comes to it."""
GROWTH = 30 << 20
READ_BYTES = 256 * 1024
"""The most that one read of the event loop brings."""


@pytest.mark.parametrize(("start", "flood"), FLOODS.values(), ids=FLOODS)
async def test_a_flood_is_cut_and_leaves_nothing(
    service: Service, start: bytes, flood: bytes
) -> None:
    before = psutil.Process().memory_info().rss
    async with wire(service.port) as line:
        line.writer.write(start)
        sent = 0
        reading = asyncio.create_task(line.reader.read())
        async with asyncio.timeout(30):
            try:
                while not reading.done() and sent < LIMIT:
                    line.writer.write(flood)
                    await line.writer.drain()
                    sent += len(flood)
                    await asyncio.sleep(0)
            except ConnectionError:
                pass
            await asyncio.wait([reading])
        if reading.exception() is None:
            assert b"HTTP/1.1 4" in reading.result()
        assert sent < LIMIT
    assert psutil.Process().memory_info().rss - before < GROWTH
    assert (await service.http.get("/livez")).status_code == 200


async def test_a_pipeline_without_end_is_answered_to_its_limit_and_closed(service: Service) -> None:
    task_id = await service.running()
    async with wire(service.port) as line:
        line.writer.write(head("GET", f"/tasks/{task_id}/events", "accept: text/event-stream"))
        await line.reader.readuntil(b"attempt")
        line.writer.write(LIVEZ * (PIPELINED * 10))
        await asyncio.sleep(0.1)
        assert (await service.steer(task_id, "cancel")).status_code == 200
        async with asyncio.timeout(20):
            rest = await line.reader.read()
    assert rest.count(b"HTTP/1.1 200") == PIPELINED
    assert rest.count(b"connection: close") == 1


async def test_noise_behind_a_request_does_not_destroy_its_answer(service: Service) -> None:
    for noise in (b"\0noise\r\n\r\n", head("GET", "/", "host: a", "host: b"), b"x: y\r\n" * 20_000):
        async with wire(service.port) as line:
            answer = await line.ask(LIVEZ + LIVEZ + noise)
            assert (answer.status, answer.body) == (200, b"ok")
            assert (await line.answer()).headers["connection"] == "close"
            async with asyncio.timeout(20):
                assert await line.reader.read() == b""


async def test_a_client_that_leaves_ends_all_that_it_has_asked_for(fresh: Service) -> None:
    """A stream with a request behind it is no longer followed."""
    chat = {
        "model": "fast",
        "stream": True,
        "messages": [{"role": "user", "content": "[[sim:hang]]"}],
    }

    async with wire(fresh.port) as line:
        line.writer.write(post("/v1/chat/completions", orjson.dumps(chat)) + LIVEZ)

        async def states() -> list[str]:
            return [task["status"] for task in (await fresh.http.get("/tasks")).json()["tasks"]]

        await until(states, lambda found: found == ["running"])
        line.writer.transport.abort()
        await until(states, lambda found: found == ["cancelled"])


async def test_a_head_that_is_half_sent_does_not_end_the_answer_before_it(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"client_timeout_s": 0.3}) as service:
        task_id = await service.running()
        async with wire(service.port) as line:
            sent = head("GET", f"/tasks/{task_id}/events", "accept: text/event-stream")
            line.writer.write(sent + b"GET /livez HT")
            for _ in range(3):  # progress comes once a second
                async with asyncio.timeout(20):
                    await line.reader.readuntil(b"progress")


async def test_the_rest_of_a_body_is_not_waited_for_when_the_service_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as service, wire(service.port) as line:
        line.writer.write(chunked("/tasks", b'{"content": "x"}')[:-5])
        await asyncio.sleep(0.1)
        service.stop()
        async with asyncio.timeout(4):
            answer = await line.answer()
        assert (answer.status, answer.code()) == (503, "shutting_down")
    assert "Traceback" not in caplog.text
    assert "Cancel" not in caplog.text


@pytest.mark.parametrize("in_chunks", [True, False])
async def test_a_file_that_is_larger_than_any_task_is_taken(
    tmp_path: Path, in_chunks: bool
) -> None:
    data = b'{"x": "%s"}\n' % (b"y" * 1000) * 3000
    part = b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    file = part % (b'file"; filename="a.jsonl', data)
    body = part % (b"purpose", b"batch") + file + b"--b--\r\n"
    kind = "content-type: multipart/form-data; boundary=b"
    sent = post("/v1/files", body, kind)
    if in_chunks:
        sent = chunked("/v1/files", body).replace(b"\r\n\r\n", f"\r\n{kind}\r\n\r\n".encode(), 1)
    async with serving(tmp_path, queue={"max_task_bytes": 1024}) as service:
        async with wire(service.port) as line:
            answer = await line.ask(sent)
        assert answer.status == 200
        assert answer.json()["bytes"] == len(data)


async def test_the_rest_of_a_refused_body_is_not_read_without_end(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, queue={"max_task_bytes": 1024}) as service,
        wire(service.port) as line,
    ):
        answer = await line.ask(head("POST", "/tasks", "content-length: 99999999") + b"{")
        assert answer.status == 413
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(20):
                while True:
                    line.writer.write(b" " * 65536)
                    await line.writer.drain()


HANDSHAKE = head(
    "GET", "/ws", "upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
MASK = b"\0\0\0\0"
PING = b"\x89\x80" + MASK
FRAMES: dict[str, tuple[bytes, bytes, int]] = {
    "pings": (b"", PING * 1000, 1008),
    "large pings": (b"", (b"\x89\xfd" + MASK + b"p" * 125) * 1000, 1008),
    "pongs": (b"", (b"\x8a\x80" + MASK) * 1000, 1008),
    "empty fragments": (b"\x01\x81" + MASK + b"x", (b"\x00\x80" + MASK) * 2000, 1009),
    "fragments": (b"\x01\x81" + MASK + b"x", (b"\x00\x81" + MASK + b"y") * 2000, 1009),
    "empty messages": (b"", (b"\x81\x80" + MASK) * 5000, 4400),
}


@asynccontextmanager
async def opened(service: Service) -> AsyncIterator[Wire]:
    async with wire(service.port) as line:
        assert (await line.ask(HANDSHAKE)).status == 101
        yield line


@pytest.mark.parametrize(("start", "flood", "code"), FRAMES.values(), ids=FRAMES)
async def test_a_flood_of_frames_closes_the_socket(
    service: Service, start: bytes, flood: bytes, code: int
) -> None:
    async with opened(service) as line:
        line.writer.write(start + flood)
        async with asyncio.timeout(20):
            try:
                found = await line.reader.read()
            except ConnectionResetError:
                return
        assert b"\x88" in found
        assert code.to_bytes(2, "big") in found


async def test_pings_now_and_then_are_answered(service: Service) -> None:
    async with opened(service) as line:
        for _ in range(CONTROL_MOST - 1):
            line.writer.write(PING)
        async with asyncio.timeout(20):
            assert await line.reader.readexactly(2 * (CONTROL_MOST - 1))
        line.writer.write(b"\x81\x8d" + MASK + b'{"op":"ping"}')
        async with asyncio.timeout(20):
            assert b'"ok"' in await line.reader.readuntil(b"}")


async def test_a_message_in_many_fragments_is_read(service: Service) -> None:
    text = b'{"op":"ping"' + b" " * (FRAGMENTS_MOST - 14) + b"}"
    frames = [(b"\x00\x81" + MASK + b"%c") % byte for byte in text]
    frames[0] = b"\x01" + frames[0][1:]
    frames[-1] = b"\x80" + frames[-1][1:]
    async with opened(service) as line:
        line.writer.write(b"".join(frames))
        async with asyncio.timeout(20):
            assert b'"ok"' in await line.reader.readuntil(b"}")


async def test_many_messages_at_once_are_all_answered_in_order(service: Service) -> None:
    """More than is parsed in one step of the event loop."""
    async with service.ws() as socket:
        for number in range(2000):
            await socket.send(f'{{"op": "ping", "ref": "{number}"}}')
        async with asyncio.timeout(20):
            answers = [await socket.recv() for _ in range(2000)]
    assert [f'"{number}"' in str(answer) for number, answer in enumerate(answers)] == [True] * 2000


async def test_messages_that_are_not_read_yet_are_few(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends faster than it is served fills its own buffers, not ours."""
    waiting: list[int] = []
    go_on = Pieces.go_on

    def noted(pieces: Pieces, connection: Parsing) -> None:
        waiting.append(len(pieces))
        go_on(pieces, connection)

    monkeypatch.setattr(Pieces, "go_on", noted)
    count, padding = 400, "x" * 10_000
    async with asyncio.timeout(60), service.ws() as socket:
        message = orjson.dumps({"op": "ping", "ref": padding}).decode()
        sending = asyncio.create_task(_send_all(socket, [message] * count))
        for _ in range(count):
            await socket.recv()
        await sending
    assert UNPARSED_MOST < max(waiting) < UNPARSED_MOST + READ_BYTES


async def _send_all(socket: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        await socket.send(message)


@pytest.mark.parametrize("end", ["left", "cut", "refused"])
async def test_a_closed_socket_leaves_no_cycle(
    service: Service, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in a cycle waits for the garbage collector, which seldom comes."""
    closed: list[weakref.ref[SocketProtocol]] = []
    lost = SocketProtocol.connection_lost

    def noted(protocol: SocketProtocol, error: Exception | None) -> None:
        closed.append(weakref.ref(protocol))
        lost(protocol, error)

    monkeypatch.setattr(SocketProtocol, "connection_lost", noted)
    gc.collect()
    gc.disable()
    try:
        async with opened(service) as line:
            if end == "left":  # within a frame of a megabyte
                line.writer.write(b"\x81\xff" + (1 << 20).to_bytes(8) + MASK + b"x" * 100_000)
            elif end == "refused":  # a frame that is larger than any may be
                line.writer.write(b"\x81\xff" + (1 << 40).to_bytes(8) + MASK)
                await line.reader.read()
            else:
                line.writer.transport.abort()

        async def freed() -> bool:
            return len(closed) == 1 and closed[0]() is None

        await until(freed, bool)
    finally:
        gc.enable()
