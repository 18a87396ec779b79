"""The cheapest provider there is: one prepared stream for every call.

Promises to cost a small part of what any client of it costs, so that a service can be driven to
its own limit. `GET` answers with the number of calls answered so far. It keeps no record, has
no limits and never fails; for those there is the simulator.
"""

import argparse
import asyncio
import re
from dataclasses import dataclass
from typing import cast

import orjson
import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
TEXT = ("It", " is", " done", ".")


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "fast", "choices": [choice]}) + b"\n\n"


_BODY = b"".join(_event({"content": text}) for text in TEXT)
_BODY += _event({}, "stop") + b"data: [DONE]\n\n"


def _answer(kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


STREAM = _answer(b"text/event-stream", _BODY)


@dataclass(slots=True)
class TaskCounters:
    """Calls answered on all connections."""

    answered: int = 0


class Provider(asyncio.Protocol):
    """One connection; requests may arrive in any pieces."""

    def __init__(self, task_counters: TaskCounters) -> None:
        self._task_counters = task_counters
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            asked, self._buffer = self._buffer[:4], self._buffer[whole:]
            if asked == b"POST":
                self._task_counters.answered += 1
                self._transport.write(STREAM)
            else:
                self._transport.write(_answer(b"text/plain", b"%d" % self._task_counters.answered))


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    task_counters = TaskCounters()
    server = await loop.create_server(lambda: Provider(task_counters), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
