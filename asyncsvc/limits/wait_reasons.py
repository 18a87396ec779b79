"""What has kept an account from beginning its next call, and for how long.

Owns one clock for each reason, of which at most one runs, and what they showed in the past.
Promises that `between` costs the same however long somebody has waited and however many wait,
and is exact but for a hundredth of how long ago the beginning was. Never judges what the reason
is: the gate and whoever hands out its permits know what they wait for. Times are the event
loop's seconds.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Literal, get_args

Reason = Literal[
    "concurrency",  # all slots were busy
    "rate",  # the window was full, or filling too fast
    "slow_down",  # the provider had asked to be left alone
    "quota",  # its quota was used up
    "breaker",  # it had failed too often
    "held",  # somebody had paused the model
    "disabled",  # it took no call at all any more
    "tokens",  # the budget had no room for the tokens
    "patience",  # it was free, and left so for the sake of a faster one
]
REASONS: tuple[Reason, ...] = get_args(Reason)
KEPT = 4096
FINE = 100
"""Of what is long past, one state is kept for each hundredth of its age."""


class WaitReasons:
    """`met` whenever the reason changes; `between` to ask."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._since = 0.0
        self._totals = dict.fromkeys(REASONS, 0.0)
        self._times: list[float] = []
        self._states: list[tuple[float, ...]] = []

    def met(self, reason: Reason | None, now: float) -> None:
        """This is what the next call waits for from now on; None: for nothing but a task."""
        if reason is self.reason:
            return
        if self.reason is not None:
            self._totals[self.reason] += now - self._since
        self.reason, self._since = reason, now
        self._times.append(now)
        self._states.append(tuple(self._totals.values()))
        if len(self._times) > KEPT:
            self._thin(now)

    def between(self, start: float, now: float) -> dict[str, float]:
        """Seconds since `start` by reason; those that did not occur are left out."""
        then = self._at(start, now)
        waited = zip(REASONS, self._current(now), then, strict=True)
        return {name: after - before for name, after, before in waited if after > before}

    def _current(self, now: float) -> tuple[float, ...]:
        running = self.reason
        extra = now - self._since
        return tuple(v + extra if name is running else v for name, v in self._totals.items())

    def _at(self, time: float, now: float) -> tuple[float, ...]:
        """What the clocks showed."""
        index = bisect_right(self._times, time)
        if index == 0:
            return (0.0,) * len(REASONS)
        before, state = self._times[index - 1], self._states[index - 1]
        last = index == len(self._times)
        after = now if last else self._times[index]
        other = self._current(now) if last else self._states[index]
        share = (time - before) / (after - before) if after > before else 0.0
        return tuple(a + share * (b - a) for a, b in zip(state, other, strict=True))

    def _thin(self, now: float) -> None:
        kept = sorted(self._worth_keeping(now))
        self._times = [self._times[i] for i in kept]
        self._states = [self._states[i] for i in kept]

    def _worth_keeping(self, now: float) -> Iterator[int]:
        """The first, the last, and what is far enough from its neighbour."""
        yield 0
        last = now + 1.0
        for index in range(len(self._times) - 1, 0, -1):
            time = self._times[index]
            if last - time >= (now - time) / FINE:
                last = time
                yield index
