"""An event loop on virtual time: where all tasks wait, the clock jumps to the next alarm.

A day passes in milliseconds. Threads are the exception: while a database call or work in an
executor is under way the loop waits for it in real time, so that no deadline passes meanwhile.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import aiosqlite

from asyncsvc.storage.connection import WorkerThread

P = ParamSpec("P")
T = TypeVar("T")
TURNS = 2_000
START_MS = 1_800_000_000_000
"""The wall clock at virtual time 0."""


class _Selector(selectors.DefaultSelector):
    loop: "VirtualLoop"

    def __init__(self) -> None:
        super().__init__()
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
        if self._turns > TURNS:
            self.loop.now += 1e-6


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is the time in seconds since the loop began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = 0
        selector = _Selector()
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
        done.add_done_callback(functools.partial(_no_longer_busy, self))
        return done

    def wall_ms(self) -> int:
        """The virtual wall clock, to be handed to whatever wants `now`."""
        return START_MS + round(self.now * 1000)


def loop() -> VirtualLoop:
    """The running virtual loop."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def wall_ms() -> int:
    """The virtual wall clock of the running loop."""
    return loop().wall_ms()


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a virtual-time loop. Its fixtures must be synchronous."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


def run_virtual(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on a fresh virtual-time loop."""
    submit = WorkerThread.submit

    def counted(thread: WorkerThread, function: Callable[[], T]) -> "asyncio.Future[T]":
        running = loop()
        running.busy += 1
        done = submit(thread, function)
        done.add_done_callback(functools.partial(_no_longer_busy, running))
        return done

    def waited_for(work: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        async def waiting(*args: Any) -> Any:
            loop().busy += 1
            try:
                return await work(*args)
            finally:
                loop().busy -= 1

        return waiting

    reader = aiosqlite.Connection
    # A reader's thread works in real time, also where it opens and closes its connection.
    threaded = ("__aenter__", "__aexit__", "execute_fetchall")
    readers: dict[str, Any] = {name: waited_for(getattr(reader, name)) for name in threaded}
    with (
        patch.object(WorkerThread, "submit", counted),
        patch.multiple(reader, **readers),
        asyncio.Runner(loop_factory=VirtualLoop, debug=False) as runner,
    ):
        runner.run(work)


def _no_longer_busy(running: VirtualLoop, _: object) -> None:
    running.busy -= 1
