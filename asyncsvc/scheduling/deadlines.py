"""How long a task may take once it has started, and what is said when that time is over.

Owns the deadline of each task from its first start to its end, retries included, and its last
fault. Promises that a task of which no call was made has not begun to use its time, and that one
which was only ever told to slow down is not said to have been slow. Never ends a task.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncsvc.config.settings import Settings
from asyncsvc.errors import GateClosed, ProviderError, TaskTimeout
from asyncsvc.limits.account import Gate
from asyncsvc.limits.wait_reasons import Reason
from asyncsvc.scheduling.candidates import AccountSlot
from asyncsvc.tasks.state import Task


@dataclass(slots=True)
class Deadline:
    """Until when it must be done, by the loop's clock, and its last fault."""

    until: float
    fault: ProviderError | None = None

    @property
    def refusal(self) -> ProviderError | None:
        """That fault, where it was to slow down."""
        return self.fault if self.fault is not None and self.fault.slow_down else None


class Deadlines:
    """`begin` with a start, `blame` what ended it, `drop` with the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[str, Deadline] = {}

    def limit_s(self, task: Task) -> float:
        """How long the task may take from its start, retries included."""
        timeouts = self._settings.timeouts
        default = timeouts.long_s if task.request.lane == "long" else timeouts.short_s
        return task.request.timeout_s or default

    def of(self, task: Task) -> Deadline | None:
        """None where it has not started."""
        return self._found.get(task.request.id)

    def begin(self, task: Task) -> float:
        """The task starts: until when it may take, by the loop's clock, retries included."""
        if (allowance := self._found.get(task.id)) is None:
            now = asyncio.get_running_loop().time()
            allowance = self._found[task.id] = Deadline(now + self.limit_s(task))
        return allowance.until

    def blame(self, task: Task, fault: ProviderError) -> None:
        """Remember why it has to wait again, for the case that its time runs out meanwhile."""
        if (allowance := self._found.get(task.id)) is None:
            return
        if not isinstance(fault, GateClosed):
            allowance.fault = fault
        elif allowance.fault is None and not task.tries:
            self.drop(task)

    def drop(self, task: Task) -> None:
        """Its time begins anew with its next start, if there is one."""
        self._found.pop(task.id, None)

    def over(self, task: Task, begun: bool) -> ProviderError:
        """What a task fails with whose time ends in a call; `begun`: with an answer under way."""
        allowance = self._found.get(task.id)
        if not begun and allowance is not None and allowance.refusal is not None:
            return allowance.refusal  # what it had time for was waiting
        return TaskTimeout(f"the task took longer than {self.limit_s(task):g} s")


RESTS: tuple[Reason, ...] = ("slow_down", "quota")
"""The waits that an answer of the provider has caused."""
INSTANT_S = 0.001
"""Less than that is no waiting."""


class WaitTimes:
    """`queued` and `behind` when it begins, `left` when it ends, `taken` for the account."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane: dict[str, float] = {}
        self._session: dict[str, float] = {}
        self._met: set[AccountSlot] = set()

    def __len__(self) -> int:
        return len(self._lane.keys() | self._session.keys())

    def queued(self, task_id: str) -> None:
        """It waits in a lane; one that does already goes on waiting."""
        self._lane.setdefault(task_id, self._loop.time())

    def behind(self, task_id: str) -> None:
        """It waits for an earlier task of its session."""
        self._session.setdefault(task_id, self._loop.time())

    def left(self, task_id: str) -> None:
        """It waits no longer, or begins anew."""
        self._lane.pop(task_id, None)
        if self._session:
            self._session.pop(task_id, None)

    def note(self, met: Mapping[AccountSlot, Reason]) -> None:
        """The gates of these account slots are free, and yet their clerks wait for that."""
        for account_slot in self._met - met.keys():
            if account_slot.ready:
                account_slot.gate.meets(None)
        for account_slot, reason in met.items():
            account_slot.gate.meets(reason)
        self._met = set(met)

    def taken(self, task_id: str, gate: Gate) -> dict[str, Any]:
        """What to note of a task whose turn it is at the gate: `waited` and `gate`, where it
        has waited at all."""
        waited = self.so_far(task_id, [gate])
        self.left(task_id)
        return {"waited": waited, "gate": standing(gate)} if waited else {}

    def so_far(self, task_id: str, gates: Iterable[Gate]) -> dict[str, float]:
        """Seconds by reason, of the gate that had the fewest wait reasons. `turn` is what was
        spent behind others although there was room, `session` behind the session's head."""
        now = Gate.time()
        since = self._lane.get(task_id, now)
        behind = since - self._session.get(task_id, since)
        waited = {"session": behind}
        if now - since >= INSTANT_S:
            found = (gate.wait_reasons.between(since, now) for gate in gates)
            reasons = min(found, key=lambda each: sum(each.values()), default={})
            waited |= reasons | {"turn": now - since - sum(reasons.values())}
        return {name: round(s, 3) for name, s in waited.items() if s >= INSTANT_S}


def cooldown_s(since: float, gates: Iterable[Gate]) -> float:
    """Seconds since then in which all gates waited because of an answer of their provider."""
    now = Gate.time()
    found = (gate.wait_reasons.between(since, now) for gate in gates)
    return min((sum(each.get(reason, 0.0) for reason in RESTS) for each in found), default=0.0)


def standing(gate: Gate) -> dict[str, Any]:
    """The gate as it is at this moment."""
    return {
        "name": gate.name,
        "busy": gate.busy,
        "concurrency": gate.concurrency,
        "window_used": gate.window.used(gate.time()),
        "window_limit": gate.window.limit,
    }
