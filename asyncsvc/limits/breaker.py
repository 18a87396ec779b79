"""A circuit breaker: leaves a provider alone that fails again and again.

The breaker owns the count of consecutive failures and lets one probe at a time pass while it is
half open, as long as the caller asks in the moment of the call. Only the provider's own failures
are reported to it.
"""

import math
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """A breaker that opens after `failures` in a row, for `cooldown_s`; times are the loop's."""

    def __init__(self, failures: int, cooldown_s: float) -> None:
        self.failures = 0
        self.configure(failures, cooldown_s)
        self._opened_at: float | None = None
        self._open_s: float | None = None
        """How long the breaker stays open this time; None: for the cooldown."""
        self._probing = False

    def configure(self, failures: int, cooldown_s: float) -> None:
        """Set other numbers; an open breaker stays open until the new time is over."""
        self._limit = failures
        self._cooldown_s = cooldown_s

    @property
    def probe_at(self) -> float:
        """When the next probe may pass; -inf while the breaker is closed."""
        return -math.inf if self._opened_at is None else self._due(self._opened_at)

    @property
    def probing(self) -> bool:
        """Whether a probe is under way while the breaker is not closed."""
        return self._probing and self._opened_at is not None

    def state(self, now: float) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        if self._probing or now >= self._due(self._opened_at):
            return BreakerState.HALF_OPEN
        return BreakerState.OPEN

    def wait(self, now: float) -> float:
        """Seconds until a call may pass; 0 now, inf while a probe is under way."""
        if self._opened_at is None:
            return 0.0
        if self._probing:
            return math.inf
        return max(self._due(self._opened_at) - now, 0.0)

    def _due(self, opened_at: float) -> float:
        return opened_at + (self._cooldown_s if self._open_s is None else self._open_s)

    def enter(self) -> bool:
        """Let a call pass; True where it is the probe."""
        if self._opened_at is None:
            return False
        self._probing = True
        return True

    def leave(self) -> None:
        """End the probe, however it went; nothing else ends it. A call from before the breaker
        opened may succeed or fail meanwhile, and would let a second probe in."""
        self._probing = False

    def succeeded(self) -> None:
        self.failures = 0
        self._opened_at = None

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= self._limit:
            self._opened_at, self._open_s = now, None

    def open_for(self, seconds: float, now: float) -> None:
        """Open the breaker at once, for so long; then one probe may pass."""
        if self.wait(now) < seconds or self._probing:
            self._opened_at, self._open_s = now, seconds
