"""Tests on virtual time: the loop of `asyncsvc.rehearsal.virtual_loop`, under the real service.

While a database call is under way the loop waits for it in real time, as it does for work in an
executor, so that no deadline passes meanwhile.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import aiosqlite

from asyncsvc.rehearsal.virtual_loop import VirtualLoop, no_longer_busy
from asyncsvc.storage.connection import WorkerThread

P = ParamSpec("P")
T = TypeVar("T")
START_MS = 1_800_000_000_000
"""The wall clock at virtual time 0."""


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
        done.add_done_callback(functools.partial(no_longer_busy, running))
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
    virtual_loop = functools.partial(VirtualLoop, START_MS)
    with (
        patch.object(WorkerThread, "submit", counted),
        patch.multiple(reader, **readers),
        asyncio.Runner(loop_factory=virtual_loop, debug=False) as runner,
    ):
        runner.run(work)
