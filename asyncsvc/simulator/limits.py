"""The limits of one model, enforced strictly as a provider sees them.

Owns who is in flight and the sliding window of arrivals. Promises: never more than ``concurrency``
admitted calls at once, never more than ``rpm`` admitted arrivals in any half-open window of
``window_s`` seconds. A call that is turned away occupies neither a place nor the window (a provider
that counted refusals would lock a client out that keeps asking, and our figures would be of the
client's impatience rather than of its limiter). It never waits and never reads a clock.
"""

from collections import deque
from typing import Literal, Protocol

Violation = Literal["concurrency", "rate"]


class Caller(Protocol):
    """The holder of a place; ``gone`` once its connection is known to be closed."""

    @property
    def gone(self) -> bool: ...


class ModelLimits:
    def __init__(self) -> None:
        self._callers: set[Caller] = set()
        self._window: deque[float] = deque()
        self.peak_concurrency = 0
        self.max_in_window = 0

    @property
    def in_flight(self) -> int:
        return len(self._callers)

    def admit(
        self, caller: Caller, now: float, *, concurrency: int, rpm: int, window_s: float
    ) -> Violation | None:
        """Take a place and a share of the window, or say which limit forbids it."""
        if concurrency and len(self._callers) >= concurrency:
            # A client that left is freed by its own task one turn of the loop later; that must not
            # cost its successor, who may have been sent in the same instant.
            self._callers = {other for other in self._callers if not other.gone}
            if len(self._callers) >= concurrency:
                return "concurrency"
        window = self._window
        while window and now - window[0] >= window_s:
            window.popleft()
        if rpm and len(window) >= rpm:
            return "rate"
        window.append(now)
        self._callers.add(caller)
        self.max_in_window = max(self.max_in_window, len(window))
        self.peak_concurrency = max(self.peak_concurrency, len(self._callers))
        return None

    def release(self, caller: Caller) -> None:
        """Give the place back; doing it twice is harmless."""
        self._callers.discard(caller)

    def forget_peaks(self) -> None:
        """Start the figures anew; who is in flight and the window stay, for they are the limits."""
        self.peak_concurrency = len(self._callers)
        self.max_in_window = len(self._window)
