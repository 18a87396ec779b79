"""Turns of long work on the event loop, so that short work is served in between.

Owns the order of those that wait and the pauses after long steps. Promises that of all that wait
for a turn one goes on each time that the event loop comes round, however many there are: a submit,
for which the loop comes round several times, would else wait for all of them several times. Never
knows what the work is, and interrupts no step.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

LONG_S, PAUSE_S = 0.005, 0.05
"""A step of the event loop from which on others have as much time before the next one goes on, and
how much at most: it is counted in time of the processor, to which others add while it waits."""
PART = 50
"""Items of a list that are made in one turn: one or two milliseconds."""

Given = TypeVar("Given")
Made = TypeVar("Made")


class LoopTurns:
    """The turns of one kind of work. After a long step none goes on for as long as that took."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        """While there is one, `_give` or `_look` is scheduled."""
        self._given_at = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def next(self, spent_s: float = 0.0) -> None:
        """Wait for a turn; the last one took so much time of the processor."""
        await self._wait(spent_s)

    def soon(self, work: Callable[[], None]) -> None:
        """Call `work` in a turn."""
        self._wait().add_done_callback(lambda _: work())

    async def of_each(self, make: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
        """What `make` makes of each, a part of them in each turn."""

        async def made(part: Sequence[Given]) -> list[Made]:
            return list(map(make, part))

        return await self.of_parts(made, given)

    async def of_parts(
        self, make: Callable[[Sequence[Given]], Awaitable[Sequence[Made]]], given: Sequence[Given]
    ) -> list[Made]:
        """What `make` makes of all parts, one in each turn."""
        made: list[Made] = []
        for at in range(0, len(given), PART):
            await self.next()
            made += await make(given[at : at + PART])
        return made

    def _wait(self, spent_s: float = 0.0) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._schedule(loop, spent_s)
        return turn

    def _schedule(self, loop: asyncio.AbstractEventLoop, spent_s: float) -> None:
        if spent_s > LONG_S:
            loop.call_later(min(spent_s, PAUSE_S), self._give, loop)
        else:
            loop.call_soon(self._give, loop)

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                turn.set_result(None)
                break
        if self._waiting:
            self._given_at = loop.time()
            loop.call_soon(self._look, loop)  # behind the step that goes on now

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule(loop, loop.time() - self._given_at)
