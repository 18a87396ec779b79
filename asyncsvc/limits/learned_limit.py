"""Limits that a provider does not tell, learned from its answers.

Owns one learned number: how many calls at once, or how many in a window. Promises to stay
between floor and ceiling, to come down at once when the provider refuses and to go up again
slowly; that probing becomes rarer each time it fails. Never waits, never talks to anybody.

A refusal says more than "less": what the provider had accepted at that moment is its limit. So
the first refusal gives the number itself, and what follows are rare probes one above it, where
plain halving would give up a third of the rate for good.
"""

from dataclasses import dataclass
from typing import Any

CUT = 0.5
"""A single refusal takes no more than this share: it may be a passing mood of the provider."""
PATIENCE = 4
"""Full rounds without a refusal before the first probe; doubled by each probe that fails."""
PATIENCE_MOST = 64
PATIENCE_AFTER_A_CUT = 2
GROWTH = 1.5
"""While no refusal has said where the limit is."""


@dataclass(slots=True)
class Learned:
    """A limit between `floor` and `ceiling`. A round is a time in which it was used up."""

    value: int
    floor: int = 1
    ceiling: int = 1_000
    patience: int = PATIENCE
    rounds: int = 0
    step: int = 1
    settled: bool = False
    """Whether a refusal or a header has ever said where the limit is."""
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
            self.probing, self.patience, self.step = False, 1, self.step * 2
        self.rounds += 1
        if self.rounds >= self.patience and self.value < self.ceiling:
            self._raise_to(self.value + self.step)
            self.probing = True

    def refused(self, accepted: int, again: bool = False) -> None:
        """The provider said no while it had accepted that many; `again`: in the same breath."""
        if not again:
            if self.probing:
                self.patience = min(self.patience * 2, PATIENCE_MOST)
            elif self.settled and accepted < self.value - 1:
                # Its limit has become smaller, or somebody else uses the account too.
                self.patience = PATIENCE_AFTER_A_CUT
            self._before = self.value
            self.probing, self.named, self.step = False, False, 1
        least = max(accepted, round(self._before * CUT), self.floor)
        self.value = min(self.value, least)
        self.settled = True
        self.rounds = 0

    def told(self, limit: int) -> None:
        """The provider names its limit itself, in a header."""
        self.value = max(self.floor, min(self.ceiling, limit))
        self.settled = self.named = True

    def as_dict(self) -> dict[str, Any]:
        """What is kept over a restart: a probe that has not stood yet is not."""
        sure = self.value - self.step if self.probing else self.value
        return {"value": sure, "patience": self.patience, "settled": self.settled}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on where an earlier process was; raises LookupError, TypeError or ValueError."""
        value, patience, settled = int(kept["value"]), int(kept["patience"]), kept["settled"]
        self.value = max(self.floor, min(self.ceiling, value))
        self.patience = max(1, min(patience, PATIENCE_MOST))
        self.settled = bool(settled)

    def _raise_to(self, value: int) -> None:
        self.value = min(self.ceiling, value)
        self.rounds = 0
