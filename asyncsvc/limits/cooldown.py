"""Cooldown: how long an account takes no calls after its provider has refused one.

`Cooldown` is for refusals that say what they are about: slow down, or the quota is used up. Calls
refused together count as one refusal, and a time that the provider names takes the place of a
guess. `Refusals` is for those that name neither the key, the account nor the model: the account
rests, then the breaker lets one probe pass.

    open ──refused──▶ resting ──rest over──▶ one probe ──success──▶ open
                         ▲                       │
                         └───── refused ─────────┘   another request, alike: `repeated`

Whether an answer was a refusal is decided elsewhere. Times are the event loop's seconds.
"""

import math
import re

from asyncsvc.errors import ProviderError, QuotaExhausted, RateLimited, Unexplained
from asyncsvc.limits.backoff import backoff
from asyncsvc.limits.headers import HOUR_S
from asyncsvc.limits.verdict import READY, Verdict

ERROR_CHARS = 160
"""Characters of the provider's error in a reason."""
LEARNED_SHARE = 1 / 60
"""The part of the window for which an account with learned limits rests after a first refusal.
The lower limit is the remedy; the rest only keeps a provider from being asked again in the same
moment."""
QUOTA_S = 3600.0
"""The cooldown for a used-up quota whose renewal the provider does not name."""


class Cooldown:
    """The time in which an account takes no calls: `refused`, `used_up` or `asked` begins it, and
    `answered` ends its growth."""

    def __init__(self, base_s: float, max_s: float, span_s: float) -> None:
        self.configure(base_s, max_s, span_s)
        self.why: ProviderError | None = None
        """The refusal for which the account cools down, or last did."""
        self.until = -math.inf
        self._named = False
        """Whether the provider named the time."""
        self._slowed = 0

    @property
    def exhausted(self) -> bool:
        """Whether it is a quota that is used up."""
        return isinstance(self.why, QuotaExhausted)

    def configure(self, base_s: float, max_s: float, span_s: float) -> None:
        """Set the first and the longest cooldown after a refusal that names no time; the window."""
        self._base_s, self._max_s, self._span_s = base_s, max_s, span_s

    def reset(self) -> None:
        """End the cooldown for a used-up quota: an operator asks for another try."""
        if self.exhausted:
            self.why, self.until, self._named = None, -math.inf, False

    def verdict(self, now: float) -> Verdict:
        """Whether a call may start as far as the cooldown is concerned."""
        if self.until <= now:
            return READY
        return Verdict("quota" if self.exhausted else "slow_down", self.until)

    def describe(self, now: float) -> str:
        """Why the account cools down and for how long, for people."""
        if self.exhausted:
            words = str(self.why)[:ERROR_CHARS]
            return f"quota used up, next in {self.until - now:.0f} s: {words}"
        return f"asked to slow down, next in {self.until - now:.0f} s"

    def answered(self) -> None:
        """A call was accepted: the next refusal is a first one again."""
        self._slowed = 0

    def asked(self, wait_s: float, now: float) -> None:
        """The provider asks for a pause of so long in a header."""
        header = RateLimited("a header says that nothing is left of the limit")
        self._begin(now + min(wait_s, HOUR_S), header, named=True)

    def used_up(
        self, retry_after: float | None, now: float, why: ProviderError | None = None
    ) -> None:
        """A quota is used up."""
        self._begin(now + (retry_after or QUOTA_S), why, named=bool(retry_after))

    def refused(
        self,
        retry_after: float | None,
        now: float,
        learned: bool,
        why: ProviderError | None = None,
    ) -> None:
        """The provider asks to slow down; `learned`: a lower limit is the answer to that."""
        # Zero and a date gone by are no answer: coming back at once is what was refused.
        if retry_after:
            self._begin(now + retry_after, why, named=True)
            return
        # Calls that were under way together are refused together: that is one "slow down".
        if now < self.until:
            return
        if learned:
            guess = self._span_s * LEARNED_SHARE * 2.0 ** min(self._slowed, 60)
            guess = min(guess, self._max_s)
        else:
            guess = backoff(self._slowed, self._base_s, self._max_s)
        self._slowed += 1
        self._begin(now + guess, why, named=False)

    def _begin(self, until: float, why: ProviderError | None, named: bool) -> None:
        if until > self.until or (named and not self._named):
            self.until, self.why, self._named = until, why, named


FIRST_S, MOST_S = 2.0, 60.0
"""The first rest and the longest, in seconds; each refused probe doubles it."""
# Begins only where a run of these signs begins: from each sign within, it would look to the end.
_CHANGING = re.compile(r"(?<![0-9a-f])[0-9a-f]*\d[0-9a-f]*")


class Refusals:
    """The unexplained refusals since the last success: how many, whether two requests were refused
    alike, and how long the account rests. Refusals of calls under way together count as one."""

    def __init__(self) -> None:
        self.last: Unexplained | None = None
        """The latest refusal since the last success."""
        self.repeated = False
        """Whether two different requests were refused alike, with no success between."""
        self.resting = False
        """Whether the account rests, or waits for its probe, because of them."""
        self._count = 0
        self._request: str | None = None
        self._at = 0.0

    def refused(
        self, error: Unexplained, request: str | None, sent_at: float | None, now: float
    ) -> float | None:
        """Seconds to rest; None where the call was sent before the latest refusal was known."""
        before = self.last
        if before is not None and sent_at is not None and sent_at < self._at:
            return None
        if before is not None and request != self._request and _alike(before, error):
            self.repeated = True
        self.last, self._request, self._at = error, request, now
        self._count += 1
        self.resting = True
        grown = min(FIRST_S * 2.0 ** min(self._count - 1, 10), MOST_S)
        # Never longer than the provider asks for.
        return min(error.retry_after, MOST_S) if error.retry_after else grown

    def describe(self, left_s: float) -> str:
        """Why the account rests, for people; `left_s` until its probe, inf: while that is under
        way."""
        when = "a probe is under way" if left_s == math.inf else f"a probe in {left_s:.0f} s"
        return f"rests after a refusal, {when}: {str(self.last)[:ERROR_CHARS]}"

    def passed(self) -> bool:
        """A call was accepted, though it has not succeeded yet; whether that ends a rest."""
        rested, self.resting = self.resting, False
        return rested

    def answered(self) -> None:
        """A call succeeded, or an operator asks for another try."""
        self.last, self.repeated, self._count, self._request = None, False, 0, None
        self.resting = False


def _alike(one: Unexplained, other: Unexplained) -> bool:
    """Whether two refusals say the same, but for numbers that change from one to the next."""
    same = one.status == other.status and one.code == other.code
    return same and _CHANGING.sub("#", str(one)) == _CHANGING.sub("#", str(other))
