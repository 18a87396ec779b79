"""The cheapest provider there is: one prepared answer for every call, as a stream or whole.

Promises to cost a small part of what any client of it costs, so that a service can be driven to
its own limit. `GET` answers with the number of calls answered so far. The provider stores no
record, has no limits, waits for nothing and never fails; for those there is the simulator.
"""

import argparse
import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import orjson
import uvloop

_STREAM = re.compile(rb'"stream":\s*true')
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
TEXT = ("It", " is", " done", ".")


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "fast", "choices": [choice]}) + b"\n\n"


def _answer(kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def texts(chunks: int) -> tuple[str, ...]:
    """The pieces of an answer of so many chunks."""
    return tuple(f" word{number}" for number in range(chunks))


def stream(pieces: Sequence[str]) -> bytes:
    """The answer as a stream of events, one a piece."""
    body = b"".join(_event({"content": text}) for text in pieces)
    return _answer(b"text/event-stream", body + _event({}, "stop") + b"data: [DONE]\n\n")


def completion(pieces: Sequence[str]) -> bytes:
    """The answer as one JSON object."""
    message = {"role": "assistant", "content": "".join(pieces)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {"id": "fast", "object": "chat.completion", "created": 0, "model": "fast"}
    return _answer(b"application/json", orjson.dumps({**whole, "choices": [choice]}))


@dataclass(slots=True)
class Counters:
    """The answer of every connection, and the calls answered on all of them."""

    pieces: tuple[str, ...] = TEXT
    answered: int = 0


class Provider(asyncio.Protocol):
    """One connection; requests may arrive in any pieces."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._stream = stream(counters.pieces)
        self._completion = completion(counters.pieces)
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
            asked, self._buffer = self._buffer[:whole], self._buffer[whole:]
            if asked.startswith(b"POST"):
                self._counters.answered += 1
                self._transport.write(self._stream if _STREAM.search(asked) else self._completion)
            else:
                self._transport.write(_answer(b"text/plain", b"%d" % self._counters.answered))


async def serve(port: int, pieces: tuple[str, ...]) -> None:
    loop = asyncio.get_running_loop()
    counters = Counters(pieces)
    server = await loop.create_server(lambda: Provider(counters), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, help="pieces of an answer")
    given = parser.parse_args()
    uvloop.run(serve(given.port, texts(given.chunks) if given.chunks else TEXT))


if __name__ == "__main__":
    main()
