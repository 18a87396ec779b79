"""A strict sliding window over what one account may use: calls, tokens, or attempts.

The window owns the log of what was used. At most `limit` reaches the provider in any `span_s`
seconds, as long as a call reaches it within `lag_s` of being sent. The window never waits: it
answers when there is room.

A call counts from its reservation until `span_s` after the provider surely had it: when its
response's head was seen, or `lag_s` after sending, whichever is earlier. Counted from sending, a
delay on the network moves an early call into the next window (46 instead of 40 calls were
measured with 30 ms of jitter). An estimate of tokens that is too low is completed at the end of
the call, for only then has the provider counted the rest; an estimate above the whole limit is
taken for the limit: such a call goes alone, or it could never go.
"""

import math
from collections import deque

KEPT = 10_000
"""Entries noted without a limit, in case a limit is set later."""
LAG = 30
"""The part of the span, one in so many, that a call may take to reach the provider."""
MARGIN_S = 0.002
"""Timers may fire a little early; two calls exactly one span apart are still two."""


class Entry:
    """What one call uses; it counts until `span_s` after `at`."""

    __slots__ = ("at", "counts", "refused", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        """1 for a call, or its tokens."""
        self.at = math.inf  # reserved and not sent; it may reach the provider at any time yet
        self.counts = True
        self.refused = False


class Window:
    """`limit` in any `span_s` seconds; 0 is unlimited. Times are the event loop's.

    `limit` may be set at any time, the span by `span`; what was used already counts towards the
    new ones, as far back as the old span.
    """

    def __init__(self, limit: int, span_s: float = 60.0, lag_s: float | None = None) -> None:
        self.limit = limit
        self.span_s = span_s
        self.lag_s = span_s / LAG if lag_s is None else lag_s
        self._log: deque[Entry] = deque()
        """What was sent, in that order; reserved entries only count."""
        self._reserved = 0
        self._used = 0
        self._refused = 0

    def span(self, span_s: float) -> None:
        """Set another length."""
        self.span_s, self.lag_s = span_s, span_s / LAG

    def reserve(self, weight: int = 1) -> Entry:
        """Take room before the call is made."""
        weight = max(weight, 1)
        entry = Entry(min(weight, self.limit) if self.limit else weight)
        self._used += entry.weight
        self._reserved += 1
        return entry

    def _note(self, entry: Entry, at: float) -> None:
        entry.at = at
        self._log.append(entry)
        if not self.limit and len(self._log) > KEPT:
            self._forget()

    def _forget(self) -> None:
        self.refund(self._log.popleft())

    def sent(self, entry: Entry, now: float) -> None:
        """Note that the request is on its way, perhaps once more."""
        if entry.at == math.inf:
            self._reserved -= 1
        elif entry.counts:
            self._log.remove(entry)
        self._note(entry, now + self.lag_s)

    def head(self, entry: Entry, now: float) -> None:
        """Note that the provider has begun to answer, so that it had the call by now."""
        if entry.at < math.inf:
            entry.at = min(entry.at, now)

    def refuse(self, entry: Entry) -> None:
        """Note that the provider turned the call away. The call counts all the same: some
        providers count it."""
        entry.refused = True
        self._refused += entry.weight if entry.counts else 0

    def settle(self, entry: Entry, weight: int, now: float) -> None:
        """Note what a call has really used, at its end."""
        more = weight - entry.weight
        if more > 0:
            self._used += more
            self._note(Entry(more), now)
        elif not weight:
            self.refund(entry)
        elif entry.counts:
            self._used += more
            entry.weight = weight

    def refund(self, entry: Entry) -> None:
        """Let an entry count no more: its call was never made, or is too long ago."""
        if entry.counts:
            entry.counts = False
            self._reserved -= entry.at == math.inf
            self._used -= entry.weight
            self._refused -= entry.weight if entry.refused else 0

    def restore(self, age_s: float, now: float, weight: int = 1) -> None:
        """Enter a call that an earlier process began to make `age_s` ago; oldest first.

        The call may have reached the provider up to `lag_s` later than it was noted.
        """
        self.sent(self.reserve(weight), now - max(age_s, 0.0))

    def used(self, now: float) -> int:
        """What counts at this moment."""
        log = self._log
        while log and (log[0].at + self.span_s + MARGIN_S <= now or not log[0].counts):
            self._forget()
        return self._used

    def calls(self, now: float, most: int) -> list[tuple[float, bool]]:
        """The latest entries that count, newest first: seconds ago, and whether refused."""
        self.used(now)
        found = []
        for entry in reversed(self._log):
            if entry.counts:
                found.append((max(now - entry.at, 0.0), entry.refused))
                if len(found) == most:
                    break
        return found

    def accepted(self, now: float) -> int:
        """The part of it that the provider has not refused."""
        return self.used(now) - self._refused

    def opens_at(self, now: float, weight: int = 1) -> float:
        """The moment from which so much more fits, as things stand; inf where that depends on
        another call, a moment gone by where it fits now."""
        used = self.used(now)
        if not self.limit or (over := used + min(max(weight, 1), self.limit) - self.limit) <= 0:
            return -math.inf
        last = -math.inf
        for entry in self._log:
            if entry.counts:
                last = max(last, entry.at)
                over -= entry.weight
                if over <= 0:
                    return last + self.span_s + MARGIN_S
        return math.inf

    def wait(self, now: float, weight: int = 1) -> float:
        """Seconds until so much more fits; 0 now, inf where that depends on another call."""
        return max(self.opens_at(now, weight) - now, 0.0)

    def whole(self, now: float) -> float:
        """Seconds until nothing counts; inf where that depends on a call not yet sent."""
        if not self.used(now):
            return 0.0
        if self._reserved:
            return math.inf
        last = max(entry.at for entry in self._log if entry.counts)
        return last + self.span_s + MARGIN_S - now
