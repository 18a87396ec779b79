"""One alarm a task: when it is due, or when its time is up.

Owns the alarms of waiting tasks. Promises that an alarm set to a wall-clock time follows the
clock when somebody sets it, within a minute, and that a duration does not. Never survives a
restart: recovery sets the alarms anew.
"""

import asyncio
from collections.abc import Callable

from asyncsvc.clock import Now

LONGEST_SLEEP_S = 60.0


class Timers:
    """Alarms by name; setting one again replaces it."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def at(self, name: str, when_ms: int, call: Callable[[], None]) -> None:
        """Call at a wall-clock time, at once where it is past."""
        left = (when_ms - self._now()) / 1000
        if left <= 0:
            self._set(name, 0.0, call)
        else:
            sleep = min(left, LONGEST_SLEEP_S)
            self._set(name, sleep, lambda: self.at(name, when_ms, call))

    def after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call after a duration."""
        self._set(name, seconds, call)

    def clear(self, name: str) -> None:
        if handle := self._handles.pop(name, None):
            handle.cancel()

    def close(self) -> None:
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()

    def _set(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self.clear(name)
        loop = asyncio.get_running_loop()
        self._handles[name] = loop.call_later(max(seconds, 0.0), self._ring, name, call)

    def _ring(self, name: str, call: Callable[[], None]) -> None:
        self._handles.pop(name, None)
        call()
