"""Call statistics: how the calls of one account have gone lately.

The averages of time and of failures are forecasts' input; what was measured long ago is not taken
for knowledge about the next call. Nothing is decided here.
"""

import asyncio
import math
from collections import Counter
from typing import Any

from asyncsvc.errors import ProviderError
from asyncsvc.histogram import Histogram

EWMA = 0.2
STALE_S = 600.0
"""Seconds after which a measurement says nothing about the next call."""
CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 3600.0)


class CallStatistics:
    """Counters and averages of the calls of one account."""

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.failures: Counter[str] = Counter()
        """The errors by their code."""
        self.seconds = Histogram(CALL_S)
        """How long the calls took that were answered."""
        self.tokens: Counter[str] = Counter()
        """What the answered calls have cost, as the provider says: `prompt`, `completion`."""
        self.service_s: float | None = None
        """Average seconds of a call (EWMA); None before the first."""
        self.error_rate = 0.0
        """Share of calls that failed by the provider's fault (EWMA)."""
        self._measured_at = -math.inf

    def succeeded(self, seconds: float) -> None:
        """A call was answered in that time."""
        self.calls += 1
        self.seconds.observe(seconds)
        known = self.service_s
        self.service_s = seconds if known is None else known + EWMA * (seconds - known)
        self._measure(0.0)

    def spent(self, usage: dict[str, Any] | None) -> None:
        """A call has cost so much, as the provider says."""
        for kind in ("prompt", "completion"):
            if isinstance(count := (usage or {}).get(f"{kind}_tokens"), int):
                self.tokens[kind] += max(count, 0)

    def failed(self, error: ProviderError) -> None:
        """A call failed; only a failure of the provider's own raises the error rate."""
        self.calls += 1
        self.errors += 1
        self.failures[error.code] += 1
        if error.trips:
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
