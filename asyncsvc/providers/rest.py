"""How long an account rests after its provider has asked for that.

Owns the cool-down: until when, whether a used-up quota is the reason, and how it grows from one
refusal to the next. Promises that calls refused together count as one refusal. Never decides
whether an answer was a refusal. Times are the event loop's seconds.
"""

import math

from asyncsvc.providers.retry import LONGEST_S, backoff

BREATH = 1 / 60
"""Of the window: how long a gate with learned limits rests after a refusal at first. The lower
limit is the remedy; the rest only keeps a provider from being asked again in the same moment."""
QUOTA_S = 3600.0
"""A quota that is used up comes back at a time that few providers tell."""


class Rest:
    """`refused`, `used_up` or `told` begin it; `answered` ends the growing."""

    def __init__(self, base_s: float, max_s: float, span_s: float) -> None:
        self.configure(base_s, max_s, span_s)
        self._until = -math.inf
        self._slowed = 0
        self.exhausted = False
        """Whether the last failure was that of a quota."""

    def configure(self, base_s: float, max_s: float, span_s: float) -> None:
        """The first and the longest rest after a refusal that does not say how long; the window."""
        self._base_s, self._max_s, self._span_s = base_s, max_s, span_s

    def pardoned(self) -> None:
        """Somebody says that the quota may be there again."""
        if self.exhausted:
            self.exhausted, self._until = False, -math.inf

    def left(self, now: float) -> float:
        """Seconds still to rest; not above 0: none."""
        return self._until - now

    def answered(self) -> None:
        """A call was taken."""
        self._slowed = 0

    def told(self, wait_s: float, now: float) -> None:
        """The provider has said in a header for how long."""
        self._until = max(self._until, now + min(wait_s, LONGEST_S))

    def used_up(self, retry_after: float | None, now: float) -> None:
        """A quota is at its end."""
        self._until = max(self._until, now + (retry_after or QUOTA_S))

    def refused(self, retry_after: float | None, now: float, learned: bool) -> None:
        """Asked to slow down; `learned`: a lower limit is the answer to it."""
        # Zero and a date gone by are no answer: coming back at once is what was refused.
        if not retry_after:
            # Calls that were under way together are told so together: that is one "slow down".
            if now < self._until:
                return
            if learned:
                breath = self._span_s * BREATH * 2.0 ** min(self._slowed, 60)
                retry_after = min(breath, self._max_s)
            else:
                retry_after = backoff(self._slowed, self._base_s, self._max_s)
            self._slowed += 1
        self._until = max(self._until, now + retry_after)
