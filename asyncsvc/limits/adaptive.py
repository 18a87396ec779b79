"""Limits that a provider does not name, learned from its answers.

`Learned` is one number: calls at once, or calls in a window. It comes down at once when the
provider refuses and goes up again slowly; probing becomes rarer each time it fails. A refusal says
more than "less": what the provider had accepted at that moment is its limit. So the first refusal
gives the number itself, and what follows are rare probes one above it, where plain halving would
give up a third of the rate for good.

`Adaptive` holds both numbers of one account and decides which of them a refusal is about, for
providers seldom say. A refusal with nothing else under way is about the rate; one within what was
often accepted at once, and beyond what was ever accepted in a window, too. Otherwise concurrency
is tried first, for that is soon found out: if the next call, beside fewer others, is refused as
well, it was the rate, and the cut is taken back.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

CONCURRENCY_START, CONCURRENCY_MOST = 2, 32
RPM_START, RPM_MOST = 30, 10_000
SHOWN = ("concurrency", "rpm")
CUT = 0.5
"""A single refusal takes no more than this share: the cause may pass."""
ROUNDS = 4
"""Full rounds without a refusal before the first probe; doubled by each probe that fails."""
ROUNDS_MOST = 64
ROUNDS_AFTER_A_CUT = 2
GROWTH = 1.5
"""The factor while no refusal has shown where the limit is."""


@dataclass(slots=True)
class Learned:
    """A limit between 1 and `ceiling`. A round is a time in which it was used up."""

    value: int
    ceiling: int = 1_000
    between: int = ROUNDS
    """Full rounds from one probe to the next."""
    rounds: int = 0
    step: int = 1
    settled: bool = False
    """Whether a refusal or a header has ever shown where the limit is."""
    probing: bool = False
    """Whether the value was raised and has not yet stood a round."""
    named: bool = False
    """Whether the provider itself names its limit; then there is nothing to probe."""
    _before: int = 0

    def full_round(self) -> None:
        """The limit was used up for a round, and nothing was refused."""
        if self.named:
            return
        if not self.settled:
            self._raise_to(max(self.value + 1, round(self.value * GROWTH)))
            return
        if self.probing:
            # The probe stood: the limit has grown, so the next comes sooner and goes further.
            self.probing, self.between, self.step = False, 1, self.step * 2
        self.rounds += 1
        if self.rounds >= self.between and self.value < self.ceiling:
            self._raise_to(self.value + self.step)
            self.probing = True

    def refused(self, accepted: int, again: bool = False) -> None:
        """The provider refused a call while it had accepted that many; `again`: together with the
        refusal before."""
        if not again:
            if self.probing:
                self.between = min(self.between * 2, ROUNDS_MOST)
            elif self.settled and accepted < self.value - 1:
                # Its limit has become smaller, or others use the account too.
                self.between = ROUNDS_AFTER_A_CUT
            self._before = self.value
            self.probing, self.named, self.step = False, False, 1
        least = max(accepted, round(self._before * CUT), 1)
        self.value = min(self.value, least)
        self.settled = True
        self.rounds = 0

    def named_by_provider(self, limit: int) -> None:
        """The provider names its limit itself, in a header."""
        self.value = max(1, min(self.ceiling, limit))
        self.settled = self.named = True

    def as_dict(self) -> dict[str, Any]:
        """The values to keep over a restart; a probe that has not stood yet is left out."""
        sure = self.value - self.step if self.probing else self.value
        return {"value": sure, "patience": self.between, "settled": self.settled}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on where an earlier process was; raises LookupError, TypeError or ValueError."""
        value, between, settled = int(kept["value"]), int(kept["patience"]), kept["settled"]
        self.value = max(1, min(self.ceiling, value))
        self.between = max(1, min(between, ROUNDS_MOST))
        self.settled = bool(settled)

    def _raise_to(self, value: int) -> None:
        self.value = min(self.ceiling, value)
        self.rounds = 0


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

    def limits(self, concurrency: int, rate: int) -> tuple[int, int]:
        """The present limits: what is learned of each, or else the given one."""
        return (
            concurrency if self.concurrency is None else self.concurrency.value,
            rate if self.rate is None else self.rate.value,
        )

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
        self, names_concurrency: bool, beside: int, in_window: int, sent: float, now: float
    ) -> bool:
        """A call sent at `sent` was refused: `beside` it so many were under way, and so many
        had been accepted in the window. Whether a learned limit explains it."""
        self.tells |= names_concurrency
        again = self._refused or sent <= self._cut_at
        last = self._last
        limit = self._explains(names_concurrency, beside, in_window)
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

    def _explains(self, names_concurrency: bool, beside: int, in_window: int) -> Learned | None:
        at_once, rate = self.concurrency, self.rate
        if names_concurrency:
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

    def named(self, limit: int, reset_s: float | None) -> None:
        """The provider names its limit of calls in a window, whole again in `reset_s`.

        One that takes longer than a window to be whole again is of an hour or a day.
        """
        if self.rate is not None and limit > 0 and (reset_s is None or reset_s <= self.span_s):
            self.rate.named_by_provider(limit)

    def as_dict(self) -> dict[str, Any]:
        """What is kept over a restart."""
        limits = zip(SHOWN, (self.concurrency, self.rate), strict=True)
        kept: dict[str, Any] = {name: limit.as_dict() for name, limit in limits if limit}
        return kept | {"tells": self.tells}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on where an earlier process was; what makes no sense is left out."""
        for name, limit in zip(SHOWN, (self.concurrency, self.rate), strict=True):
            if limit is not None and name in kept:
                with suppress(LookupError, TypeError, ValueError):
                    limit.restore(kept[name])
        self.tells = bool(kept.get("tells"))
        if self.concurrency is not None and self.concurrency.settled:
            self.proven = self.concurrency.value
        if self.rate is not None and self.rate.settled:
            self.proven_rate = self.rate.value
