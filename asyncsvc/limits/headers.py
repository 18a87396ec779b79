"""What is told about limits in headers.

Owns the reading of a provider's `x-ratelimit-*`, and how a duration is written in ours. Promises
None for anything that it does not understand. Never decides what follows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from asyncsvc.limits.named_times import HOUR_S, duration, seconds_until

__all__ = ["RateHeaders", "duration", "rate_headers", "told"]


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """Requests: the limit, what is left of it, seconds until it is whole again."""

    limit: int | None
    remaining: int | None
    reset_s: float | None

    @property
    def wait_s(self) -> float:
        """How long to wait before the next call; 0 where there is room."""
        return self.reset_s or 0.0 if self.remaining == 0 else 0.0


def rate_headers(headers: Mapping[str, str], now_ms: int | None = None) -> RateHeaders | None:
    """`x-ratelimit-{limit,remaining,reset}-requests`, as OpenAI sends them. `now_ms` is for
    resets that name a moment."""
    limit = _whole(headers.get("x-ratelimit-limit-requests"))
    remaining = _whole(headers.get("x-ratelimit-remaining-requests"))
    if limit is None and remaining is None:
        return None
    named = headers.get("x-ratelimit-reset-requests")
    reset = duration(named) if now_ms is None else seconds_until(named, now_ms)
    # No body gives a reason for a longer wait.
    return RateHeaders(limit, remaining, None if reset is None else min(reset, HOUR_S))


def told(seconds: float) -> str:
    """A duration as OpenAI writes it, no shorter than it is: `12ms`, `8.64s`, `6m0s`, `1h0m30s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None
