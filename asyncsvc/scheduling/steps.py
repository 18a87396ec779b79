"""Background steps: asyncio tasks of one owner that go on beside it, or without their caller."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """Steps that an owner starts and does not wait for; `close` cancels those under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, step: Coroutine[Any, Any, None]) -> None:
        """Run the step beside the caller."""
        running = asyncio.ensure_future(step)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Cancel all steps and wait for their end."""
        for step in self._running:
            step.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


async def shielded(step: Coroutine[Any, Any, T]) -> T:
    """Run a step to its end although its caller may be cancelled meanwhile.

    A task that is on the disk must also reach its waiting place: otherwise a client that hangs
    up between the two leaves a task that does not run before the next start of the service.
    """
    running = asyncio.ensure_future(step)
    running.add_done_callback(_retrieve)
    try:
        return await asyncio.shield(running)
    finally:
        del running  # an exception holds this frame, and the task the exception


def _retrieve(step: "asyncio.Future[T]") -> None:
    """Mark a step's error as seen: without its caller, a refusal is no fault to be logged."""
    if not step.cancelled():
        step.exception()
