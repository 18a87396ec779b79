"""Call statistics: how the calls of one account have gone lately.

The averages of time and of failures are forecasts' input; what was measured long ago is not taken
for knowledge about the next call. Nothing is decided here.
"""

import asyncio
import math
from collections import Counter, deque
from typing import Any

from asyncsvc.errors import (
    GateClosed,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unexplained,
    UpstreamAuth,
    UpstreamOverloaded,
    without_frames,
)
from asyncsvc.histogram import Histogram

STARTS_KEPT = 10_000
EWMA = 0.2
"""The weight of the newest measurement in an average."""
STALE_S = 600.0
"""Seconds after which a measurement says nothing about the next call."""
STREAM_LEAST_S = 0.01
"""An answer that comes faster came in one piece: it has no rate of tokens."""
FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0)
CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 3600.0)

REFUSALS = (RateLimited, QuotaExhausted, UpstreamAuth, Unexplained, UpstreamOverloaded)
"""Errors that speak of the account or the provider, and not of the request."""


class CallStatistics:
    """Counters and averages of the calls of one account."""

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.failures: Counter[str] = Counter()
        """The errors by their code."""
        self.seconds = Histogram(CALL_S)
        """How long the calls took that were answered."""
        self.first_tokens = Histogram(FIRST_TOKEN_S)
        """How long chats took to the first piece of their answer."""
        self.pieces = 0
        """Pieces of answers that have come; providers send about one a token."""
        self.tokens: Counter[str] = Counter()
        """What the answered calls have cost, as the provider says: `prompt`, `completion`."""
        self.service_s: float | None = None
        """Average seconds of a call (EWMA); None before the first."""
        self.first_token_s: float | None = None
        """Average seconds from the call to the first piece of its answer (EWMA)."""
        self.tokens_per_s: float | None = None
        """Average tokens in a second of an answer, from its first piece on (EWMA)."""
        self.refusal: tuple[float, ProviderError] | None = None
        """The latest refusal, and when it came by the event loop's clock."""
        self.latest_failure: str | None = None
        """The code of the latest error."""
        self.error_rate = 0.0
        """Share of calls that failed by the provider's fault (EWMA)."""
        self.starts: deque[float] = deque(maxlen=STARTS_KEPT)
        """When the latest calls began, by the event loop's clock."""
        self._measured_at = -math.inf

    def started(self) -> None:
        """A call has begun."""
        self.starts.append(asyncio.get_running_loop().time())

    def recent(self, span_s: float) -> int:
        """The number of calls begun in the last `span_s` seconds, `STARTS_KEPT` at most."""
        since = asyncio.get_running_loop().time() - span_s
        while self.starts and self.starts[0] < since:
            self.starts.popleft()
        return len(self.starts)

    def succeeded(self, seconds: float) -> None:
        """A call was answered in that time."""
        self.calls += 1
        self.seconds.observe(seconds)
        self.service_s = _average(self.service_s, seconds)
        self._measure(0.0)

    def streamed(self, first_s: float, seconds: float, usage: dict[str, Any] | None) -> None:
        """The answer of a call began after so many seconds and was complete after so many."""
        self.first_tokens.observe(first_s)
        self.first_token_s = _average(self.first_token_s, first_s)
        tokens = (usage or {}).get("completion_tokens")
        if isinstance(tokens, int) and tokens > 1 and seconds - first_s >= STREAM_LEAST_S:
            self.tokens_per_s = _average(self.tokens_per_s, (tokens - 1) / (seconds - first_s))

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
        self.latest_failure = error.code
        if isinstance(error, REFUSALS) and not isinstance(error, GateClosed):
            without_frames(error)  # it is kept, and they hold the task's body
            self.refusal = asyncio.get_running_loop().time(), error
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


def _average(known: float | None, new: float) -> float:
    return new if known is None else known + EWMA * (new - known)
