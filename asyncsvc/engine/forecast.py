"""When a waiting task will start, and what it waits for.

Owns the estimate from the gates' state and their measured service times. Promises a number
only where there is something to estimate from. Never promises the user that it is right.
"""

import math
from dataclasses import dataclass

from asyncsvc.engine.dispatch import Dispatch
from asyncsvc.engine.line import Rank, entry_of, newcomer
from asyncsvc.engine.sessions import Sessions
from asyncsvc.providers.gate import Gate
from asyncsvc.tasks.task import Request, State, Task


@dataclass(frozen=True, slots=True)
class Forecast:
    """`position` 1 is the next; `eta_s` seconds until the start; None: not known."""

    position: int | None
    eta_s: float | None
    reason: str | None


UNKNOWN = Forecast(None, None, None)


class Forecaster:
    def __init__(self, dispatch: Dispatch, sessions: Sessions) -> None:
        self._dispatch = dispatch
        self._sessions = sessions

    def of(self, task: Task) -> Forecast:
        """For a task that waits; of any other, nothing is known."""
        if task.state is not State.PENDING:
            return UNKNOWN
        return self._forecast(task.request, entry_of(task).rank, task.id)

    def newcomer(self, request: Request, at: int) -> Forecast:
        """For a task that is about to be submitted."""
        if request.run_at is not None and request.run_at > at:
            return UNKNOWN
        return self._forecast(request, newcomer(request, at))

    def _forecast(self, request: Request, rank: Rank, task_id: str | None = None) -> Forecast:
        seats = self._dispatch.candidates(request)
        gates = [seat.upstream.gate for seat in seats]
        position = self._dispatch.position(request, rank, seats)
        tokens = request.tokens
        if request.session_id is not None:
            before = self._sessions.before(request.session_id, task_id)
            if before is not None:
                return Forecast(position, None, f"behind task {before} of its session")
        eta = _eta(gates, position, tokens)
        if eta == 0.0:
            return self._patient(request, position)
        if not gates:
            return Forecast(position, None, self._dispatch.nobody(request))
        reasons = [why for gate in gates if (why := gate.describe(tokens))]
        # The keys of a model that is held all say the same.
        said = "; ".join(dict.fromkeys(reasons))
        if len(reasons) < len(gates):
            said = f"{position - 1} tasks are before it" if position > 2 else "a task is before it"
        return Forecast(position, eta, said)

    def _patient(self, request: Request, position: int) -> Forecast:
        """There is room, but it may be left free for a while."""
        if (spared := self._dispatch.spared(request)) is None:
            return Forecast(position, 0.0, None)
        seat, left = spared
        why = f"{seat.gate.name}: left free for a faster model, for {left:.0f} s at most"
        return Forecast(position, round(left, 3), why)


def _eta(gates: list[Gate], position: int, tokens: int) -> float | None:
    free, soonest = 0, math.inf
    for gate in gates:
        wait = max(gate.wait(), gate.tokens_wait(tokens))
        soonest = min(soonest, wait)
        if wait <= 0:
            free += gate.concurrency - gate.busy
    if position <= free:
        return 0.0
    rate = 0.0
    for gate in (gate for gate in gates if gate.held is None):
        rates = [gate.concurrency / gate.service_s] if gate.service_s else []
        if gate.window.limit:
            rates.append(gate.window.limit / gate.window.span_s)
        if gate.budget.limit and tokens:
            rates.append(gate.budget.limit / tokens / gate.budget.span_s)
        rate += min(rates, default=0.0)
    if rate <= 0:
        return None
    ahead = max(position - max(free, 0), 0)
    return round((soonest if soonest < math.inf else 0.0) + ahead / rate, 3)
