"""The server's side of one WebSocket: uvicorn's protocol with bounds on what a client can cause.

Fragments of a message are counted, as empty ones have no size; so are pings and pongs, and a pong
is written only while the client reads. What is received is parsed in pieces, and no further than
the application reads.
"""

from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from asyncsvc.errors import without_frames
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.web.http.pieces import Pieces
from asyncsvc.web.http.sockets import CLOSE, CLOSE_WITHIN_S, REFUSED, TOO_BIG, WRITE

FRAGMENTS_MOST = 1024
"""Of one message: those of a message of `FRAME_BYTES` that is sent in pieces of a kilobyte."""
CONTROL_MOST, CONTROL_S = 512, 10.0
"""Pings and pongs that a client may send in so many seconds; after our close frame, frames of all
kinds."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that can be closed while its buffer is full, and that takes whole frames."""

    when_lost: Callable[[], None] | None = None

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.pieces = Pieces(LoopTurns())
        """Their turns are replaced by those of all connections."""
        self._extensions: dict[str, object] = {}
        """Of the scope; two of them hold this connection."""
        self._control = 0
        self._control_since = 0.0

    def data_received(self, data: bytes) -> None:
        self.pieces.received(data, self)

    def parse(self, piece: bytes) -> None:
        """Parse a piece of what came."""
        super().data_received(piece)

    def takes_more(self) -> bool:
        """Whether the application may have another message."""
        return not (self.read_paused or self.transport.is_closing())

    def is_paused(self) -> bool:
        """Whether the application has not taken the last message yet."""
        return self.read_paused

    async def receive(self) -> Any:
        message = await super().receive()
        self.pieces.pause_if_full(self.transport)  # uvicorn reads on where it waits for a message
        if not self.read_paused:
            self.pieces.go_on(self)
        return message

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self._extensions = cast(dict[str, object], self.scope["extensions"])
            self._extensions |= {CLOSE: self.close_now, WRITE: self.write_now}

    def handle_ping(self) -> None:
        if self._is_flooded():
            return
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # dropped: its client does not read what it has already

    def handle_pong(self, event: Frame) -> None:
        if not self._is_flooded():
            super().handle_pong(event)

    def handle_text(self, event: Frame) -> None:
        # As bytes: `Socket.receive` decodes them. uvicorn would log a traceback for text that is
        # not UTF-8, with each message.
        self.handle_bytes(event)

    def handle_bytes(self, event: Frame) -> None:
        if not self.close_sent or not self._is_flooded():
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            self._is_flooded()
        elif len(self.frames) < FRAGMENTS_MOST:
            super().handle_cont(event)
        else:
            self.frames = []
            self.close_now(TOO_BIG, f"a message may have {FRAGMENTS_MOST} fragments")

    def _is_flooded(self) -> bool:
        """Count a frame that brings no message; a client that sends too many is disconnected."""
        now = self.loop.time()
        if now - self._control_since > CONTROL_S:
            self._control, self._control_since = 0, now
        self._control += 1
        if self._control <= CONTROL_MOST:
            return False
        if not self.transport.is_closing():
            self.close_now(REFUSED, "too many control frames")
            self.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # What refers to itself, as the parser of `websockets` with all that it holds of a frame of
        # megabytes, would wait for the garbage collector.
        for name in (CLOSE, WRITE):
            self._extensions.pop(name, None)
        self.pieces.drop(self)
        self.conn.receive_eof()
        self.conn.parser.close()
        if self.conn.parser_exc is not None:
            without_frames(self.conn.parser_exc)
        self.frames = []
        if self.when_lost is not None:
            self.when_lost()
            self.when_lost = None

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
            self.pieces.go_on(self)
        self.close_timer = self.loop.call_later(CLOSE_WITHIN_S, self.transport.abort)
