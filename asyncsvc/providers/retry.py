"""How long to wait before trying again.

Owns the arithmetic of delays: exponential with full jitter, and the reading of Retry-After.
Never decides whether to try again; the error's class knows that.
"""

import random
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_S = 86_400.0
"""More than a day is a mistake or a jest, and would close a gate until the next start."""


def backoff(
    tries: int, base_s: float, max_s: float, draw: Callable[[], float] = random.random
) -> float:
    """Seconds to wait after `tries` earlier tries: anything up to base·2^tries, at most max_s.

    Full jitter keeps those that failed together from coming back together; a tenth is the
    least, for a retry that does not wait at all only fails again.
    """
    ceiling = min(max_s, base_s * 2.0 ** min(tries, 60))
    return ceiling * max(draw(), 0.1)


def retry_after(header: str | None, now_ms: int) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP date (RFC 9110, 10.2.3).

    At most a day; None where there is no such header or nobody could say what it means.
    """
    if header is None:
        return None
    text = header.strip()
    if text.replace(".", "", 1).isdigit() and text.isascii():
        return min(float(text), LONGEST_S)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    stamp = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return min(max(stamp - now_ms / 1000, 0.0), LONGEST_S)
