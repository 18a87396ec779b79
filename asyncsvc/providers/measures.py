"""How the calls of one account have gone lately.

Owns the averages of time and of failures. Promises that what was measured long ago is not taken
for knowledge about the next call. Never decides anything.
"""

import asyncio
import math

EWMA = 0.2
STALE_S = 600.0
"""What was measured longer ago says nothing about the next call."""


class Measures:
    """Figures of one account; the gate is built upon it."""

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.service_s: float | None = None
        """Average seconds of a call (EWMA); None before the first."""
        self.error_rate = 0.0
        """Share of calls that failed by the provider's fault (EWMA)."""
        self._measured_at = -math.inf

    def went_well(self, seconds: float) -> None:
        """A call was answered in that time."""
        known = self.service_s
        self.service_s = seconds if known is None else known + EWMA * (seconds - known)
        self._measure(0.0)

    def went_wrong(self) -> None:
        """A call failed by the provider's fault."""
        self._measure(1.0)

    def _measure(self, failed: float) -> None:
        self._measured_at = asyncio.get_running_loop().time()
        self.error_rate += EWMA * (failed - self.error_rate)

    @property
    def burden(self) -> float:
        """Calls that an answer takes, as things have gone lately."""
        return 1 / (1 - min(self.error_rate, 0.9))

    def expected_s(self) -> float | None:
        """Seconds that a call may take, tries that fail included; None: nothing recent is known."""
        now = asyncio.get_running_loop().time()
        if self.service_s is None or now - self._measured_at > STALE_S:
            return None
        return self.service_s * self.burden
