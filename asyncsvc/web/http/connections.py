"""TCP connections of the HTTP server: their number, their speed, and the size of a head.

`Connections` is the set of open connections with the limits that need no parsed request: the
number of connections, the seconds that a head may take, the progress that a body must make, the
size of a head, and the seconds that an answer may wait for a client that does not read. A client
is never cut for a delay that the service itself causes.

Beyond the limit a few more connections are accepted for supervisors, whose probes are answered
at any time; `auth.Authenticator` refuses all other requests on them.
"""

import asyncio
import json
import logging
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from asyncsvc.errors import HeadTooLarge, InvalidHttp, Overloaded, RequestError, RequestTimeout
from asyncsvc.web.http.auth import CROWDED
from asyncsvc.web.http.sockets import CLOSE_WITHIN_S, STALL_S

Headers = Iterable[tuple[bytes, bytes]]
OFFER = frozenset({b"upgrade", b"http2-settings"})
WEBSOCKET = b"websocket"


class Reader(Protocol):
    """What the parser needs of the connection: the head as far as it was read."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class Parser(httptools.HttpRequestParser):
    """uvicorn's parser, but that it goes on after an offer which is ignored."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._reader = reader
        # As uvicorn does: a request that follows `Connection: close` in one packet is no error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def ignores(self) -> bool:
        """Whether the message that has just been read ended because of an offer to ignore."""
        return self.should_upgrade() and _offers_other(self._reader.headers)

    def feed_data(self, data: "bytes | bytearray | memoryview | array[int]") -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not _offers_other(self._reader.headers):
                raise
            rest = bytes(memoryview(data)[offer.args[0] :])
            self.feed_data(self._head() + rest)

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._reader.url, version)]
        kept = ((name, value) for name, value in self._reader.headers if name not in OFFER)
        lines += [b"%s: %s" % pair for pair in kept]
        return b"\r\n".join([*lines, b"", b""])


def _offers_other(headers: Headers) -> bool:
    """Whether a protocol is offered, but not WebSocket."""
    offers = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    return bool(offers) and WEBSOCKET not in offers


log = logging.getLogger(__name__)

SPARE = 16
"""Connections beyond the most that are still answered."""
HEAD_BYTES = 64 * 1024
LEAST_RATE = 1024
"""Bytes a second that count as progress of a body."""
LINGER_S = 1.0
BYTES_ACKED = struct.Struct("120xQ")
"""`tcpi_bytes_acked` in Linux's `struct tcp_info` (since 4.2): bytes that the client received."""


class Connections:
    """All of them; `protocol` makes one."""

    def __init__(
        self,
        most: int,
        patience_s: float,
        body_most: int,
        stall_s: float = STALL_S,
    ) -> None:
        self.most = most
        self.patience_s = patience_s
        self.stall_s = stall_s
        """How long an answer may find no room while its reader takes nothing."""
        self.wire_most = 8 * body_most + (1 << 20)
        """Bytes that a request may take, with all that chunks of a byte add to it."""
        self._open: dict[asyncio.Transport, Connection | None] = {}
        """By transport; None for those that have become WebSockets."""
        self._tick: asyncio.TimerHandle | None = None
        self._every_s = min(1.0, patience_s / 5, stall_s / 5)

    def __len__(self) -> int:
        return len(self._open)

    def protocol(self, **parts: Any) -> "Connection":
        """What uvicorn calls for each new connection."""
        return Connection(self, **parts)

    def add(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self._open[transport] = connection
        if self._tick is None:
            self._later()

    def became_websocket(self, transport: asyncio.Transport) -> Callable[[], None]:
        """It has other rules from now on; call the answer when it is lost."""
        self._open[transport] = None
        return lambda: self.discard(transport)

    def discard(self, transport: asyncio.Transport) -> None:
        self._open.pop(transport, None)

    def _later(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick = loop.call_later(self._every_s, self._look) if self._open else None

    def _look(self) -> None:
        """One round for all is cheaper than a timer for each request."""
        for connection in list(self._open.values()):
            if connection is not None:
                connection.look(self._every_s)
        self._later()


class Connection(HttpToolsProtocol):
    """One of them, as long as it speaks HTTP."""

    def __init__(self, connections: Connections, **parts: Any) -> None:
        super().__init__(**parts)
        self.parser = self._requests = Parser(self)
        self._all = connections
        self._refused = False
        self._wire = 0
        """Bytes since the message began."""
        self._seen = 0
        self._seen_scope: Any = None
        self._quiet_s = 0.0
        self._taken = 0
        self._unread_s = 0.0
        """How long the client has taken nothing of what waits for it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self._all) >= self._all.most + SPARE:
            self._refuse(transport)
            return
        if len(self._all) >= self._all.most:
            self.app_state = {**self.app_state, CROWDED: True}
        self._all.add(transport, self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._refused:
            self._all.discard(self.transport)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        self._wire += len(data)
        if self._wire > HEAD_BYTES:
            self._check_size()

    def on_message_begin(self) -> None:
        self._wire = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if not self._requests.ignores():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._requests.ignores():
            return  # the message follows once more
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        socket: Any = self.transport.get_protocol()
        socket.when_lost = self._all.became_websocket(self.transport)

    def send_400_response(self, msg: str) -> None:
        self._cut(InvalidHttp("this is no HTTP request"), asked=True)

    def look(self, elapsed_s: float) -> None:
        """Cut a client that does not read its answer, or that does not send its request."""
        if self._stalled(elapsed_s):
            path = "" if self.scope is None else self.scope["path"]
            log.info("a client that does not read its answer is disconnected: %s", path)
            self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if self.scope is not self._seen_scope:
            self._seen_scope, self._seen, self._quiet_s = self.scope, 0, 0.0
        waits = self._waits_for_client()
        if waits and not self._in_head() and self._wire - self._seen >= LEAST_RATE * elapsed_s:
            waits = False
        self._seen = self._wire
        self._quiet_s = self._quiet_s + elapsed_s if waits else 0.0
        if self._quiet_s >= self._all.patience_s:
            self._cut(RequestTimeout("the request came too slowly"), asked=self._wire > 0)

    def _stalled(self, elapsed_s: float) -> bool:
        """Whether the client has taken nothing for too long of an answer that waits for it.

        The rule of the WebSockets (sockets.py): where the buffer is full, `stall_s`; where it is
        not, or the connection is closing, the time that a closing may take.
        """
        if not self.transport.get_write_buffer_size():
            self._unread_s = 0.0
            return False
        taken, before = bytes_taken(self.transport), self._taken
        self._taken = taken
        if taken != before:
            self._unread_s = 0.0
            return False
        self._unread_s += elapsed_s
        return self._unread_s >= (self._all.stall_s if self.flow.write_paused else CLOSE_WITHIN_S)

    def _in_head(self) -> bool:
        # A head that is complete has its cycle, made with the very same scope.
        return self.cycle is None or self.cycle.scope is not self.scope

    def _waits_for_client(self) -> bool:
        if self.timeout_keep_alive_task is not None:
            return False  # between two requests; uvicorn ends that by itself
        if self._in_head():
            return True
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            return False  # it is we who do not read
        # After an early answer the rest of the body is still to come, and is thrown away.
        return self.cycle.more_body or self.cycle.response_complete

    def _check_size(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head():
            self._cut(HeadTooLarge(f"a request's head may have {HEAD_BYTES} bytes"), asked=True)
        elif self._wire > self._all.wire_most:
            self.transport.abort()

    def _cut(self, error: RequestError, asked: bool) -> None:
        """Notify the client, where it can still be reached, and close; `asked`: it has begun to."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            asked = not cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
        elif cycle is not None and not self._in_head():
            asked = False  # it has its answer already
        if asked:
            self.transport.write(raw(error))
        self.transport.close()

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Answer before the client has asked, and wait for it to have read that: closed at
        once, a request on its way would destroy the answer."""
        self._refused = True
        full = f"{self._all.most} connections are open already"
        transport.write(raw(Overloaded(full, retry_after=5)))
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)


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
    return -transport.get_write_buffer_size()


def raw(error: RequestError) -> bytes:
    """An error as a whole HTTP answer."""
    body = json.dumps(error.body(), separators=(",", ":")).encode()
    retry = "" if error.retry_after is None else f"retry-after: {round(error.retry_after)}\r\n"
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return STATUS_LINE[error.status] + head.encode("ascii") + body
