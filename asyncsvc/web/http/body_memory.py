"""Room for large bodies: how many bytes of them may be under way at once. The same for
large answers, which have room of their own.

Owns the budget over all bodies above `SMALL`, from the first byte until the answer. Promises
that the sum never passes it, that they get room in the order in which they came, that one that
would wait for long is refused instead (503 `overloaded`), and that heavy work on one never
holds up the loop for more than one call into C. Small bodies never pass through here: what a
thousand connections can hold of them is bounded by their number.

A byte of a body costs up to six in memory: itself, its text (four where a single character is
beyond the Basic Multilingual Plane), what is written of it. `FACTOR` leaves room beside.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from asyncsvc import memory
from asyncsvc.errors import Overloaded
from asyncsvc.intake.admission import Aside, at_once
from asyncsvc.large_work import ASIDE_BYTES, LargeWork
from asyncsvc.loop_turns import LoopTurns

SMALL = 16 * 1024
"""Bytes up to which a body needs no room."""
FACTOR = 24
"""A 24th of the memory limit, in bodies: six times that is a quarter of it."""
PATIENCE_S = 5.0
"""How long a body may wait for room."""

P = ParamSpec("P")
T = TypeVar("T")


class Hold:
    """Room for one body; `aside` works on it, `release` gives the room back."""

    def __init__(self, bodies: "Bodies", size: int) -> None:
        self._bodies = bodies
        self.size = size
        self._since = asyncio.get_running_loop().time()

    def shrink(self, size: int) -> None:
        """The body has turned out to be smaller."""
        given, self.size = self.size - size, size
        self._bodies.give(given)

    def release(self) -> None:
        """Give the room back; once is enough, twice does no harm."""
        if self.size:
            self._bodies.learn(asyncio.get_running_loop().time() - self._since)
        self.shrink(0)

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in a turn, or in the thread where the body is large. Raises MemoryError before
        the work where the system has no memory for it."""
        if self.size <= ASIDE_BYTES:
            await self._bodies.turns.next()
            return work(*args, **kwargs)
        return await self._bodies.work.run(self.size, partial(work, *args, **kwargs))


class Bodies(memory.Room):
    """`hold` room for a body of so many bytes; `what` it is in error messages."""

    def __init__(self, most: int, work: LargeWork, what: str = "bodies") -> None:
        super().__init__(most)
        self.turns = LoopTurns()
        self.work = work
        self._what = what
        self._lasts_s = 0.1
        """How long a body holds its room, about."""

    @classmethod
    def of(
        cls, memory_mb: int, max_task_bytes: int, work: LargeWork, what: str = "bodies"
    ) -> "Bodies":
        """Room for at least one body of the largest size."""
        return cls(max(max_task_bytes, memory_mb * 1024 * 1024 // FACTOR), work, what)

    async def hold(self, size: int, patient: bool = False) -> Hold:
        """Wait for room, first come, first served; a `patient` one as long as it takes. Raises
        Overloaded."""
        size = min(size, self.most)
        expected = 0.0
        if not self.has(size):
            expected = self._lasts_s * (self.waiting + size) / self.most
            if expected > PATIENCE_S and not patient:
                raise self._full(expected)
        try:
            await self.take(size, None if patient else PATIENCE_S)
        except TimeoutError:
            raise self._full(max(expected, PATIENCE_S)) from None
        return Hold(self, size)

    @asynccontextmanager
    async def room(self, size: int) -> AsyncGenerator[Aside]:
        """`aside` for something that has already come, with room for it while the block lasts.
        Raises Overloaded."""
        if size <= SMALL:
            yield at_once
            return
        hold = await self.hold(size)
        try:
            yield hold.aside
        finally:
            hold.release()

    def learn(self, seconds: float) -> None:
        """A body has held its room for so long."""
        self._lasts_s += (seconds - self._lasts_s) / 8

    def _full(self, wait_s: float) -> Overloaded:
        return Overloaded(
            f"the service is busy with {self.most - self.free} bytes of other large {self._what}; "
            f"{'nothing was stored' if self._what == 'bodies' else 'ask again'}",
            retry_after=wait_s,
        )
