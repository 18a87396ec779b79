"""A client that does not read: closed with 1013, loses nothing, slows no other."""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import TaskNotFound
from asyncsvc.journal.journal import Journal
from asyncsvc.storage.entries import Event
from asyncsvc.web.http import sockets
from tests.web.serving import Service, ask, message, rest, serving
from tests.web.wire import head

pytestmark = pytest.mark.slow

PATIENCE_S = 30.0
MUCH = "x [[sim:tokens=200000]][[sim:rate=0]]"
STALL_S = 0.5
"""Instead of five seconds, so that the test need not wait for them."""


@pytest.fixture
async def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr(sockets.Socket.__init__, "__defaults__", (STALL_S,))
    async with serving(tmp_path) as service:
        yield service


@dataclass
class Reader:
    """A WebSocket client that reads from the kernel only on demand."""

    stream: socket.socket
    code: int | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    async def read_all(self) -> None:
        """Read until the server's close frame or the end of the connection."""
        loop = asyncio.get_running_loop()
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while self.code is None:
                part = await loop.sock_recv(self.stream, 1 << 20)
                if not part:
                    return
                data = self._take(data + part)

    def _take(self, data: bytes) -> bytes:
        """Take whole frames off; a server's frames are not masked."""
        while len(data) >= 2:
            size, start = data[1] & 0x7F, 2
            if size == 126:
                size, start = struct.unpack(">H", data[2:4].ljust(2, b"\xff"))[0], 4
            elif size == 127:
                size, start = struct.unpack(">Q", data[2:10].ljust(8, b"\xff"))[0], 10
            if len(data) < start + size:
                break
            opcode, body = data[0] & 0xF, data[start : start + size]
            if opcode == 8:
                self.code = struct.unpack(">H", body[:2])[0]
            elif opcode == 1:
                self.events.append(json.loads(body))
            data = data[start + size :]
        return data


@asynccontextmanager
async def reader(service: Service, path: str) -> AsyncIterator[Reader]:
    """A connected client with a small window, which has read no more than the handshake."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setblocking(False)
        await loop.sock_connect(stream, ("127.0.0.1", service.port))
        lines = ("upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13",
                 f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}")  # fmt: skip
        await loop.sock_sendall(stream, head("GET", path, *lines))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await loop.sock_recv(stream, 1)
        assert answer.startswith(b"HTTP/1.1 101")
        yield Reader(stream)


async def watched_to_the_end(service: Service, task_id: str, after: int = 0) -> list[int]:
    """The seqs that a client which reads is sent."""
    found: list[int] = []
    async with service.ws(f"/ws/tasks/{task_id}?after={after}") as ws:
        while True:
            event = await message(ws)
            if event["seq"] is not None:
                found.append(event["seq"])
            if "latency" in event["data"]:
                return found


async def test_it_is_closed_with_1013_and_comes_back_without_loss(impatient: Service) -> None:
    task_id = await impatient.submit(MUCH)
    await impatient.done(task_id)
    closed = asyncio.Event()
    close = sockets.Socket.close

    async def watched(self: sockets.Socket, code: int, reason: str = "") -> None:
        await close(self, code, reason)
        if code == sockets.TOO_SLOW:
            closed.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets.Socket, "close", watched)
        async with reader(impatient, f"/ws/tasks/{task_id}") as slow, asyncio.timeout(PATIENCE_S):
            await closed.wait()
            await slow.read_all()
    assert slow.code == 1013
    seen = [event["seq"] for event in slow.events if event["seq"] is not None]
    later = await watched_to_the_end(impatient, task_id, seen[-1])
    assert seen + later == list(range(1, later[-1] + 1))
    task = await impatient.task(task_id)
    assert later[-1] == task["seq"]


async def test_it_slows_no_other(impatient: Service) -> None:
    task_id = await impatient.submit(MUCH)
    async with reader(impatient, f"/ws/tasks/{task_id}") as slow:
        seqs = await watched_to_the_end(impatient, task_id)
        assert seqs == list(range(1, seqs[-1] + 1))
        assert (await impatient.task(task_id))["status"] == "completed"
        assert (await impatient.done(await impatient.submit("y")))["status"] == "completed"
        await slow.read_all()
        assert slow.code in (1000, 1013)


async def test_a_stop_does_not_wait_for_it(impatient: Service) -> None:
    task_id = await impatient.submit(MUCH)
    await impatient.done(task_id)
    async with reader(impatient, f"/ws/tasks/{task_id}"):
        impatient.stop()


async def test_a_slow_reader_of_an_event_stream_holds_up_nothing(impatient: Service) -> None:
    task_id = await impatient.submit("x [[sim:tokens=100000]][[sim:rate=0]]")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setblocking(False)
        await loop.sock_connect(stream, ("127.0.0.1", impatient.port))
        request = head("GET", f"/tasks/{task_id}/events", "accept: text/event-stream")
        await loop.sock_sendall(stream, request)
        assert (await impatient.done(task_id))["status"] == "completed"


@pytest.mark.parametrize("path", ["/ws/tasks/{}", "/ws"])
async def test_a_task_that_is_deleted_before_all_was_sent_is_written_to_be_gone(
    impatient: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    task_id = await impatient.submit("x")
    await impatient.done(task_id)

    async def gone(_: Journal, name: str, *__: Any) -> AsyncIterator[list[Event]]:
        raise TaskNotFound(name)
        yield []

    monkeypatch.setattr(Journal, "follow", gone)
    async with impatient.ws(path.format(task_id)) as ws:
        if path == "/ws":
            assert (await ask(ws, op="subscribe", task_id=task_id))["op"] == "ok"
        answer = await message(ws)
        assert (answer["op"], answer["error"]["code"]) == ("error", "task_not_found")
        if path == "/ws":
            assert (await ask(ws, op="ping"))["op"] == "ok"
        else:
            assert (await rest(ws))[1] == 4404
