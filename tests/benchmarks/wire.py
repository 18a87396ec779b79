"""Load over raw sockets: prebuilt bytes out, as little as can be done with what comes back.

Owns the connections of a load generator. Promises that a connection has one request under way
at a time and that the generator costs a small part of what any server costs. Never parses JSON.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import cast

from tests.benchmarks import stage

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"

Answered = Callable[["Connection", int], None]


def request(path: str, body: bytes) -> bytes:
    """The bytes of a POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One kept-alive connection; `answered` is called with each answer's status, 0 for a loss."""

    def __init__(self, answered: Answered) -> None:
        self.sent_at = 0.0
        self.alive = True
        self.answer = b""
        """The last answer, whole."""
        self._answered = answered
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, data: bytes, at: float) -> None:
        """Send one request; `at` is when it was meant to leave, by `perf_counter`, as the
        loop's clock may stand still for a millisecond."""
        assert self._transport is not None
        self.sent_at = at
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        if length := LENGTH.search(buffer, 0, end):
            whole = len(buffer) >= end + 4 + int(length[1])
        else:
            whole = buffer.endswith(_LAST_CHUNK)
        if not whole:
            return
        self._buffer, self.answer = b"", buffer
        self._answered(self, int(buffer[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if self._transport is not None and self.sent_at:
            self._answered(self, 0)

    def close(self) -> None:
        self.sent_at = 0.0
        if self._transport is not None:
            self._transport.close()
            self._transport = None


async def connect(port: int, answered: Answered) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(answered), "127.0.0.1", port)
    return connection


async def saturate(
    port: int, data: bytes, count: int, connections: int, status: int = 202
) -> tuple[float, int]:
    """Send `count` requests, always one under way on each connection.

    Gives (requests per second, answers whose status was not `status`).
    """
    expected = status
    done = asyncio.get_running_loop().create_future()
    left, open_, wrong = count, 0, 0

    def answered(connection: Connection, status: int) -> None:
        nonlocal left, open_, wrong
        wrong += status != expected
        open_ -= 1
        if left and status:
            left -= 1
            open_ += 1
            connection.send(data, 1.0)
        elif not open_ and not done.done():
            done.set_result(None)

    lines = [await connect(port, answered) for _ in range(min(connections, count))]
    began = perf_counter()
    left -= len(lines)
    open_ = len(lines)
    for line in lines:
        line.send(data, 1.0)
    await done
    took = perf_counter() - began
    for line in lines:
        line.close()
    return count / took, wrong


async def offer(
    port: int, data: bytes, per_s: float, seconds: float, connections: Sequence[int] = (64, 900)
) -> tuple[list[float], int]:
    """Send evenly spaced requests whether the answers come or not (open loop).

    Gives (seconds from when each was meant to leave until its answer, answers that were not
    202). `connections`: how many at first and at most.
    """
    latencies: list[float] = []
    wrong, under_way = 0, 0

    def answered(connection: Connection, status: int) -> None:
        nonlocal wrong, under_way
        under_way -= 1
        wrong += status != 202
        latencies.append(perf_counter() - connection.sent_at)
        if status:
            connection.sent_at = 0.0
            free.append(connection)

    lines = [await connect(port, answered) for _ in range(connections[0])]
    free = list(lines)
    began = perf_counter()
    for number in range(round(per_s * seconds)):
        due = began + number / per_s
        await asyncio.sleep(max(due - perf_counter(), 0))
        while free and not free[-1].alive:
            free.pop()  # servers close what was idle for a while
        if not free and len(lines) < connections[1]:
            lines.append(await connect(port, answered))
            free.append(lines[-1])
        if free:
            under_way += 1
            free.pop().send(data, due)
        else:
            wrong += 1  # as many are unanswered as the service takes connections

    async def all_answered() -> bool:
        return not under_way

    await stage.until(all_answered, 30)
    for line in lines:
        line.close()
    return latencies, wrong
