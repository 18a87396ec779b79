"""Clients that take too little of the answers that wait for them.

Owns the measure of what a client has taken, as far as the system counts it, and how such a client
is cut. Promises that one which takes nothing, or a byte now and then, is found, and that a delay of
the service itself never counts. Never decides that a connection is to be cut.
"""

import asyncio
import socket
import struct
import sys
from contextlib import suppress

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.utils import is_ssl

from asyncsvc.web.http.sockets import CLOSE_WITHIN_S

if sys.platform == "linux":
    import fcntl
    import termios

READ_S, READ_RATE = 60.0, 1024
"""Seconds, and the bytes a second that a client must take on average of an answer that waits for
it: the slowest mobile networks bring several times as much."""
BYTES_ACKED = struct.Struct("120xQ")
"""`tcpi_bytes_acked` in Linux's `struct tcp_info` (since 4.2): bytes that the client received."""


class SlowReader:
    """Whether the client of one connection takes too little of the answer that waits for it.

    Nothing for a while: where the buffer is full, `stall_s`, which is the rule of the WebSockets
    (sockets.py); where it is not, or the connection is closing, the time that a closing may take.
    Little for long: below `READ_RATE` over `READ_S`, as a byte now and then is no reading.
    """

    __slots__ = ("_slow_from", "_slow_s", "_stall_s", "_taken", "_unread_s")

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._taken = 0
        self._unread_s = self._slow_s = 0.0
        self._slow_from = 0

    def stalled(self, transport: asyncio.Transport, full: bool, elapsed_s: float) -> bool:
        """Look once, some seconds after the last look."""
        waiting = waiting_bytes(transport)
        if not waiting:
            self._unread_s = self._slow_s = 0.0
            return False
        taken, before = bytes_taken(transport), self._taken
        self._taken = taken
        if not self._slow_s:
            self._slow_from = before
        self._slow_s += elapsed_s
        if self._slow_s >= READ_S:
            # Without the system's own count nothing is known of an average.
            if 0 < taken < self._slow_from + READ_RATE * self._slow_s:
                return True
            self._slow_s = 0.0
        self._unread_s = 0.0 if taken != before else self._unread_s + elapsed_s
        return self._unread_s >= (
            self._stall_s if full or waiting > HIGH_WATER_LIMIT else CLOSE_WITHIN_S
        )


def waiting_bytes(transport: asyncio.Transport) -> int:
    """The bytes that are written and not yet given to the system.

    A TLS transport says nothing of what the plain one below it holds: then, on Linux, these are
    the bytes that the system holds, which are more than none as long as the client reads nothing.
    """
    try:
        size = transport.get_write_buffer_size()
    except AttributeError:
        size = 0  # asyncio's TLS transport forgets its protocol when it is closed
    connection = transport.get_extra_info("socket")
    if size or sys.platform != "linux" or not is_ssl(transport) or connection is None:
        return size
    try:
        queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except OSError:
        return 0  # a closed socket
    return int.from_bytes(queued, sys.byteorder)


def reset(transport: asyncio.Transport) -> None:
    """Cut a connection with all that waits for its client, also in the system: closed as usual, the
    system would go on to offer it for minutes."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def bytes_taken(transport: asyncio.Transport) -> int:
    """A count that changes when the client receives bytes of the connection.

    On Linux these are the bytes that the client's system acknowledged: the local one takes bytes
    in steps of a third of its send buffer, for which a slow client may need a while. Elsewhere
    it is the negative size of the write buffer.
    """
    connection = transport.get_extra_info("socket")
    if sys.platform == "linux" and connection is not None:
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.size)
            return int(BYTES_ACKED.unpack(info)[0])
        except (OSError, struct.error):
            pass  # a closed socket, or a kernel without this field
    return -waiting_bytes(transport)
