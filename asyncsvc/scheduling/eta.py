"""Forecasts: when a waiting task will start, and what the task waits for.

The estimate comes from the gates' state and their measured service times; there is a number only
where there is something to estimate from, and it is no promise.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.verdict import Stage
from asyncsvc.scheduling.candidates import AccountSlot
from asyncsvc.scheduling.dispatcher import Dispatcher
from asyncsvc.scheduling.fair_queue import Rank, newcomer, rank
from asyncsvc.scheduling.groups import Sessions
from asyncsvc.tasks.state import Request, State, Task


@dataclass(slots=True)
class Forecast:
    """A task's place and start; None: not known. `position` 1 is the next, `eta_s` seconds until
    the start, `least_s` seconds that the task waits at any rate, inf where no model takes calls."""

    position: int | None
    eta_s: float | None
    reason: str | None
    least_s: float = 0.0


STATES_KEPT = 256

UNKNOWN = Forecast(None, None, None)


class EtaEstimator:
    """Forecasts for waiting tasks and for tasks about to be submitted."""

    def __init__(self, dispatcher: Dispatcher, sessions: Sessions) -> None:
        self._dispatcher = dispatcher
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._states: dict[tuple[AccountSlot, ...], tuple[tuple[float, int, int], _State]] = {}
        self._order: tuple[float, list[Task]] | None = None

    def of(self, task: Task) -> Forecast:
        """The forecast of a pending task; `UNKNOWN` for any other."""
        if task.state is not State.PENDING:
            return UNKNOWN
        return self._forecast(task.request, rank(task), task.id)

    def in_order(self, live: Mapping[str, Task], within_s: float = 0.0) -> list[Task]:
        """Those of the tasks that wait, next first: the pending ones, users in turn, then the
        scheduled ones by their time. May be as of `within_s` ago."""
        now = self._loop.time()
        if self._order is None or now - self._order[0] > within_s:
            self._order = now, _in_order(live.values())
        return self._order[1]

    def newcomer(self, request: Request, at: int) -> Forecast:
        """The forecast of a task that would be submitted at `at` (ms)."""
        if request.run_at is not None and request.run_at > at:
            return UNKNOWN
        return self._forecast(request, newcomer(request, at))

    def _forecast(self, request: Request, rank: Rank, task_id: str | None = None) -> Forecast:
        account_slots = self._dispatcher.candidates(request)
        position = self._dispatcher.position(request, rank, account_slots)
        if not account_slots:
            return Forecast(position, None, self._dispatcher.no_model_reason(request))
        state = self._state(account_slots, request.tokens)
        if request.session is not None:
            before = self._sessions.before(request.session, task_id)
            if before is not None:
                why = f"behind task {before} of its session"
                if state.closed_s > 0 and state.reason:
                    why = f"{why}; {state.reason}"
                return Forecast(position, state.rest_s, why, state.closed_s)
        eta = state.eta(position)
        if eta is not None and eta <= 0:
            return self._when_free(request, position)
        reason = state.reason
        if reason is None:
            reason = (
                f"{position - 1} tasks are before it" if position > 2 else "a task is before it"
            )
        return Forecast(position, eta, reason, state.closed_s)

    def _when_free(self, request: Request, position: int) -> Forecast:
        """The forecast where an account is free, which may be left free for a faster one."""
        if (held_back := self._dispatcher.held_back(request)) is None:
            return Forecast(position, 0.0, None)
        slot, left = held_back
        why = f"{slot.gate.name}: left free for a faster model, for {left:.0f} s at most"
        return Forecast(position, round(left, 3), why)

    def _state(self, account_slots: tuple[AccountSlot, ...], tokens: int) -> "_State":
        """The gates' state; read once a moment, as within one only a counted change alters it."""
        counted = changes = 0
        for slot in account_slots:
            gate = slot.upstream.gate
            changes += gate.changes
            if gate.budget.limit:
                counted = tokens
        moment = self._loop.time(), changes, counted
        known = self._states.get(account_slots)
        if known is None or known[0] != moment:
            if len(self._states) > STATES_KEPT:
                self._states.clear()
            known = self._states[account_slots] = (
                moment,
                _look([slot.upstream.gate for slot in account_slots], counted),
            )
        return known[1]


def _in_order(tasks: Iterable[Task]) -> list[Task]:
    tasks = list(tasks)
    pending = [task for task in tasks if task.state is State.PENDING]
    pending.sort(key=rank)
    turns = Counter[str | None]()
    places = []
    for at, task in enumerate(pending):
        owner = task.request.owner
        places.append((turns[owner], at))
        turns[owner] += 1
    if len(turns) > 1:
        pending = [pending[at] for _, at in sorted(places)]
    scheduled = [task for task in tasks if task.state is State.SCHEDULED]
    scheduled.sort(key=lambda task: (task.next_run_at or 0, task.n))
    return pending + scheduled


@dataclass(slots=True)
class _State:
    """What some gates together can start, at one moment."""

    free: int
    next_s: float
    """Seconds until the next call may start, once the free slots are taken; inf: not known."""
    rate: float
    """Calls a second in the long run; 0: not known."""
    quick: int
    """The number of waiting tasks that the rate windows still have room for."""
    pace: float
    """Calls a second at which these start."""
    reason: str | None
    closed_s: float
    """Seconds until the first gate takes a call again; 0 where one does, inf: not known."""

    @property
    def rest_s(self) -> float | None:
        """The start of a task where only the end of all gates' closure is known; None: not even
        that."""
        return round(self.closed_s, 3) if 0 < self.closed_s < math.inf else None

    def eta(self, position: int) -> float | None:
        """Seconds until the task at that position starts; None: not known."""
        if position <= self.free:
            return 0.0
        if self.next_s == math.inf:
            return None
        after = position - self.free - 1
        rate = self.pace if after < self.quick else self.rate
        if after and rate <= 0:
            return self.rest_s
        return round(self.next_s + (after / rate if after else 0.0), 3)


def _look(gates: list[AccountLimiter], tokens: int) -> _State:
    free, next_s, rate, turning = 0, math.inf, 0.0, 0.0
    quick, pace, closed_s = 0, 0.0, math.inf
    for gate in gates:
        calls = _rate(gate, tokens)
        left, quicker = _burst(gate, calls)
        closed_s = min(closed_s, _closed(gate))
        wait = gate.wait(max(tokens, 1))
        if wait <= 0:
            may_begin = gate.standing + gate.smoothing.room(gate.time())
            free += max(int(min(gate.concurrency - gate.busy, may_begin)), 0)
        full = gate.busy >= gate.concurrency
        if (wait := gate.wait(max(tokens, 1), spread=True)) <= 0:
            turning += quicker
        elif not full or calls:
            next_s = min(next_s, max(wait, 1 / calls) if full else wait)
        if gate.paused is None:
            rate, quick, pace = rate + calls, quick + left, pace + quicker
    if turning:
        next_s = min(next_s, 1 / turning)  # one of the calls under way ends
    reasons = [why for gate in gates if (why := gate.describe(tokens=max(tokens, 1)))]
    # The keys of a paused model all give the same reason.
    reason = "; ".join(dict.fromkeys(reasons)) if len(reasons) == len(gates) else None
    return _State(free, next_s, rate, quick - free, pace, reason, max(closed_s, 0.0))


def _closed(gate: AccountLimiter) -> float:
    """Seconds for which the gate surely takes no call; 0 where that depends on a probe or a call
    under way, whose end is not known."""
    found = gate.verdict(Stage.PERMIT)
    if found.until == math.inf and found.reason not in ("disabled", "held"):
        return 0.0
    return found.wait_s(gate.time())


def _burst(gate: AccountLimiter, calls: float) -> tuple[int, float]:
    """The calls that the gate's window has room for, and the calls a second at which they start; 0
    and the rate of the long run, where another limit is in the way or the slots are full for an
    unknown time."""
    left, service_s = gate.window.limit - gate.window.used(gate.time()), gate.statistics.service_s
    full = gate.busy >= gate.concurrency
    if left <= 0 or gate.wait() > 0 or gate.budget.limit or (full and not service_s):
        return 0, calls
    return left, min(gate.smoothing.per_s, gate.concurrency / service_s if service_s else math.inf)


def _rate(gate: AccountLimiter, tokens: int) -> float:
    """Calls a second of the gate in the long run; 0: not known."""
    rates = [gate.concurrency / gate.statistics.service_s] if gate.statistics.service_s else []
    if gate.window.limit:
        rates.append(gate.window.limit / gate.window.span_s)
    if gate.budget.limit and tokens:
        rates.append(gate.budget.limit / tokens / gate.budget.span_s)
    return min(rates, default=0.0)
