"""The server's side of one WebSocket: uvicorn's protocol with bounds on what a client can cause.

Fragments of a message are counted, as empty ones have no size; a pong is written only while the
client reads; a handshake that cannot be read is answered 400.
"""

from collections.abc import Callable
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from asyncsvc.errors import InvalidHttp
from asyncsvc.web.http.connections import raw
from asyncsvc.web.http.sockets import CLOSE, CLOSE_WITHIN_S, WRITE

FRAGMENTS_MOST = 1024
TOO_BIG = 1009


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that can be closed while its buffer is full, and that takes whole frames."""

    when_lost: Callable[[], None] | None = None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[CLOSE] = self.close_now
            extensions[WRITE] = self.write_now

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        # Before the handshake there is nothing to close: the request itself is at fault.
        self.handshake_complete = self.close_sent = True
        self.transport.write(raw(InvalidHttp("this is no WebSocket handshake")))
        self.transport.close()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # dropped: its client does not read what it has already

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent or len(self.frames) < FRAGMENTS_MOST:
            super().handle_cont(event)
        else:
            self.frames = []
            self.close_now(TOO_BIG, f"a message may have {FRAGMENTS_MOST} fragments")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    def write_now(self, frame: bytes) -> bool:
        """Write a whole frame where the client is connected and its buffer has room; else write
        nothing and return False: `send` then waits, or knows the reason."""
        if (
            not self.writable.is_set()
            or self.disconnected
            or self.close_sent
            or self.conn.state is not State.OPEN
            or self.conn.extensions  # such as compression: a frame is then the connection's own
        ):
            return False
        self.transport.write(frame)
        return True

    def close_now(self, code: int, reason: str) -> None:
        """Queue the close frame behind what is buffered; a client that never reads it is cut."""
        if self.close_sent or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            # Messages are no longer read, but the client's close frame must be seen.
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_WITHIN_S, self.transport.abort)
