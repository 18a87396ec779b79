"""The tokens that an account may use in any minute.

Owns the sliding log of tokens reserved and used. Promises that no call is let in whose
estimate does not fit beside what counts at that moment. Never orders anybody: it answers how
long to wait, and who is first is for the lanes to say.

A call counts its estimate from the moment in which it is let in, and until a window after the
provider surely had it. What it really used takes the estimate's place; where that is more, the
rest counts from the end of the call, for only then has the provider counted it. An estimate
above the whole limit is taken for the limit: it goes alone, or it could never go.
"""

import math
from collections import deque

from asyncsvc.limits.sliding_window import KEPT, LAG, MARGIN_S


class Share:
    """The tokens of one call; they count until `span_s` after `at`."""

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: int, at: float = math.inf) -> None:
        self.tokens = tokens
        self.at = at


class Budget:
    """`limit` tokens in any `span_s`; 0 is unlimited. Times are the event loop's.

    `limit` and the span may be set at any time; what was used already counts towards the new ones.
    """

    def __init__(self, limit: int, span_s: float = 60.0, lag_s: float | None = None) -> None:
        self.limit = limit
        self.span_s = span_s
        self.lag_s = span_s / LAG if lag_s is None else lag_s
        self._log: deque[Share] = deque()

    def span(self, span_s: float) -> None:
        """Another length from now on."""
        self.span_s, self.lag_s = span_s, span_s / LAG

    def reserve(self, tokens: int) -> Share:
        """Take the estimate out of the budget."""
        tokens = max(tokens, 1)
        share = Share(min(tokens, self.limit) if self.limit else tokens)
        self._log.append(share)
        if not self.limit and len(self._log) > KEPT:
            self._log.popleft()
        return share

    def sent(self, share: Share, now: float) -> None:
        """The request is on its way."""
        share.at = now + self.lag_s

    def head(self, share: Share, now: float) -> None:
        """The provider has begun to answer, so it had the call by now."""
        share.at = min(share.at, now)

    def used_up(self, share: Share, tokens: int, now: float) -> None:
        """The call is over, and this is what it has used."""
        more = tokens - share.tokens
        share.tokens = min(tokens, share.tokens)
        if more > 0:
            self._log.append(Share(more, now))

    def refund(self, share: Share) -> None:
        """The call was never made."""
        share.tokens = 0

    def restore(self, age_s: float, tokens: int, now: float) -> None:
        """Enter a call that an earlier process began to make `age_s` ago; oldest first."""
        self.reserve(tokens).at = now - max(age_s, 0.0) + self.lag_s

    def used(self, now: float) -> int:
        """Tokens that count at this moment."""
        gone = now - self.span_s - MARGIN_S
        while self._log and (self._log[0].at <= gone or not self._log[0].tokens):
            self._log.popleft()
        return sum(share.tokens for share in self._log if share.at > gone)

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until that many more fit; 0 now, inf where that hangs on another call."""
        if not self.limit:
            return 0.0
        over = self.used(now) + min(max(tokens, 1), self.limit) - self.limit
        if over <= 0:
            return 0.0
        gone = now - self.span_s - MARGIN_S  # as in `used`: a sum would be rounded differently
        for share in sorted(self._log, key=lambda share: share.at):
            if share.at > gone:
                over -= share.tokens
                if over <= 0:
                    return max(share.at + self.span_s + MARGIN_S - now, 1e-9)
        return math.inf

    def whole(self, now: float) -> float:
        """Seconds until none counts any more; inf where that hangs on a call not yet sent."""
        if not self.used(now):
            return 0.0
        last = max(share.at for share in self._log if share.tokens)
        return last + self.span_s + MARGIN_S - now
