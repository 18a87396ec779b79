"""What comes on connections at once, parsed in pieces and in turns."""

import asyncio
from typing import Any

import pytest

from asyncsvc.loop_turns import LoopTurns
from asyncsvc.web.http import pieces
from asyncsvc.web.http.pieces import LONG_PIECE, PIECE, UNPARSED_MOST, Pieces


class Clock:
    """What `pieces` asks for the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.piece_s = 0.0
        """How long a piece takes."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pieces, "perf_counter", lambda: clock.now)
    return clock


class Connection:
    """A connection whose pieces take so long by the clock; it is its own transport."""

    def __init__(self, turns: LoopTurns, clock: Clock) -> None:
        self.pieces = Pieces(turns)
        self.parsed = bytearray()
        self.most_at_once = 0
        self.open = self.reading = True
        self.wanted = True
        self.read_on = asyncio.Event()
        self._clock = clock

    @property
    def transport(self) -> Any:
        return self

    def receive(self, data: bytes) -> None:
        self.pieces.received(data, self)

    def parse(self, piece: bytes) -> None:
        self.most_at_once = max(self.most_at_once, len(piece))
        self.parsed += piece
        self._clock.now += self._clock.piece_s

    def takes_more(self) -> bool:
        return self.open

    def is_paused(self) -> bool:
        return not self.wanted

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.read_on.set()


DATA = bytes(range(256)) * (10 * PIECE // 256)


async def test_of_many_connections_one_is_parsed_in_each_turn_of_the_loop(clock: Clock) -> None:
    clock.piece_s, turns = 0.002, LoopTurns()
    connections = [Connection(turns, clock) for _ in range(4)]
    for each in connections:
        each.receive(DATA)
        each.receive(b"and more")
    steps = most = 0
    before = sum(len(each.parsed) for each in connections)
    assert before == 4 * PIECE, "what comes first is parsed for a moment at once"
    while any(each.pieces for each in connections):
        await asyncio.sleep(0)
        now = sum(len(each.parsed) for each in connections)
        steps += now > before
        most, before = max(most, now - before), now
    assert (most, steps) == (PIECE, 4 * 10)
    assert all(each.parsed == DATA + b"and more" for each in connections)


async def test_what_is_parsed_fast_is_parsed_at_once(clock: Clock) -> None:
    connection = Connection(LoopTurns(), clock)
    connection.receive(DATA)
    assert connection.parsed == DATA
    assert connection.most_at_once == LONG_PIECE


async def test_no_more_is_read_than_may_wait(clock: Clock) -> None:
    connection = Connection(LoopTurns(), clock)
    connection.open = False
    connection.receive(b"x" * (UNPARSED_MOST + 1))
    assert not connection.reading
    connection.open = True
    connection.pieces.go_on(connection)
    await connection.read_on.wait()
    assert len(connection.parsed) == UNPARSED_MOST + 1 - len(connection.pieces)


async def test_a_connection_that_others_have_paused_stays_so(clock: Clock) -> None:
    connection = Connection(LoopTurns(), clock)
    connection.open = False
    connection.receive(b"x" * (UNPARSED_MOST + 1))
    connection.wanted = False
    connection.pieces.drop(connection)
    assert not connection.reading
    assert connection.parsed == b""
