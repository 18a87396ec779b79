"""A provider that sends exact bytes, as the `upstream` of a case says.

Each run has a listener of its own, so that calls are counted by themselves and no connection is
shared. Nothing of an HTTP library stands between the case and the wire.
"""

import asyncio
import base64
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Self

Object = dict[str, Any]

LONGEST_HEAD = 1 << 20
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_MOMENT = re.compile(r"\{\{(epoch|epoch_ms|date)\+(\d+(?:\.\d+)?)\}\}")
_CHUNKED = re.compile(r"^transfer-encoding:.*chunked", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `body` is empty where the answer does not wait for it."""

    head: str
    body: bytes
    number: int
    """From 1, over all connections."""
    idle_s: float | None
    """How long the connection was idle before; None for its first request."""
    at: float

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return None

    @property
    def json(self) -> Object:
        with suppress(ValueError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        return {}


@dataclass
class Provider:
    """One listener that plays one script. Use as `async with Provider(upstream)`."""

    upstream: Object
    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What went wrong in the script itself."""
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LONGEST_HEAD)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered_at: float | None = None
        wire = Wire(writer)
        try:
            while not wire.closed:
                request = await self._read(reader, answered_at)
                await wire.play(self._chosen(request))
                answered_at = time.monotonic()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the service is done with the connection
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, answered_at: float | None) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        now = time.monotonic()
        idle_s = None if answered_at is None else now - answered_at
        request = Request(head, b"", len(self.requests) + 1, idle_s, now)
        self.requests.append(request)
        if not self._script[0].get("before_body"):
            body = await _body(request, reader)
            request = Request(head, body, request.number, idle_s, now)
            self.requests[request.number - 1] = request
        return request

    @property
    def _script(self) -> list[Object]:
        script: list[Object] = self.upstream.get("script") or [self.upstream]
        return script

    def _chosen(self, request: Request) -> Object:
        for answer in self._script:
            if fits(answer.get("when", {}), request):
                return answer
        raise LookupError(f"no answer of the script fits request {request.number}")


async def _body(request: Request, reader: asyncio.StreamReader) -> bytes:
    length = request.header("content-length")
    if length is not None:
        return await reader.readexactly(int(length))
    if "chunked" not in (request.header("transfer-encoding") or ""):
        return b""
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)


def fits(when: Object, request: Request) -> bool:
    """Whether all conditions hold for the request."""
    return all(_holds(name, value, when, request) for name, value in when.items())


def _holds(name: str, value: Any, when: Object, request: Request) -> bool:
    body = request.json
    messages = [m for m in body.get("messages") or [] if isinstance(m, dict)]
    match name:
        case "nth_request":
            return bool(request.number == value)
        case "body_has":
            return str(value).encode() in request.body
        case "field":
            return bool(body.get(value))
        case "over":
            number = body.get(when["field"]) if "field" in when else None
            return isinstance(number, int | float) and number > value
        case "role":
            return any(message.get("role") == value for message in messages)
        case "null_in_messages":
            keys = [value] if isinstance(value, str) else value
            return any(key in m and m[key] is None for m in messages for key in keys)
        case "accept_lacks":
            accepted = (request.header("accept") or "*/*").lower()
            return not any(kind in accepted for kind in value)
        case "idle_over_s":
            return request.idle_s is not None and request.idle_s > value
    raise ValueError(f"unknown condition {name!r}")


class Wire:
    """What is sent on one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = False
        self.closed = False

    async def play(self, answer: Object) -> None:
        """Send one answer of a script."""
        if "steps" in answer:
            for step in answer["steps"]:
                for _ in range(step.get("repeat", 1)):
                    for name, value in step.items():
                        await self._step(name, value)
            return
        await self._head(answer["head"])
        for piece in _pieces(_bytes(answer), answer.get("pieces", self._cut)):
            await self._send(piece)
        then = answer.get("then", "keep")
        if self._chunked and then != "cut":
            await self._raw(b"0\r\n\r\n")
        if then != "keep":
            self.closed = True

    @property
    def _cut(self) -> str:
        return "events" if self._chunked else "whole"

    async def _step(self, name: str, value: Any) -> None:
        match name:
            case "head":
                await self._head(value)
            case "send":
                await self._send(value.encode())
            case "raw":
                await self._raw(value.encode())
            case "wait_s":
                await asyncio.sleep(value)
            case "repeat":
                pass
            case "gzip":
                await self._gzip(value)
            case "end":
                await self._raw(b"0\r\n\r\n")
            case "close":
                self.closed = True
            case "reset":
                self._reset()
            case _:
                raise ValueError(f"unknown step {name!r}")

    async def _head(self, head: str) -> None:
        head = _MOMENT.sub(_moment, head)
        self._chunked = bool(_CHUNKED.search(head))
        await self._raw(head.encode() + b"\r\n\r\n")

    async def _send(self, data: bytes) -> None:
        await self._raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data)

    async def _raw(self, data: bytes) -> None:
        if not self.closed:
            self._writer.write(data)
            await self._writer.drain()
            # The other side may read this part before the next one comes.
            await asyncio.sleep(0)

    async def _gzip(self, how: Object) -> None:
        await self._head(how["head"])
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        megabyte = b" " * 1_000_000
        for _ in range(how["blanks_mb"]):
            await self._send(packer.compress(megabyte))
        await self._send(packer.compress(how["then"].encode()) + packer.flush())
        if self._chunked:
            await self._raw(b"0\r\n\r\n")
        else:
            self.closed = True  # the head names no length

    def _reset(self) -> None:
        self.closed = True
        own: socket.socket = self._writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def _bytes(answer: Object) -> bytes:
    body: str = answer.get("body", "")
    match answer.get("encoding"):
        case None:
            return body.encode()
        case "base64":
            return base64.b64decode(body)
        case encoding:
            return body.encode(encoding)


def _pieces(body: bytes, how: str) -> Iterator[bytes]:
    if how == "whole":
        yield body
    elif how == "bytes":
        for number in range(len(body)):
            yield body[number : number + 1]
    else:
        begin = 0
        for blank in _BLANK_LINE.finditer(body):
            yield body[begin : blank.end()]
            begin = blank.end()
        if begin < len(body):
            yield body[begin:]


def _moment(found: re.Match[str]) -> str:
    at = time.time() + float(found[2])
    match found[1]:
        case "epoch":
            return str(int(at))
        case "epoch_ms":
            return str(int(at * 1000))
    return formatdate(at, usegmt=True)


@asynccontextmanager
async def listening(upstream: Object) -> AsyncGenerator[Provider]:
    """A provider with this script, until the block ends."""
    async with Provider(upstream) as provider:
        yield provider
