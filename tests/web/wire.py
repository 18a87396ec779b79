"""A connection of which a test sends the bytes itself and sees whether it stays usable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def code(self) -> str:
        """The code of a refusal."""
        return str(orjson.loads(self.body)["error"]["code"])

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(frozen=True)
class Wire:
    """One connection; `ask` sends a request and reads one answer with a Content-Length."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, sent: bytes) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            self.writer.write(sent)
            await self.writer.drain()
            return await self.answer(bodiless=sent.startswith(b"HEAD "))

    async def answer(self, bodiless: bool = False) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        size = 0 if bodiless else int(headers.get("content-length", "0"))
        body = await self.reader.readexactly(size)
        return Answer(int(first.split()[1]), headers, body)


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def head(method: str, path: str, *lines: str) -> bytes:
    """A request's head; it names the host unless the lines do."""
    hosts = [] if any(line.lower().startswith("host:") for line in lines) else ["host: 127.0.0.1"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *hosts, *lines, "", ""]).encode("latin-1")


def post(path: str, body: bytes, *lines: str) -> bytes:
    return head("POST", path, f"content-length: {len(body)}", *lines) + body


def chunked(path: str, body: bytes, size: int = 65536) -> bytes:
    """The same body without its length announced."""
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head("POST", path, "transfer-encoding: chunked") + framed + b"0\r\n\r\n"
