"""A connection's transport that sends an answer's head together with its body.

Owns the head for the moment between the two. Promises that every byte goes out in order, and a
head without a body at the latest in the loop's next round. Never looks into a body.

uvicorn writes the two one after the other, and each write is a system call: for a short answer the
second was a tenth of all that the answer cost.
"""

import asyncio
from typing import Any


class Corked:
    """All else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data[:5] == b"HTTP/" and data[-4:] == b"\r\n\r\n":
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
