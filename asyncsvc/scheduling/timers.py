"""Timers: one alarm per waiting task, for the moment it is due or its time is over.

An alarm for a wall-clock time follows the clock when the clock is set, within a minute; an alarm
after a duration does not. Setting and clearing cost the same with ten thousand alarms as with
one: the loop knows only the earliest, as a loop timer per waiting task was a tenth of what a
submit cost. Alarms do not survive a restart: recovery sets them again.
"""

import asyncio
import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from asyncsvc.clock import Now

LONGEST_SLEEP_S = 60.0
Call = Callable[[str], None]
DEAD_MOST = 64
"""The heap is rebuilt when it holds more than this and twice the live alarms."""


class Timers:
    """Alarms by name; an alarm calls its function with that name; setting it again replaces it."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._heap: list[tuple[float, int, str, Call]] = []
        self._set: dict[str, int] = {}
        """The number of each live alarm's entry in the heap; other entries of a name are dead."""
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.TimerHandle | None = None
        self._next_at = math.inf

    def at(self, name: str, when_ms: int, call: Call) -> None:
        """Call at a wall-clock time (ms since the epoch); at once where that is past."""
        left = (when_ms - self._now()) / 1000
        if left <= 0:
            self.after(name, 0.0, call)
        else:
            self.after(name, min(left, LONGEST_SLEEP_S), lambda _: self.at(name, when_ms, call))

    def after(self, name: str, seconds: float, call: Call) -> None:
        """Call after so many seconds, measured by the loop's clock."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        when = loop.time() + (seconds if seconds > 0.0 else 0.0)
        self._number = number = self._number + 1
        self._set[name] = number
        heappush(self._heap, (when, number, name, call))
        if when < self._next_at:
            self._sleep(loop, when)

    def clear(self, name: str) -> None:
        """Cancel the alarm of that name, if there is one."""
        self._set.pop(name, None)
        if len(self._heap) > 2 * len(self._set) + DEAD_MOST:
            self._heap = [entry for entry in self._heap if self._set.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def close(self) -> None:
        """Cancel all alarms."""
        if self._next is not None:
            self._next.cancel()
        self._set.clear()
        self._heap.clear()

    def _sleep(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next, self._next_at = loop.call_at(until, self._ring), until

    def _ring(self) -> None:
        self._next, self._next_at = None, math.inf
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            while self._heap and self._heap[0][0] <= now:
                _, number, name, call = heappop(self._heap)
                if self._set.get(name) == number:
                    del self._set[name]
                    call(name)
        finally:  # the other alarms must ring although one fails
            if self._heap and self._heap[0][0] < self._next_at:
                self._sleep(loop, self._heap[0][0])


class Alarm:
    """A single alarm by the loop's clock; setting it again replaces it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        """Ring in so many seconds, instead of when it was set before; inf: not at all."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        if delay < math.inf:
            self._handle = asyncio.get_running_loop().call_later(delay, self._ring)
