"""What is made once, when a client first asks for it, outside the event loop.

Owns the wait for it. Promises that clients who ask meanwhile wait for the same work: a crowd that
asks at once would else keep as many threads busy, for which the event loop waits. Work that failed
is begun again by the next client.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class MadeOnce(Generic[Made]):
    """Call it for what `make` returns. Raises what `make` raises."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._making: asyncio.Future[Made] | None = None

    async def __call__(self) -> Made:
        if self._making is None or _failed(self._making):
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
            self._making.add_done_callback(_failed)  # all who wait for it may have left
        # A client that leaves must not end the work of the others.
        return await asyncio.shield(self._making)


def _failed(work: asyncio.Future[Made]) -> bool:
    return work.done() and (work.cancelled() or work.exception() is not None)
