"""How long an account rests after its provider has asked for that.

Owns the cooldown: until when, for which refusal, and how it grows from one refusal to the next.
Promises that calls refused together count as one refusal, and that the time that a provider
names takes the place of one that was guessed. Never decides whether an answer was a refusal.
Times are the event loop's seconds.
"""

import math

from asyncsvc.errors import ProviderError, QuotaExhausted
from asyncsvc.limits.backoff import backoff
from asyncsvc.limits.named_times import HOUR_S

BREATH = 1 / 60
"""Of the window: how long a gate with learned limits rests after a refusal at first. The lower
limit is the remedy; the rest only keeps a provider from being asked again in the same moment."""
QUOTA_S = 3600.0
"""A quota that is used up comes back at a time that few providers tell."""


class Rest:
    """`refused`, `used_up` or `told` begin it; `answered` ends the growing."""

    def __init__(self, base_s: float, max_s: float, span_s: float) -> None:
        self.configure(base_s, max_s, span_s)
        self.why: ProviderError | None = None
        """The refusal for which the account rests, or has rested last; None: a header asked."""
        self._until = -math.inf
        self._named = False
        """Whether the provider named the time."""
        self._slowed = 0

    @property
    def exhausted(self) -> bool:
        """Whether it is a quota that is used up."""
        return isinstance(self.why, QuotaExhausted)

    def configure(self, base_s: float, max_s: float, span_s: float) -> None:
        """The first and the longest rest after a refusal that does not say how long; the window."""
        self._base_s, self._max_s, self._span_s = base_s, max_s, span_s

    def pardoned(self) -> None:
        """An operator asks for another try: the quota may be there again."""
        if self.exhausted:
            self.why, self._until, self._named = None, -math.inf, False

    def left(self, now: float) -> float:
        """Seconds still to rest; not above 0: none."""
        return self._until - now

    def answered(self) -> None:
        """A call was taken."""
        self._slowed = 0

    def told(self, wait_s: float, now: float) -> None:
        """The provider has said in a header for how long."""
        self._begin(now + min(wait_s, HOUR_S), None, named=True)

    def used_up(
        self, retry_after: float | None, now: float, why: ProviderError | None = None
    ) -> None:
        """A quota is at its end."""
        self._begin(now + (retry_after or QUOTA_S), why, named=bool(retry_after))

    def refused(
        self,
        retry_after: float | None,
        now: float,
        learned: bool,
        why: ProviderError | None = None,
    ) -> None:
        """Asked to slow down; `learned`: a lower limit is the answer to it."""
        # Zero and a date gone by are no answer: coming back at once is what was refused.
        if retry_after:
            self._begin(now + retry_after, why, named=True)
            return
        # Calls that were under way together are refused together: that is one "slow down".
        if now < self._until:
            return
        if learned:
            breath = self._span_s * BREATH * 2.0 ** min(self._slowed, 60)
            guess = min(breath, self._max_s)
        else:
            guess = backoff(self._slowed, self._base_s, self._max_s)
        self._slowed += 1
        self._begin(now + guess, why, named=False)

    def _begin(self, until: float, why: ProviderError | None, named: bool) -> None:
        if until > self._until or (named and not self._named):
            self._until, self.why, self._named = until, why, named
