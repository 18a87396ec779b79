"""Smoothing: a limiter that evens out bursts of calls, under the window that decides.

It is an aiolimiter that also tells its room and when the next call may begin, as long as only one
task at a time waits for it.
"""

import asyncio
import math

from aiolimiter import AsyncLimiter

BURST = 4
"""It refills this many times faster than the window allows on average: it evens out bursts above
the concurrency, while the window decides. At 1 a burst of 40 short calls would take a minute
although the account allows it at once."""
ROUNDING = 1e-9
"""Levels are sums of fractions."""


class Smoothing:
    """`at_once` calls in a burst, then as many a second as `limit` in `span_s`, times BURST."""

    def __init__(self, at_once: int, limit: int, span_s: float) -> None:
        self._limiter = AsyncLimiter(at_once, at_once * span_s / (limit * BURST)) if limit else None
        self._most = float(at_once)
        self.per_s = limit * BURST / span_s
        """Calls a second, once the burst is over; 0 without a limit."""
        # The limiter's level as it was at a time of the loop; it does not tell its own.
        self._level = 0.0
        self._at = 0.0

    @property
    def free(self) -> bool:
        """Without a limit there is nothing to even out."""
        return self._limiter is None

    async def acquire(self) -> None:
        """Wait for the place of one call."""
        if self._limiter is not None:
            await self._limiter.acquire()
            now = asyncio.get_running_loop().time()
            self._level, self._at = self._left(now) + 1.0, now

    def room(self, now: float) -> float:
        """How many calls may begin at this moment; inf without a limit."""
        if self._limiter is None:
            return math.inf
        return float(math.floor(self._most - self._left(now) + ROUNDING))

    @property
    def free_at(self) -> float:
        """When the next call may begin; -inf without a limit."""
        if self._limiter is None:
            return -math.inf
        return self._at + (self._level + 1.0 - self._most - ROUNDING) / self.per_s

    def _left(self, now: float) -> float:
        return max(self._level - (now - self._at) * self.per_s, 0.0)
