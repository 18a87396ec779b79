"""An HTTP client that shows what was really on the wire: reads, chunks, how the end came."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from asyncsvc.simulator import Running

LIMIT_S = 20.0


@dataclass
class Raw:
    """One answer; ``ended`` is "eof" or "reset", ``terminated`` whether HTTP's end was there."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reads: list[bytes] = field(default_factory=list)
    ended: str = ""
    terminated: bool = False

    def json(self) -> Any:
        return orjson.loads(self.body)

    def events(self) -> list[str]:
        """The data of server-sent events, in order."""
        blocks = self.body.decode("utf-8").split("\n\n")
        return [b.strip("\n")[6:] for b in blocks if b.strip("\n").startswith("data: ")]

    def chunks(self) -> list[Any]:
        return [orjson.loads(event) for event in self.events() if event != "[DONE]"]

    def text(self, name: str = "content") -> str:
        deltas = [chunk["choices"][0]["delta"] for chunk in self.chunks() if chunk.get("choices")]
        return "".join(delta.get(name) or "" for delta in deltas)


def user(content: str, **more: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def request_bytes(
    payload: object,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: tuple[str, ...] = ("connection: close",),
) -> bytes:
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    lines = (f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def opened(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and send; the answer is left to the caller."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def fetch(port: int, payload: object = b"", **how: Any) -> Raw:
    """One request on a connection of its own, read until the server ends it."""
    reader, writer = await opened(port, request_bytes(payload, **how))
    raw = Raw()
    try:
        async with asyncio.timeout(LIMIT_S):
            while piece := await reader.read(1 << 20):
                raw.reads.append(piece)
        raw.ended = "eof"
    except ConnectionResetError:
        raw.ended = "reset"
    finally:
        writer.close()
    _parse(raw)
    return raw


def _parse(raw: Raw) -> None:
    head, _, rest = b"".join(raw.reads).partition(b"\r\n\r\n")
    if not head:
        return
    status_line, *lines = head.decode("latin-1").split("\r\n")
    raw.status = int(status_line.split()[1])
    raw.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    if raw.headers.get("transfer-encoding") == "chunked":
        raw.body, raw.terminated = _unchunk(rest)
    else:
        raw.body = rest
        raw.terminated = len(rest) == int(raw.headers["content-length"])


def _unchunk(rest: bytes) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    while rest:
        length, found, after = rest.partition(b"\r\n")
        if not found:
            break
        size = int(length, 16)
        if size == 0:
            return b"".join(pieces), after == b"\r\n"
        pieces.append(after[:size])
        rest = after[size + 2 :]
    return b"".join(pieces), False


def in_flight(server: Running, model: str = "m") -> int:
    """How many calls of a model are in flight; a model that was never called has none."""
    figures = server.simulator.stats()["models"].get(model, {"in_flight": 0})
    return int(figures["in_flight"])


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds; the limit only bounds a failing test."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
