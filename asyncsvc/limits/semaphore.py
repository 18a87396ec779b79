"""The places for calls under way: a semaphore whose size may change.

Owns the count of places taken and the line of those who wait. Promises that places are given
in order of asking, that a smaller size takes nothing from whoever has a place, and that a
cancelled wait leaves no place behind. Never knows what a place is for.
"""

import asyncio
from collections import deque
from contextlib import suppress


class Slots:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a place."""
        if self.taken < self.limit and not self._line:
            self.taken += 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.release()  # it was given in the moment in which the wait ended
            else:
                with suppress(ValueError):  # whoever gave places meanwhile has passed it over
                    self._line.remove(mine)
            raise

    def release(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._give()

    def resize(self, limit: int) -> None:
        """From now on so many; where more are taken, none is given until fewer are."""
        self.limit = limit
        self._give()

    def _give(self) -> None:
        while self._line and self.taken < self.limit:
            waiting = self._line.popleft()
            if not waiting.done():
                self.taken += 1
                waiting.set_result(None)
