"""A semaphore for the calls under way, whose size may change.

Places are given in order of asking; a smaller size takes none from a holder, and a cancelled wait
leaves no place behind.
"""

import asyncio
from collections import deque
from contextlib import suppress


class Semaphore:
    """`limit` places, of which `taken` are held."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a place."""
        if self.taken < self.limit and not self._waiters:
            self.taken += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # it was given in the moment in which the wait ended
            else:
                with suppress(ValueError):  # passed over by a place given meanwhile
                    self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._give()

    def resize(self, limit: int) -> None:
        """Set the number of places; where more are taken, none is given until fewer are."""
        self.limit = limit
        self._give()

    def _give(self) -> None:
        while self._waiters and self.taken < self.limit:
            waiting = self._waiters.popleft()
            if not waiting.done():
                self.taken += 1
                waiting.set_result(None)
