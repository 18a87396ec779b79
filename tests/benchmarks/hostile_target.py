"""The service as a hostile client sees it: raw connections, and crowds of them.

Owns the connections and the count of what they were answered. Promises that an attack ends with
its time and that no connection outlives it. Never judges an answer.
"""

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import orjson

from tests.benchmarks.stage import HOST

_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
WINDOW = 4096
"""Receive buffer of a client that does not read."""
CUT = (OSError, TimeoutError)
AGAIN_S = 0.02
"""Pause before a connection that was cut is opened again."""
ATTACKS: dict[str, "Attack"] = {}
"""By name: all attacks of hostile clients."""


class Line(asyncio.Protocol):
    """One connection; answers are counted by status and thrown away."""

    def __init__(self, seen: Counter[str]) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.answered = asyncio.Event()
        """Set with each answer's first line, cleared by `answer`."""
        self._seen = seen
        self._tail = b""
        self._room = asyncio.Event()
        self._room.set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        found, end = _STATUS.findall(data), 0
        for match in _STATUS.finditer(data):
            end = match.end()
        self._seen.update(status.decode() for status in found)
        self._tail = data[max(end, len(data) - 12) :]
        if found:
            self.answered.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._room.set()
        self.answered.set()
        if not self.lost.done():
            self.lost.set_result(None)

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    async def send(self, *parts: bytes) -> None:
        """Write as fast as the service takes it. Raises ConnectionError where it is closed."""
        if self.lost.done():
            raise ConnectionResetError
        self.transport.write(b"".join(parts))
        if self._room.is_set():
            await asyncio.sleep(0)
        await self._room.wait()
        if self.lost.done():
            raise ConnectionResetError

    async def endless(self, data: bytes) -> None:
        """Write the same for ever. Raises ConnectionError at the end."""
        data *= max((1 << 16) // len(data), 1)
        while True:
            await self.send(data)

    async def answer(self) -> None:
        """Wait for the next answer's first line. Raises ConnectionError where none comes."""
        await self.answered.wait()
        self.answered.clear()
        if self.lost.done():
            raise ConnectionResetError

    async def stop_reading(self) -> None:
        """Read nothing more, until the service closes the connection."""
        self.transport.pause_reading()
        await self.end()

    async def end(self) -> None:
        """Wait until the connection is closed."""
        await asyncio.wait([self.lost])


class Target:
    """The service's address, the token of the hostile client, and the time of the attack."""

    def __init__(
        self, port: int, token: str, seconds: float, scale: float, waits: bool = True
    ) -> None:
        self.port = port
        self.token = token
        self.seen: Counter[str] = Counter()
        """Statuses of answers, and connections that were `cut` by the service."""
        self._seconds = seconds
        self._scale = scale
        self._waits = waits
        self._ends = 0.0

    async def begin(self) -> None:
        """The attack is prepared: say so, and wait for the word to start it, if it is the first."""
        loop = asyncio.get_running_loop()
        if self._waits:
            print("ready", flush=True)
            await loop.run_in_executor(None, sys.stdin.readline)
        self._ends = loop.time() + self._seconds

    @property
    def left_s(self) -> float:
        return self._ends - asyncio.get_running_loop().time()

    def scaled(self, count: int, least: int = 1) -> int:
        """So many of something that has to be there first, fewer in a short run."""
        return max(round(count * self._scale), least)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """A request's head, with the token unless the lines bring an `authorization`."""
        given = [f"{method} {path} HTTP/1.1", f"host: {HOST}", *lines]
        if not any(line.startswith("authorization:") for line in lines):
            given.append(f"authorization: Bearer {self.token}")
        return "\r\n".join((*given, "", "")).encode()

    def post(self, path: str, body: bytes, *lines: str) -> bytes:
        """A whole request with JSON."""
        kind = ("content-type: application/json", f"content-length: {len(body)}")
        return self.head("POST", path, *kind, *lines) + body

    def chunked(self, path: str, *lines: str) -> bytes:
        """The head of a request whose body comes in chunks."""
        kind = ("content-type: application/json", "transfer-encoding: chunked")
        return self.head("POST", path, *kind, *lines)

    @asynccontextmanager
    async def line(self, window: int = 0) -> AsyncIterator[Line]:
        """A connection, closed without a word at the end; `window`: its receive buffer."""
        loop = asyncio.get_running_loop()
        with socket.socket() as stream:
            if window:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            stream.setblocking(False)
            await loop.sock_connect(stream, (HOST, self.port))
            twin = stream.dup()
        _, line = await loop.create_connection(lambda: Line(self.seen), sock=twin)
        try:
            yield line
        finally:
            line.transport.abort()

    async def crowd(
        self, count: int, act: Callable[[Line], Awaitable[None]], window: int = 0
    ) -> None:
        """So many connections at once; each acts, and begins anew when it is over or cut."""

        async def one() -> None:
            while True:
                try:
                    async with self.line(window) as line:
                        await act(line)
                except CUT:
                    self.seen["cut"] += 1
                    await asyncio.sleep(AGAIN_S)

        workers = [asyncio.create_task(one()) for _ in range(count)]
        done, _ = await asyncio.wait(workers, timeout=max(self.left_s, 0))
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for worker in done:
            worker.result()  # a fault of the attack itself

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        """An ordinary client, for what has to be there before the attack."""
        headers = {"authorization": f"Bearer {self.token}"}
        timeout = aiohttp.ClientTimeout(total=120)
        base = f"http://{HOST}:{self.port}"
        async with aiohttp.ClientSession(base, headers=headers, timeout=timeout) as client:
            yield client

    async def tasks(self, bodies: list[dict[str, Any]]) -> list[str]:
        """Submit them; their ids."""
        found: list[str] = []
        async with self.client() as client:
            for at in range(0, len(bodies), 1000):
                data = {"tasks": bodies[at : at + 1000]}
                async with client.post("/tasks/batch", json=data) as answer:
                    answer.raise_for_status()
                    found += [task["task_id"] for task in (await answer.json())["tasks"]]
        return found

    async def finished(self, count: int, lines: Callable[[int], dict[str, Any]]) -> None:
        """Bring in so many finished tasks, a thousand at a time."""
        async with self.client() as client:
            for start in range(0, count, 1000):
                numbers = range(start, min(start + 1000, count))
                data = b"\n".join(orjson.dumps(lines(number)) for number in numbers)
                async with client.post("/admin/import", data=data) as answer:
                    answer.raise_for_status()


Attack = Callable[[Target], Awaitable[None]]


def attack(act: Attack) -> Attack:
    """Make it known by its name, with hyphens."""
    ATTACKS[act.__name__.replace("_", "-")] = act
    return act
