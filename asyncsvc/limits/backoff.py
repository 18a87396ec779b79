"""How long to wait before trying again.

Owns the arithmetic of delays: exponential with full jitter, and the reading of Retry-After.
Never decides whether to try again; the error's class knows that.
"""

import random
from collections.abc import Callable

from asyncsvc.limits.headers import seconds_until

LONGEST_S = 86_400.0
"""The longest wait that a header alone may ask for."""


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
    """Seconds that a Retry-After header asks for: a number, a date, a moment since 1970.

    At most a day; None where there is no such header or it makes no sense.
    """
    seconds = seconds_until(header, now_ms)
    return None if seconds is None else min(seconds, LONGEST_S)
