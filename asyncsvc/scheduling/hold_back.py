"""Hold-back: whether a free account is worth leaving free, for a faster one or real-time work.

An account is left free for a faster one only while few tasks wait, and at most for as long as
its call would take longer. The only slot of real-time work serves other tasks only where that
saves them more than it costs real-time work. Both work from measurements alone: an account that
has not been measured is not waited for, and its reserved slot stays reserved.

Both weigh what one more call now is worth: each waiting task starts sooner by one over the calls
a second of the accounts that serve it.
"""

import asyncio
from collections.abc import Sequence

from asyncsvc.limits.account import AccountLimiter
from asyncsvc.providers.upstream import Upstream

SHARE = 0.25
"""Share of the calls that the faster accounts would make in the time that one of their calls is
shorter: with as many tasks waiting, the slower account is used. At 1 only the task itself would
count, not the tasks behind it; measured best between 0.2 and 0.3 at 80 % load."""
DEAR = 2.0
"""A second of waiting of a real-time task counts as much as so many of another task."""
EWMA = 0.2
INSTANT_S = 1e-3
"""Seconds; timers and floats are no more exact."""


def throughput(gate: AccountLimiter) -> float:
    """Calls a second of a busy account, by its concurrency and its rate window; 0: not known."""
    expected = gate.statistics.expected_s()
    if not expected:
        return 0.0
    slots = gate.concurrency / expected
    window = gate.window
    return min(slots, window.limit / window.span_s) if window.limit else slots


class HoldBack:
    """Since when accounts are left free: `left` in each pass over the waiting tasks, `settle` after
    the pass, `taken` when an account is used."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        """Since when each account is left free although tasks wait, by the gate's name."""
        self._asked: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether any account is left free at this moment."""
        return bool(self._since)

    def longer(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> float:
        """Seconds that a call to the account takes longer than to the faster of `others`, which may
        serve the same tasks; 0 where so many tasks wait that using it pays all the same."""
        takes = _weighed(account)
        if takes is None:
            return 0.0
        rate = spent = 0.0
        for other in others:
            expected = _weighed(other)
            if expected is not None and expected + other.gate.wait() < takes:
                calls = throughput(other.gate)
                rate += calls
                spent += calls * expected
        if not rate:
            return 0.0
        longer = takes - spent / rate
        return longer if waiting < SHARE * longer * rate else 0.0

    def newcomer_left(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> float:
        """Seconds for which the account would stay free for a task that came now; a mere look."""
        longer, now = self.longer(account, others, waiting), asyncio.get_running_loop().time()
        return max(longer - (now - self._since.get(account.gate.name, now)), 0.0)

    def left(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> float:
        """Seconds for which the account had better stay free, from the first such answer on."""
        longer = self.longer(account, others, waiting)
        if not longer:
            return 0.0
        now, name = asyncio.get_running_loop().time(), account.gate.name
        self._asked.add(name)
        left = self._since.setdefault(name, now) + longer - now
        return left if left > INSTANT_S else 0.0

    def settle(self) -> None:
        """End a pass: accounts that were not asked about in the pass are no longer left free."""
        if self._since:
            self._since = {n: at for n, at in self._since.items() if n in self._asked}
        self._asked.clear()

    def taken(self, account: Upstream) -> None:
        """The account is used: it is no longer left free."""
        self._since.pop(account.gate.name, None)


class ReservedSlot:
    """The only slot of real-time work: whether other tasks may use it, by how often real-time
    tasks come."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._gap: float | None = None

    def arrived(self) -> None:
        """Count a real-time task that waits from now on."""
        now = asyncio.get_running_loop().time()
        if self._last is not None:
            gap = now - self._last
            self._gap = gap if self._gap is None else self._gap + EWMA * (gap - self._gap)
        self._last = now

    def since(self) -> float:
        """Seconds since the last real-time task; inf before the first."""
        return (
            float("inf") if self._last is None else asyncio.get_running_loop().time() - self._last
        )

    def pays(self, account: Upstream, others: Sequence[Upstream], waiting: int) -> bool:
        """Whether the slot saves the waiting tasks more than it costs real-time tasks.

        A real-time task that comes during such a call finds on average half of it left.
        """
        expected = account.gate.statistics.expected_s()
        rate = sum(throughput(other.gate) for other in others)
        if expected is None or not rate or self._gap is None:
            return False
        comes = expected / max(self._gap, self.since(), INSTANT_S)
        return waiting / rate > DEAR * comes * expected / 2


def _weighed(account: Upstream) -> float | None:
    expected = account.gate.statistics.expected_s()
    return None if expected is None else expected / account.settings.weight
