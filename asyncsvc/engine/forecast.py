"""When a waiting task will start, and what it waits for.

Owns the estimate from the gates' state and their measured service times. Promises a number
only where there is something to estimate from. Never promises the user that it is right.
"""

import math
from dataclasses import dataclass

from asyncsvc.engine.dispatch import Dispatch
from asyncsvc.providers.gate import Gate
from asyncsvc.tasks.task import State, Task


@dataclass(frozen=True, slots=True)
class Forecast:
    """`position` 1 is the next; `eta_s` seconds until the start; None: not known."""

    position: int | None
    eta_s: float | None
    reason: str | None


class Forecaster:
    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def of(self, task: Task) -> Forecast:
        """For a task that waits or is about to be submitted."""
        if task.state is not State.PENDING:
            return Forecast(None, None, None)
        gates = [seat.upstream.gate for seat in self._dispatch.candidates(task)]
        position = self._dispatch.position(task)
        tokens = task.request.tokens
        eta = _eta(gates, position, tokens)
        if eta == 0.0:
            return Forecast(position, eta, None)
        reasons = [why for gate in gates if (why := gate.describe(tokens))]
        # The keys of a model that is held all say the same.
        said = "; ".join(dict.fromkeys(reasons))
        reason = said if gates and len(reasons) == len(gates) else None
        return Forecast(position, eta, reason)


def _eta(gates: list[Gate], position: int, tokens: int) -> float | None:
    waits = {gate: max(gate.wait(), gate.tokens_wait(tokens)) for gate in gates}
    free = sum(gate.concurrency - gate.busy for gate in gates if waits[gate] <= 0)
    if position <= free:
        return 0.0
    rate, soonest = 0.0, math.inf
    for gate in (gate for gate in gates if gate.held is None):
        soonest = min(soonest, waits[gate])
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
