"""A circuit breaker: leaves a provider alone that fails again and again.

Owns the count of consecutive failures. Promises one probe at a time while half open, as long as
whoever calls asks `allows` in the moment of the call. Never counts what was not the provider's
fault: the caller reports only what trips it.
"""

import math
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after `failures` in a row, for `cooldown_s`; times are the event loop's."""

    def __init__(self, failures: int, cooldown_s: float) -> None:
        self.failures = 0
        self.configure(failures, cooldown_s)
        self._opened_at: float | None = None
        self._open_s: float | None = None
        """How long it stays open this time; None: for the cooldown."""
        self._probing = False

    def configure(self, failures: int, cooldown_s: float) -> None:
        """Other numbers from now on; what is open stays open until the new time is over."""
        self._limit = failures
        self._cooldown_s = cooldown_s

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

    def allows(self, probe: bool, now: float) -> bool:
        """Whether a call let through earlier may still be made, `probe`: as the probe. What has
        failed meanwhile counts, for the probe too."""
        if self._opened_at is None:
            return True
        return probe and now >= self._due(self._opened_at)

    def enter(self) -> bool:
        """Let a call pass; True where it is the probe."""
        if self._opened_at is None:
            return False
        self._probing = True
        return True

    def leave(self) -> None:
        """The probe is over, however it went; nothing else ends it. A call from before the
        breaker opened may succeed or fail meanwhile, and would let a second probe in."""
        self._probing = False

    def succeeded(self) -> None:
        self.failures = 0
        self._opened_at = None

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= self._limit:
            self._opened_at, self._open_s = now, None

    def open_for(self, seconds: float, now: float) -> None:
        """Open it at once, for so long; then one probe may pass."""
        if self.wait(now) < seconds or self._probing:
            self._opened_at, self._open_s = now, seconds
