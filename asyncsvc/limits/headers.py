"""What a provider says about its limits: in headers, in the fields of an error, in a sentence.

The module reads `x-ratelimit-*` and `Retry-After`, and all spellings of moments, durations and
limit windows. The answer is None for what makes no sense (nothing, negative, NaN, farther away
than a month), and the time to read is linear in the text's length. What follows from it is decided
elsewhere.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

FARTHEST_S = 32 * 86_400.0
"""Quotas are renewed by the month at the latest; a time beyond that was misread."""
EPOCH_S, EPOCH_MS = 1e9, 1e12
"""From here on a number is a moment: seconds or milliseconds since 1970."""
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0

_UNITS = {"ms": 0.001, "s": 1.0, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|h|m|s|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_LENGTH = (
    r"\d{1,9}(?:\.\d{1,9})?\s?(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m"
    r"|hours?|hrs?|h|days?|d)(?![a-z])(?:,? and |,? )?"
)
_ASKED = re.compile(
    r"(?:again|retry|retrying|wait|resets?|available|back off)\b[^\d\n]{0,40}"
    rf"((?:{_LENGTH}){{1,4}})",
    re.IGNORECASE,
)
_ASKED_CHINESE = re.compile(r"(\d{1,9})\s?(毫秒|秒|分钟|小时|天)(?:之?后|内)")
_CHINESE = {"毫秒": 0.001, "秒": 1.0, "分钟": MINUTE_S, "小时": HOUR_S, "天": DAY_S}
_PIECE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?([a-z]+)", re.IGNORECASE)
_KEYS = ("retryafter", "retrydelay", "retryin", "resetsin", "resetin", "estimatedtime")
_MOMENT = re.compile(
    r"(\d{4})[-/](\d\d?)[-/](\d\d?)[ T](\d\d?):(\d\d)(?::(\d\d))?(?:\.\d+)?(Z|[+-]00:?00)?", re.A
)
_BEIJING = timezone(timedelta(hours=8))
_WINDOWS: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (seconds, re.compile(words, re.IGNORECASE))
    for seconds, words in (
        (1.0, r"per[ _-]?sec|/ ?sec|\b[qrt]ps\b|每秒"),
        (MINUTE_S, r"per[ _-]?min|/ ?min|\b[io]?[rt]pm\b|每分钟"),
        (HOUR_S, r"per[ _-]?hour|/ ?hour|hourly|\b[rt]ph\b|每小时"),
        (DAY_S, r"per[ _-]?day|/ ?day|daily|\b[rt]pd\b|24 ?h(?:ours)?\b|每[天日]|当日|今日"),
        (30 * DAY_S, r"per[ _-]?month|/ ?month|monthly|每月|当月|本月"),
    )
)


def duration(text: str | None) -> float | None:
    """Seconds of `12ms`, `6m0s`, `1h2m`, or a plain number of seconds."""
    if text is None or len(text) > 40:
        return None
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def seconds_until(value: Any, now_ms: int) -> float | None:
    """Seconds from now to what a value names; 0 for a moment gone by.

    It may be seconds, seconds or milliseconds since 1970, a duration such as `1m3.5s`, an HTTP
    date or an ISO date.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        number = duration(value)
        if number is None:
            return _of_date(value.strip(), now_ms)
    elif -1e300 < value < 1e300:
        number = float(value)
    else:
        return None
    if number >= EPOCH_S:
        number = max(number / (1000 if number >= EPOCH_MS else 1) - now_ms / 1000, 0.0)
    return number if 0 <= number <= FARTHEST_S else None


def _of_date(text: str, now_ms: int) -> float | None:
    when = _date(text) if len(text) <= 60 else None
    if when is None:
        return None
    try:
        stamp = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    left = stamp - now_ms / 1000
    return max(left, 0.0) if left <= FARTHEST_S else None


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text) if len(text) > 10 else None
    except ValueError:
        return None


def in_headers(headers: Mapping[str, str], now_ms: int) -> list[float]:
    """All times that the headers of a refusal name: `Retry-After` and when limits that are
    used up are whole again."""
    found = [
        length / 1000
        for name in ("retry-after-ms", "x-ms-retry-after-ms")
        if (length := duration(headers.get(name))) is not None
    ]
    if (text := headers.get("retry-after")) is not None:
        # Two headers of one name arrive joined.
        first, _, _ = text.partition(",")
        asked = seconds_until(text, now_ms)
        found.append((asked if asked is not None else seconds_until(first, now_ms)) or 0.0)
    values = [(str(name).lower(), value) for name, value in headers.items()]
    return [s for s in (*found, *_resets(values, now_ms)) if 0 < s <= FARTHEST_S]


def in_fields(named: Sequence[tuple[str, Any]], now_ms: int) -> list[float]:
    """All times among the fields of an error, by the names of the fields."""
    found = [*_resets(named, now_ms)]
    for name, value in named:
        key = name.replace("_", "").replace("-", "")
        if not key.startswith(_KEYS):
            continue
        milliseconds = key.endswith(("ms", "milliseconds"))
        seconds = duration(str(value)) if milliseconds else seconds_until(value, now_ms)
        if seconds is not None and not isinstance(value, bool):
            found.append(seconds / 1000 if milliseconds else seconds)
    return [seconds for seconds in found if 0 < seconds <= FARTHEST_S]


def _resets(named: Sequence[tuple[str, Any]], now_ms: int) -> Iterator[float]:
    """When limits that are used up, or of which nothing else is known, are whole again."""
    left = {name: value for name, value in named if "remaining" in name}
    for name, value in named:
        if "reset" not in name or "resetsin" in name.replace("_", ""):
            continue
        remaining = duration(str(left.get(name.replace("reset", "remaining"), "0")))
        if remaining == 0 and (seconds := seconds_until(value, now_ms)) is not None:
            yield seconds


def in_sentence(text: str) -> list[float]:
    """All durations after which a sentence asks to come again: `try again in 1m3.5s`."""
    found = [
        sum(float(number) * _unit(unit) for number, unit in _PIECE.findall(match[1]))
        for match in _ASKED.finditer(text)
    ]
    found += [float(n) * _CHINESE[unit] for n, unit in _ASKED_CHINESE.findall(text)]
    return [seconds for seconds in found if 0 < seconds <= FARTHEST_S]


def _unit(word: str) -> float:
    word = word.lower()
    return _UNITS["ms"] if word.startswith(("ms", "milli")) else _UNITS[word[0]]


def reset_in(text: str, now_ms: int) -> float | None:
    """Seconds until the first time to come that a text names; without a zone it is Beijing's,
    for only Chinese providers write it in words."""
    for match in _MOMENT.finditer(text):
        *parts, zone = match.groups(default="0")
        try:
            year, month, day, hour, minute, second = map(int, parts)
            place = _BEIJING if zone == "0" else UTC
            when = datetime(year, month, day, hour, minute, second, tzinfo=place)
        except ValueError:
            continue
        left = when.timestamp() - now_ms / 1000
        if 0 < left <= FARTHEST_S:
            return left
    return None


def window_s(texts: str) -> float | None:
    """The shortest window of a limit that is named: `per minute`, `RPD`, `每天`."""
    return next((seconds for seconds, words in _WINDOWS if words.search(texts)), None)


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


def rate_headers(headers: Mapping[str, str], now_ms: int) -> RateHeaders | None:
    """`x-ratelimit-{limit,remaining,reset}-requests`, as OpenAI sends them. `now_ms` is for
    resets that name a moment."""
    limit = _whole(headers.get("x-ratelimit-limit-requests"))
    remaining = _whole(headers.get("x-ratelimit-remaining-requests"))
    if limit is None and remaining is None:
        return None
    reset = seconds_until(headers.get("x-ratelimit-reset-requests"), now_ms)
    # No body gives a reason for a longer wait.
    return RateHeaders(limit, remaining, None if reset is None else min(reset, HOUR_S))


def written(seconds: float) -> str:
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
