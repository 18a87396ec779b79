"""Whether a free account slot is worth leaving free: for a faster one, or for real-time work.

Owns the two sums. Promises that an account slot is left free for a faster one only while few
wait, and
at most for as long as its call would take longer; that real-time work's only slot is lent only
where that saves those who wait more than it costs real-time work. Works from measurements
alone: what has not been measured is never waited for, nor lent. Never looks at a task.

Both weigh what one more call now is worth: each task that waits starts sooner by one over the
calls a second of those that serve it.
"""

from collections.abc import Sequence

from asyncsvc.limits.account import Gate
from asyncsvc.providers.upstream import Upstream

SHARE = 0.25
"""Of the calls that the faster account slots would make in the time that one of their calls is
shorter:
with as many tasks waiting, the slower account slot is used. At 1 only the task itself would be
thought
of, not those behind it; measured best between 0.2 and 0.3 at 80 % load."""
DEAR = 2.0
"""A second of waiting of a real-time task counts as much as so many of another."""
EWMA = 0.2
INSTANT_S = 1e-3
"""Timers and floats are no more exact."""


def throughput(gate: Gate) -> float:
    """Calls a second that it makes when busy, by its slots and its rate; 0: not known."""
    expected = gate.expected_s()
    if not expected:
        return 0.0
    slots = gate.concurrency / expected
    window = gate.window
    return min(slots, window.limit / window.span_s) if window.limit else slots


class HoldBack:
    """`left` in each pass over those that wait, `settle` after it, `taken` for an account slot
    taken."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        """Since when a gate with room has been left free although somebody waits."""
        self._asked: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether any is left free at this moment."""
        return bool(self._since)

    def longer(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> float:
        """Seconds that a call there takes longer than at the faster of `others`, which may serve
        the same tasks; 0 where so many of them wait that it pays all the same."""
        takes = _weighed(account)
        if takes is None:
            return 0.0
        rate = spent = 0.0
        for other in others:
            expected = _weighed(other)
            if expected is not None and expected + other.gate.rate_wait() < takes:
                calls = throughput(other.gate)
                rate += calls
                spent += calls * expected
        if not rate:
            return 0.0
        longer = takes - spent / rate
        return longer if waiting < SHARE * longer * rate else 0.0

    def newcomer_left(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> float:
        """The seconds of that which are left, for a task that came now; notes nothing."""
        longer, now = self.longer(account, others, waiting), Gate.time()
        return max(longer - (now - self._since.get(account.gate.name, now)), 0.0)

    def left(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> float:
        """Seconds for which it had better stay free; its time runs from the first such answer."""
        longer = self.longer(account, others, waiting)
        if not longer:
            return 0.0
        now, name = Gate.time(), account.gate.name
        self._asked.add(name)
        left = self._since.setdefault(name, now) + longer - now
        return left if left > INSTANT_S else 0.0

    def settle(self) -> None:
        """The pass is over: whoever nobody asked for is not waited with."""
        if self._since:
            self._since = {n: at for n, at in self._since.items() if n in self._asked}
        self._asked.clear()

    def taken(self, account: Upstream) -> None:
        self._since.pop(account.gate.name, None)


class ReservedSlot:
    """How often real-time work comes, and what it costs it to find its slot lent."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._gap: float | None = None

    def arrived(self) -> None:
        """A real-time task waits from now on."""
        now = Gate.time()
        if self._last is not None:
            gap = now - self._last
            self._gap = gap if self._gap is None else self._gap + EWMA * (gap - self._gap)
        self._last = now

    def since(self) -> float:
        """Seconds since the last real-time task; inf before the first."""
        return float("inf") if self._last is None else Gate.time() - self._last

    def pays(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> bool:
        """Whether its slot does more good in the hands of those that wait now.

        A real-time task that comes during the lent call finds on average half of it left.
        """
        expected = account.gate.expected_s()
        rate = sum(throughput(other.gate) for other in others)
        if expected is None or not rate or self._gap is None:
            return False
        comes = expected / max(self._gap, self.since(), INSTANT_S)
        return waiting / rate > DEAR * comes * expected / 2


def _weighed(account: Upstream) -> float | None:
    expected = account.gate.expected_s()
    return None if expected is None else expected / account.settings.weight
