"""Which of an account's unknown limits an answer tells something about.

Owns the two learned limits of one account, calls at once and calls in a window, and the
reasoning from answers to them. Promises to blame a limit only for a refusal that it can
explain. Never waits, never counts calls: it is told how many were under way and in the window.

Providers seldom say which limit was hit. A refusal with nothing else under way is about the
rate; one within what was often accepted at once, and beyond what was ever accepted in a window,
too. Otherwise concurrency is tried first, for that is soon found out: if the next call, beside
fewer others, is refused as well, it was the rate, and the cut is taken back.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from asyncsvc.limits.learned_limit import Learned

CONCURRENCY_START, CONCURRENCY_MOST = 2, 32
RPM_START, RPM_MOST = 30, 10_000
SHOWN = ("concurrency", "rpm")


@dataclass(slots=True)
class _Round:
    """Since when, and how often the limit was reached in it."""

    began: float = 0.0
    hits: int = 0


@dataclass(slots=True)
class Adaptive:
    """`accepted` and `refused` for each answer; None stands for a limit that is fixed."""

    concurrency: Learned | None
    rate: Learned | None
    span_s: float
    tells: bool = False
    """Whether the provider says so when it is the concurrency."""
    proven: int = 1
    """The most calls at once that were accepted."""
    proven_rate: int = 0
    """The most calls in a window that were accepted."""
    _doubt: Learned | None = None
    _refused: bool = False
    _cut_at: float = -1.0
    _last: str | None = None
    _rounds: tuple[_Round, _Round] = field(default_factory=lambda: (_Round(), _Round()))

    @classmethod
    def of(cls, concurrency: bool, rate: bool, span_s: float) -> "Adaptive":
        """For the limits that are to be learned."""
        at_once = Learned(CONCURRENCY_START, ceiling=CONCURRENCY_MOST) if concurrency else None
        in_window = Learned(RPM_START, ceiling=RPM_MOST) if rate else None
        return cls(at_once, in_window, span_s)

    def as_set(self, concurrency: bool, rate: bool, span_s: float) -> "Adaptive":
        """The one for these limits: what is still to be learned goes on from what is known."""
        known = (self.concurrency is not None, self.rate is not None, self.span_s)
        if known == (concurrency, rate, span_s):
            return self
        other = Adaptive.of(concurrency, rate, span_s)
        if concurrency and self.concurrency is not None:
            other.concurrency = self.concurrency
        if rate and self.rate is not None and span_s == self.span_s:
            other.rate = self.rate
        other.tells = self.tells
        return other

    @property
    def learns(self) -> bool:
        return self.concurrency is not None or self.rate is not None

    def accepted(self, at_once: int, in_window: int, now: float) -> None:
        """A call was accepted: with it so many were under way, and so many in the window."""
        self._refused, self._doubt = False, None
        self.proven = max(self.proven, at_once)
        self.proven_rate = max(self.proven_rate, in_window)
        loads = ((self.concurrency, at_once), (self.rate, in_window))
        for (limit, load), turn in zip(loads, self._rounds, strict=True):
            if limit is None or load < limit.value:
                continue
            turn.hits += 1
            # Where nothing is known yet there is no use in waiting for a window to pass.
            enough = limit.value if limit is self.concurrency else 1
            if not limit.settled or (turn.hits >= enough and now - turn.began >= self.span_s):
                limit.full_round()
                turn.began, turn.hits = now, 0

    def refused(
        self, said_concurrency: bool, beside: int, in_window: int, sent: float, now: float
    ) -> bool:
        """A call sent at `sent` was refused: `beside` it so many were under way, and so many
        had been accepted in the window. Whether a learned limit explains it."""
        self.tells |= said_concurrency
        again = self._refused or sent <= self._cut_at
        last = self._last
        limit = self._blamed(said_concurrency, beside, in_window)
        self._refused = True
        for turn in self._rounds:
            turn.began, turn.hits = now, 0
        if limit is None:
            return False
        self._last = "concurrency" if limit is self.concurrency else "rate"
        again = again and self._last == last
        if limit is self.concurrency:
            limit.refused(beside, again)
            self.proven = max(1, min(self.proven, beside))
        else:
            limit.refused(in_window, again)
            self.proven_rate = min(self.proven_rate, in_window)
        self._cut_at = now
        return True

    def _blamed(self, said_concurrency: bool, beside: int, in_window: int) -> Learned | None:
        at_once, rate = self.concurrency, self.rate
        if said_concurrency:
            return at_once if beside else None
        if self.tells or at_once is None or not beside:
            return rate
        if rate is None or not in_window:
            return at_once
        if self._doubt is not None:
            self.concurrency, self._doubt = self._doubt, None
            return rate
        if beside < self.proven and in_window >= self.proven_rate:
            return rate
        self._doubt = replace(at_once)
        return at_once

    def told(self, limit: int, reset_s: float | None) -> None:
        """The provider names its limit of calls in a window, whole again in `reset_s`.

        One that takes longer than a window to be whole again is of an hour or a day.
        """
        if self.rate is not None and limit > 0 and (reset_s is None or reset_s <= self.span_s):
            self.rate.told(limit)

    def as_dict(self) -> dict[str, Any]:
        """What is kept over a restart."""
        limits = zip(SHOWN, (self.concurrency, self.rate), strict=True)
        kept: dict[str, Any] = {name: limit.as_dict() for name, limit in limits if limit}
        return kept | {"tells": self.tells}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on where an earlier process was; raises LookupError, TypeError or ValueError."""
        for name, limit in zip(SHOWN, (self.concurrency, self.rate), strict=True):
            if limit is not None and name in kept:
                limit.restore(kept[name])
        self.tells = bool(kept.get("tells"))
        if self.concurrency is not None and self.concurrency.settled:
            self.proven = self.concurrency.value
        if self.rate is not None and self.rate.settled:
            self.proven_rate = self.rate.value
