"""A gateway's HTTP side as bytes: recorded through a proxy, replayed over a real socket.

Owns the form of `recorded/http_*.json`. An exchange is the request's line and body, and the raw
bytes of the answer, cut after its head and after each transfer chunk: the borders are the
gateway's, the pauses are not kept. Promises to say nothing that was not recorded. Both refuse a
WebSocket: an HTTP client goes without.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

HERE = Path(__file__).with_name("recorded")
HEAD_END = b"\r\n\r\n"


@dataclass
class Exchange:
    """`end`: how the answer ended: `whole`, `cut` by the gateway, or `left` by the client."""

    line: str
    body: Any
    sent: list[bytes] = field(default_factory=list)
    end: str = "whole"


def save(name: str, found: list[Exchange], secrets: list[str]) -> None:
    """What was recorded, as a file. A secret in an answer would move its borders: none may be."""
    rows = []
    for one in found:
        raw = b"".join(one.sent)
        assert not any(secret.encode() in raw for secret in secrets), f"a secret in {name}"
        sent = [piece.decode("latin-1") for piece in pieces(raw)]
        rows.append({"line": one.line, "body": one.body, "sent": sent, "end": one.end})
    text = orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n"
    (HERE / f"http_{name}.json").write_bytes(text)


def load(name: str) -> list[Exchange]:
    rows = orjson.loads((HERE / f"http_{name}.json").read_bytes())
    sent = [[piece.encode("latin-1") for piece in row["sent"]] for row in rows]
    return [
        Exchange(row["line"], row["body"], parts, row["end"])
        for row, parts in zip(rows, sent, strict=True)
    ]


def pieces(raw: bytes) -> list[bytes]:
    """An answer cut after its head, and after each of its chunks."""
    head, gap, rest = raw.partition(HEAD_END)
    found = [head + gap]
    if b"transfer-encoding: chunked" not in head.lower():
        return [*found, rest] if rest else found
    while rest:
        size, gap, after = rest.partition(b"\r\n")
        if not gap:
            return [*found, rest]
        length = int(size, 16) + 2
        found.append(size + gap + after[:length])
        rest = after[length:]
    return found


async def request(reader: StreamReader) -> tuple[bytes, Exchange] | None:
    """The next request as it came, and as an exchange; None at the end or for a WebSocket."""
    try:
        head = await reader.readuntil(HEAD_END)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    if "upgrade" in fields:
        return None
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return head + body, Exchange(lines[0], orjson.loads(body) if body else None)


@asynccontextmanager
async def _listening(each: Any) -> AsyncGenerator[int]:
    """The port of a server whose connections all end with it."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError, ConnectionError):
                await each(reader, writer)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Tap:
    """A proxy before a gateway; `found` are the exchanges so far."""

    def __init__(self, gateway_port: int) -> None:
        self.found: list[Exchange] = []
        self._port = gateway_port

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        opened: list[Exchange] = []
        first = await request(reader)
        if first is None:
            return
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._back(there, writer, opened))
        try:
            asked: tuple[bytes, Exchange] | None = first
            while asked is not None:
                self.found.append(asked[1])
                opened.append(asked[1])
                here.write(asked[0])
                asked = await request(reader)
            if not back.done() and opened[-1].sent and not _whole(opened[-1]):
                opened[-1].end = "left"
        finally:
            here.close()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    async def _back(
        self, there: StreamReader, writer: StreamWriter, opened: list[Exchange]
    ) -> None:
        while data := await there.read(65536):
            opened[-1].sent.append(data)
            writer.write(data)
            await writer.drain()
        if not _whole(opened[-1]):
            opened[-1].end = "cut"
        writer.close()


def _whole(one: Exchange) -> bool:
    raw = b"".join(one.sent)
    if b"transfer-encoding: chunked" in raw.partition(HEAD_END)[0].lower():
        return raw.endswith(b"0\r\n\r\n")
    return HEAD_END in raw


@asynccontextmanager
async def tapped(gateway_port: int) -> AsyncGenerator[tuple[Tap, int]]:
    """A proxy before the gateway, and its port."""
    tap = Tap(gateway_port)
    async with _listening(tap) as port:
        yield tap, port


class Player:
    """Says what was recorded, in that order; `left` is set when a client hung up in the middle."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self.asked: list[Exchange] = []
        self.heads: list[str] = []
        self.left = asyncio.Event()
        self._left = list(exchanges)

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        while (came := await request(reader)) is not None:
            self.asked.append(came[1])
            self.heads.append(came[0].partition(HEAD_END)[0].decode("latin-1"))
            if not self._left:
                return
            one = self._left.pop(0)
            for piece in one.sent:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if one.end == "left":
                await reader.read()
                self.left.set()
            if one.end != "whole":
                return


@asynccontextmanager
async def played(exchanges: list[Exchange]) -> AsyncGenerator[tuple[Player, int]]:
    """A gateway that says what was recorded, and its port."""
    player = Player(exchanges)
    async with _listening(player) as port:
        yield player, port
