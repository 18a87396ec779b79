"""Wall-clock time: the only place that asks the system what time it is.

Owns the conversion between timestamps (integer milliseconds since the epoch, UTC) and
RFC 3339. Promises that everything else takes `now` as an argument of type `Now`, so tests
can stand still or jump a day. Never measures durations: those use the event loop's clock,
which no administrator can set back; only what must outlive the process uses `uptime_ms`.
"""

import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

Now = Callable[[], int]
"""Answers the current time in milliseconds since the epoch."""


_48_BITS = (1 << 48) - 1
_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_RANDOM: deque[bytes] = deque()
"""Ten bytes an id, each used once; any thread may take some."""
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):[0-5]\d:)([0-5]\d|60)"
    r"((?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d))",
    re.ASCII,
)
"""Narrower than ISO 8601: no week dates, no days of the year, no offsets with seconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    """The system's wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


Uptime = Callable[[], tuple[str, int]]
"""Answers (which start of the machine, ms since then): no administrator sets it."""


def uptime_ms() -> tuple[str, int]:
    """The machine's own clock, sleep included; where starts have no name, this process's."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    nanos = time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)
    return _boot(), nanos // 1_000_000


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(8)


def left_ms(due: int, set_at: int, now: int) -> int:
    """How much is left of a wait that was set at one time to be over at another.

    A clock that was set back in between never makes it longer than it was.
    """
    return max(0, min(due - now, due - set_at))


def rfc3339(ms: int) -> str:
    """A timestamp as `2026-11-20T18:34:16.123Z`."""
    whole, milli = divmod(ms, 1000)
    return f"{_second(whole)}.{milli:03d}Z"


def optional_rfc3339(ms: int | None) -> str | None:
    """The same, or None for None."""
    return None if ms is None else rfc3339(ms)


@lru_cache(maxsize=256)
def _second(whole: int) -> str:
    # Each event carries a timestamp, and thousands fall into the same second.
    return datetime.fromtimestamp(whole, UTC).replace(tzinfo=None).isoformat()


def from_rfc3339(text: str) -> int:
    """Milliseconds since the epoch, cut off and not rounded: what is read can be written.

    A leap second is the first moment of the next minute. ValueError for what is no RFC 3339 time,
    OverflowError for one that is outside of the years 1 to 9999 in UTC.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("not a time of RFC 3339")
    head, second, rest = found.groups()
    leap = second == "60"
    stamp = datetime.fromisoformat(f"{head}{'59' if leap else second}{rest}".upper())
    since = stamp.astimezone(UTC) - _EPOCH
    if not leap:
        return since // timedelta(milliseconds=1)
    minute = since // timedelta(minutes=1) + 1
    first = _EPOCH + timedelta(minutes=minute)
    if (first.day, first.hour, first.minute) != (1, 0, 0):
        raise ValueError("a leap second ends a month, in UTC")
    return minute * 60_000


def time_of(an_id: str) -> int | None:
    """When an id of `new_id` was made, in ms; None: it is no such id."""
    if _ID.fullmatch(an_id) is None:
        return None
    return int(an_id[:8] + an_id[9:13], 16)


def new_id(at_ms: int) -> str:
    """A UUID of version 7 (RFC 9562): sorts by time, so index pages fill in order."""
    at = f"{at_ms & _48_BITS:012x}"
    try:
        rest = _RANDOM.pop()
    except IndexError:
        # Each visit to the system's source gives the interpreter's lock away: hence many at once.
        many = os.urandom(10 * 256)
        _RANDOM.extend(many[i : i + 10] for i in range(10, len(many), 10))
        rest = many[:10]
    text = rest.hex()
    return f"{at[:8]}-{at[8:]}-7{text[:3]}-{'89ab'[rest[9] & 3]}{text[3:6]}-{text[6:18]}"
