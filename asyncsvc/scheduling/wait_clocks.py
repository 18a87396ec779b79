"""Since when each task waits, and what it has waited for.

Owns the moments in which tasks came into their lane or behind their session's head. Promises
that this costs a submit one look at the clock, and that the reasons are those of the gate that
serves the task: what its clerk really waited for meanwhile. Never decides anything, and keeps
nothing over a restart: what was waited is noted with the attempt.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from asyncsvc.limits.account import Gate
from asyncsvc.limits.wait_reasons import Reason
from asyncsvc.scheduling.account_slots import AccountSlot

RESTS: tuple[Reason, ...] = ("slow_down", "quota")
"""The waits that an answer of the provider has caused."""
INSTANT_S = 0.001
"""Less than that is no waiting."""


class Waits:
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


def rested(since: float, gates: Iterable[Gate]) -> float:
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
