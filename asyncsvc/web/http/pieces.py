"""What came on a connection, parsed in pieces, so that no client keeps the event loop for itself.

Owns the bytes that wait to be parsed. Promises that what comes at once is parsed for a millisecond,
and the rest in turns with the other connections, a millisecond each; that no more is read from a
connection than may wait. A hundred kilobytes may hold twenty thousand chunks of a body, or as many
frames, and take a hundred milliseconds. Never knows what is parsed.
"""

import asyncio
from functools import partial
from time import perf_counter
from typing import Protocol

from asyncsvc.loop_turns import LoopTurns

PIECE, LONG_PIECE = 2048, 16 * 1024
"""Bytes that are parsed at once: up to 350 frames or chunks, some milliseconds; and where pieces
are parsed fast, as that of a large body or message."""
FAST_S = 0.0001
STEP_S = 0.001
UNPARSED_MOST = 64 * 1024
"""Bytes that may wait to be parsed before nothing more is read. One read brings up to 250 KB."""


class Parsing(Protocol):
    """A connection, as its protocol knows it."""

    @property
    def transport(self) -> asyncio.Transport: ...

    def parse(self, piece: bytes) -> None:
        """Parse a piece."""

    def takes_more(self) -> bool:
        """Whether a piece may be parsed now; what comes later waits for `go_on`."""

    def is_paused(self) -> bool:
        """Whether others do not want the connection to be read now."""


class Pieces:
    """Of one connection. It does not hold the connection, which holds it: a cycle would keep what
    was read of a closed one until the garbage collector comes."""

    def __init__(self, turns: LoopTurns) -> None:
        self.turns = turns
        self._unparsed = bytearray()
        self._piece = PIECE
        self._scheduled = False
        """`_step` is."""
        self._full = False
        """Nothing is read because so much is unparsed."""

    def __len__(self) -> int:
        """The bytes that wait."""
        return len(self._unparsed)

    def received(self, data: bytes, connection: Parsing) -> None:
        """Parse what came, or let it wait behind what came before."""
        if not self._unparsed and len(data) <= PIECE:
            connection.parse(data)
            return
        self._unparsed += data
        if not self._scheduled:
            self._step(connection)
        self.pause_if_full(connection.transport)

    def go_on(self, connection: Parsing) -> None:
        """Parse what waits, in a turn."""
        if self._unparsed and not self._scheduled:
            self._scheduled = True
            self.turns.soon(partial(self._step, connection))

    def pause_if_full(self, transport: asyncio.Transport) -> None:
        """Read no more where enough waits."""
        if len(self._unparsed) > UNPARSED_MOST and not transport.is_closing():
            self._full = True
            transport.pause_reading()

    def drop(self, connection: Parsing) -> None:
        """Forget what waits, and read on."""
        self._unparsed.clear()
        self._read_on(connection)

    def _step(self, connection: Parsing) -> None:
        self._scheduled = False
        began = now = perf_counter()
        while self._unparsed and connection.takes_more():
            if now > began + STEP_S:
                self.go_on(connection)
                break
            piece = bytes(self._unparsed[: self._piece])
            del self._unparsed[: self._piece]
            connection.parse(piece)
            before, now = now, perf_counter()
            self._piece = LONG_PIECE if now < before + FAST_S else PIECE
        self._read_on(connection)

    def _read_on(self, connection: Parsing) -> None:
        full = len(self._unparsed) > UNPARSED_MOST
        if self._full and not full and not connection.transport.is_closing():
            self._full = False
            if not connection.is_paused():
                connection.transport.resume_reading()
