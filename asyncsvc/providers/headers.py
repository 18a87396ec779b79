"""What is told about limits in headers.

Owns the reading of a provider's `x-ratelimit-*`, and how a duration is written in ours. Promises
None for anything that it does not understand. Never decides what follows.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


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


def rate_headers(headers: Mapping[str, str]) -> RateHeaders | None:
    """`x-ratelimit-{limit,remaining,reset}-requests`, as OpenAI sends them."""
    limit = _whole(headers.get("x-ratelimit-limit-requests"))
    remaining = _whole(headers.get("x-ratelimit-remaining-requests"))
    reset = duration(headers.get("x-ratelimit-reset-requests"))
    if limit is None and remaining is None:
        return None
    return RateHeaders(limit, remaining, reset)


def duration(text: str | None) -> float | None:
    """Seconds of `12ms`, `6m0s`, `1h2m`, or a plain number of seconds."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


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
