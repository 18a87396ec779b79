"""A connection's transport that sends an answer's head together with its body.

Owns the head for the moment between the two. Promises that every byte goes out in order, and a
head without a body at the latest in the loop's next round. Never looks into a body.

uvicorn writes the two one after the other, and each write is a system call: for a short answer the
second was a tenth of all that the answer cost.
"""

import asyncio
import sys
from typing import Any

if sys.platform == "linux":
    import fcntl
    import struct
    import termios

    def queued(descriptor: int) -> int:
        """Bytes of a TCP connection that the system holds, as the other side has not received
        them."""
        try:
            found = fcntl.ioctl(descriptor, termios.TIOCOUTQ, struct.pack("i", 0))
        except (OSError, ValueError):  # it is closed
            return 0
        return int(struct.unpack("i", found)[0])

else:  # pragma: no cover

    def queued(descriptor: int) -> int:
        """Not told here."""
        return 0


class Corked:
    """All else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data[:5] == b"HTTP/" and data[-4:] == b"\r\n\r\n":
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self._put(data)

    def taken(self) -> int:
        """Bytes written so far that the other side has received, where the system tells; else
        those that the system has taken. It takes them in lumps of a third of its buffer, for
        which a slow reader may need a while."""
        return self._written - self._transport.get_write_buffer_size() - self._queued()

    def _queued(self) -> int:
        socket = self._transport.get_extra_info("socket")
        return 0 if socket is None else queued(socket.fileno())

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._put(head)

    def _put(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)
