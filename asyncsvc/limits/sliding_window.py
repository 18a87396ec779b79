"""A strict sliding window over the calls to one provider account.

Owns the log of recent calls. Promises that at most `limit` calls reach the provider in any
`span_s` seconds, as long as a call reaches it within `lag_s` of being sent. Never waits:
it answers how long to wait.

A call counts from when the provider surely has it: when its response's head was seen, or
`lag_s` after sending, whichever is earlier. Counted from sending, a delay on the network
moves an early call into the next window (46 instead of 40 measured with 30 ms of jitter).
"""

import math
from collections import deque
from contextlib import suppress
from itertools import islice

KEPT = 10_000
"""Calls noted of an account without a limit, in case it is given one."""
LAG = 30
"""Of the span: how long a call may take to reach the provider."""
MARGIN_S = 0.002
"""Timers may fire a little early; two calls exactly one span apart are still two."""


class Stamp:
    """One call in the log; it occupies the window until `span_s` after `at`."""

    __slots__ = ("at", "noted", "refused")

    def __init__(self) -> None:
        self.at = math.inf  # reserved, not sent: it may reach the provider at any time yet
        self.refused = False
        self.noted = True


class Window:
    """`limit` calls in any `span_s`; 0 is unlimited. Times are the event loop's.

    `limit` and the span may be set at any time; calls already made count towards the new ones,
    as far back as the old span.
    """

    def __init__(self, limit: int, span_s: float = 60.0, lag_s: float | None = None) -> None:
        self.limit = limit
        self.span_s = span_s
        self.lag_s = span_s / LAG if lag_s is None else lag_s
        self._log: deque[Stamp] = deque()
        self._refused = 0

    def span(self, span_s: float) -> None:
        """Another length from now on."""
        self.span_s, self.lag_s = span_s, span_s / LAG

    def reserve(self) -> Stamp:
        """Take a place before the call is made."""
        stamp = Stamp()
        self._log.append(stamp)
        if not self.limit and len(self._log) > KEPT:
            self._forget()
        return stamp

    def _forget(self) -> None:
        gone = self._log.popleft()
        gone.noted = False
        self._refused -= gone.refused

    def sent(self, stamp: Stamp, now: float) -> None:
        """The request is on its way."""
        stamp.at = now + self.lag_s

    def head(self, stamp: Stamp, now: float) -> None:
        """The provider has begun to answer, so it had the call by now."""
        stamp.at = min(stamp.at, now)

    def refuse(self, stamp: Stamp) -> None:
        """The provider has turned it away. It counts all the same: some providers count it."""
        stamp.refused = True
        self._refused += stamp.noted

    def refund(self, stamp: Stamp) -> None:
        """The call was never made."""
        stamp.noted = False
        with suppress(ValueError):
            self._log.remove(stamp)

    def restore(self, age_s: float, now: float) -> None:
        """Enter a call that an earlier process began to make `age_s` ago; oldest first.

        It may have reached the provider up to `lag_s` later than it was noted.
        """
        stamp = self.reserve()
        stamp.at = now - max(age_s, 0.0) + self.lag_s

    def used(self, now: float) -> int:
        """Calls that count at this moment."""
        log = self._log
        while log and log[0].at + self.span_s + MARGIN_S <= now:
            self._forget()
        return len(log)

    def accepted(self, now: float) -> int:
        """Those of them that the provider has not refused."""
        return self.used(now) - self._refused

    def wait(self, now: float) -> float:
        """Seconds until one more call fits; 0 now, inf where that hangs on another call."""
        if not self.limit or (used := self.used(now)) < self.limit:
            return 0.0
        # Of a log that a smaller limit has made too long, all that is beyond it must go.
        last = max(stamp.at for stamp in islice(self._log, used - self.limit + 1))
        return max(last + self.span_s + MARGIN_S - now, 0.0)

    def whole(self, now: float) -> float:
        """Seconds until none counts any more; inf where that hangs on a call not yet sent."""
        if not self.used(now):
            return 0.0
        return max(stamp.at for stamp in self._log) + self.span_s + MARGIN_S - now
