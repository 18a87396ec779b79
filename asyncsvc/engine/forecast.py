"""When a waiting task will start, and what it waits for.

Owns the estimate from the gates' state and their measured service times. Promises a number
only where there is something to estimate from. Never promises the user that it is right.
"""

import math
from dataclasses import dataclass

from asyncsvc.engine.dispatch import Dispatch
from asyncsvc.engine.line import Rank, entry_of, newcomer
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
    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def of(self, task: Task) -> Forecast:
        """For a task that waits; of any other, nothing is known."""
        if task.state is not State.PENDING:
            return UNKNOWN
        return self._forecast(task.request, entry_of(task).rank)

    def newcomer(self, request: Request, at: int) -> Forecast:
        """For a task that is about to be submitted."""
        if request.run_at is not None and request.run_at > at:
            return UNKNOWN
        return self._forecast(request, newcomer(request, at))

    def _forecast(self, request: Request, rank: Rank) -> Forecast:
        seats = self._dispatch.candidates(request)
        gates = [seat.upstream.gate for seat in seats]
        position = self._dispatch.position(request, rank, seats)
        tokens = request.tokens
        eta = _eta(gates, position, tokens)
        if eta == 0.0:
            return Forecast(position, eta, None)
        if not gates:
            return Forecast(position, None, self._dispatch.nobody(request))
        reasons = [why for gate in gates if (why := gate.describe(tokens))]
        # The keys of a model that is held all say the same.
        said = "; ".join(dict.fromkeys(reasons))
        reason = said if gates and len(reasons) == len(gates) else None
        return Forecast(position, eta, reason)


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
