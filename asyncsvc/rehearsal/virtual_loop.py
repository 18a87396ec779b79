"""An event loop on virtual time: where all tasks wait, the clock jumps to the next alarm.

A day passes in milliseconds. Work in threads is the exception: while `busy` counts any, the loop
waits for it in real time, so that no deadline passes meanwhile.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
TURNS = 2_000
"""Turns of the loop after which a clock that stands moves on by itself."""
TICK_S = 1e-6


class _Selector(selectors.DefaultSelector):
    loop: "VirtualLoop"

    def __init__(self, turns: int) -> None:
        super().__init__()
        self._most = turns
        self._seen, self._turns = -1.0, 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._let_the_clock_tick()
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        if self.loop.busy:
            return super().select(10)
        self.loop.now += timeout
        return []

    def _let_the_clock_tick(self) -> None:
        """Move a clock on that stands although the loop turns and turns.

        aiolimiter may want to be woken after less time than a float can add to the clock, and
        looks again at once: on a real clock time has passed by then, here it would be for ever.
        """
        now = self.loop.now
        self._turns = self._turns + 1 if now == self._seen and not self.loop.busy else 0
        self._seen = now
        if self._turns > self._most:
            self.loop.now += TICK_S


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is the time in seconds since its start, `start_ms` the wall clock at that start."""

    def __init__(self, start_ms: int = 0, turns: int = TURNS) -> None:
        self.now = 0.0
        self.busy = 0
        """How much work is under way in threads."""
        self.start_ms = start_ms
        selector = _Selector(turns)
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Work in a thread takes real time, and none of the virtual."""
        done = super().run_in_executor(executor, func, *args)
        self.busy += 1
        done.add_done_callback(functools.partial(no_longer_busy, self))
        return done

    def wall_ms(self) -> int:
        """The virtual wall clock, to be handed to whatever wants `now`."""
        return self.start_ms + round(self.now * 1000)


def no_longer_busy(running: VirtualLoop, _: object) -> None:
    """Work in a thread has ended; a callback of its future."""
    running.busy -= 1
