"""WebSocket clients that do not read, on raw sockets with a small window.

Owns those sockets. Promises to read nothing after the handshake until it is asked to, and then
to read up to the close frame. Never looks into the events.
"""

import asyncio
import base64
import os
import socket
import struct
from types import TracebackType
from typing import Self

from tests.benchmarks.stage import HOST

WINDOW = 4096
CLOSE = 8


def head(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        f"GET {path} HTTP/1.1", f"host: {HOST}", "upgrade: websocket", "connection: upgrade",
        "sec-websocket-version: 13", f"sec-websocket-key: {key}",
    )  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode()


class SlowReaders:
    """`async with SlowReaders(port, path, count)`: as many handshakes are done, nothing is read."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self._port = port
        self._path = path
        self._sockets = [socket.socket() for _ in range(count)]

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._connect(stream) for stream in self._sockets))
        return self

    async def _connect(self, stream: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        stream.setblocking(False)
        await loop.sock_connect(stream, (HOST, self._port))
        await loop.sock_sendall(stream, head(self._path))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await loop.sock_recv(stream, 1)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(f"the handshake was answered {answer!r}")

    async def close_codes(self) -> list[int | None]:
        """Read everything now; the code with which each was closed, None where it was cut."""
        return await asyncio.gather(*(self._code(stream) for stream in self._sockets))

    async def _code(self, stream: socket.socket) -> int | None:
        """Skips whole frames; a server's frames are not masked."""
        loop = asyncio.get_running_loop()
        data = b""
        while True:
            frame = frame_in(data)
            if frame is None:
                part = await loop.sock_recv(stream, 1 << 20)
                if not part:
                    return None
                data += part
                continue
            start, end = frame
            if data[0] & 0xF == CLOSE:
                return int(struct.unpack(">H", data[start : start + 2])[0])
            data = data[end:]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in self._sockets:
            stream.close()


def frame_in(data: bytes) -> tuple[int, int] | None:
    """Where the first frame's body begins and ends; None where it is not there as a whole."""
    if len(data) < 10 and (len(data) < 2 or data[1] & 0x7F > 125):
        return None
    size, start = data[1] & 0x7F, 2
    if size == 126:
        size, start = struct.unpack(">H", data[2:4])[0], 4
    elif size == 127:
        size, start = struct.unpack(">Q", data[2:10])[0], 10
    return (start, start + size) if len(data) >= start + size else None
