"""Refusals that name neither the key, the account nor the model: what they say of an account.

Owns the row of such refusals since the last success: how many, whether two requests were
refused alike, how long the account rests. Promises that refusals of calls under way together
count as one, and that a success forgets all. Never lets a call pass: the breaker does.

    open ──refused──▶ resting ──rest over──▶ one probe ──success──▶ open
                         ▲                       │
                         └───── refused ─────────┘   another request, alike: `repeated`
"""

import re

from asyncsvc.errors import Unexplained

FIRST_S, MOST_S = 2.0, 60.0
"""The first rest and the longest; each refused probe doubles it."""
_CHANGING = re.compile(r"[0-9a-f]*\d[0-9a-f]*")


class Refusals:
    """`refused` with each such refusal, `answered` with each success."""

    def __init__(self) -> None:
        self.last: Unexplained | None = None
        """The latest since the last success."""
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

    def passed(self) -> bool:
        """A call was taken, though it has not succeeded yet; whether that ends a rest."""
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
