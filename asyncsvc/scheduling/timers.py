"""Timers, deadlines of started tasks, and the wait times of waiting tasks.

Timers hold one alarm per waiting task, for the moment it is due or its time is over. An alarm for
a wall-clock time follows the clock when the clock is set, within a minute; an alarm after a
duration does not. Setting and clearing cost the same with ten thousand alarms as with one: the
loop knows only the earliest, as a loop timer per waiting task was a tenth of what a submit cost.

A deadline runs from a task's first start to its end, retries included; a task of which no call
was made has not begun to use its time, and a task that a provider only asked to slow down fails
with that refusal, not with a timeout. Wait times cost a submit one look at the clock; their
reasons are those of the gate that serves the task. All are in memory only: recovery sets alarms
again, and what a task has waited is recorded with its attempt.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

from asyncsvc.clock import Now
from asyncsvc.config.settings import Settings
from asyncsvc.errors import GateClosed, ProviderError, TaskTimeout
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.verdict import Reason
from asyncsvc.scheduling.candidates import AccountSlot
from asyncsvc.tasks.state import Task

LONGEST_SLEEP_S = 60.0
Call = Callable[[str], None]
DEAD_MOST = 64
"""The heap is rebuilt when it holds more than this and twice the live alarms."""


class Timers:
    """Alarms by name; an alarm calls its function with that name; setting it again replaces it."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._heap: list[tuple[float, int, str, Call]] = []
        self._set: dict[str, int] = {}
        """The number of each live alarm's entry in the heap; other entries of a name are dead."""
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.TimerHandle | None = None
        self._next_at = math.inf

    def __len__(self) -> int:
        """The number of alarms in memory, those that were cleared but not yet removed included."""
        return len(self._heap)

    def at(self, name: str, when_ms: int, call: Call) -> None:
        """Call at a wall-clock time (ms since the epoch); at once where that is past."""
        left = (when_ms - self._now()) / 1000
        if left <= 0:
            self.after(name, 0.0, call)
        else:
            self.after(name, min(left, LONGEST_SLEEP_S), lambda _: self.at(name, when_ms, call))

    def after(self, name: str, seconds: float, call: Call) -> None:
        """Call after so many seconds, measured by the loop's clock."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        when = loop.time() + (seconds if seconds > 0.0 else 0.0)
        self._number = number = self._number + 1
        self._set[name] = number
        heappush(self._heap, (when, number, name, call))
        if when < self._next_at:
            self._sleep(loop, when)

    def clear(self, name: str) -> None:
        """Cancel the alarm of that name, if there is one."""
        self._set.pop(name, None)
        if len(self._heap) > 2 * len(self._set) + DEAD_MOST:
            self._heap = [entry for entry in self._heap if self._set.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def close(self) -> None:
        """Cancel all alarms."""
        if self._next is not None:
            self._next.cancel()
        self._set.clear()
        self._heap.clear()

    def _sleep(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next, self._next_at = loop.call_at(until, self._ring), until

    def _ring(self) -> None:
        self._next, self._next_at = None, math.inf
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            while self._heap and self._heap[0][0] <= now:
                _, number, name, call = heappop(self._heap)
                if self._set.get(name) == number:
                    del self._set[name]
                    call(name)
        finally:  # the other alarms must ring although one fails
            if self._heap and self._heap[0][0] < self._next_at:
                self._sleep(loop, self._heap[0][0])


class Alarm:
    """A single alarm by the loop's clock; setting it again replaces it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        """Ring in so many seconds, instead of when it was set before; inf: not at all."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        if delay < math.inf:
            self._handle = asyncio.get_running_loop().call_later(delay, self._ring)


@dataclass(slots=True)
class Deadline:
    """Until when a task must be done, by the loop's clock, and the error of its last attempt."""

    until: float
    fault: ProviderError | None = None

    @property
    def refusal(self) -> ProviderError | None:
        """The last error, where the provider asked to slow down."""
        return self.fault if self.fault is not None and self.fault.slow_down else None


class Deadlines:
    """The deadline of each task that has started and is not finished."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._deadlines: dict[str, Deadline] = {}

    def limit_s(self, task: Task) -> float:
        """Seconds that the task may take from its first start, retries included."""
        timeouts = self._settings.timeouts
        default = timeouts.long_s if task.request.lane == "long" else timeouts.short_s
        return task.request.timeout_s or default

    def of(self, task: Task) -> Deadline | None:
        """The task's deadline; None where it has not started."""
        return self._deadlines.get(task.request.id)

    def begin(self, task: Task) -> float:
        """The task starts: returns its deadline by the loop's clock; a retry does not move it."""
        if (deadline := self._deadlines.get(task.id)) is None:
            now = asyncio.get_running_loop().time()
            deadline = self._deadlines[task.id] = Deadline(now + self.limit_s(task))
        return deadline.until

    def record_error(self, task: Task, fault: ProviderError) -> None:
        """Record why the task has to wait again, in case its time runs out meanwhile."""
        if (deadline := self._deadlines.get(task.id)) is None:
            return
        if not isinstance(fault, GateClosed):
            deadline.fault = fault
        elif deadline.fault is None and not task.tries:
            self.drop(task)

    def drop(self, task: Task) -> None:
        """Forget the deadline: the task's time begins again with its next start."""
        self._deadlines.pop(task.id, None)

    def over(self, task: Task, begun: bool) -> ProviderError:
        """The error of a task whose time ends during a call; `begun`: its answer has begun."""
        deadline = self._deadlines.get(task.id)
        if not begun and deadline is not None and deadline.refusal is not None:
            return deadline.refusal  # the task spent its time waiting for the provider
        return TaskTimeout(f"the task took longer than {self.limit_s(task):g} s")


COOLDOWNS: tuple[Reason, ...] = ("slow_down", "quota")
"""Wait reasons that an answer of the provider has caused."""
INSTANT_S = 0.001
"""Less is no waiting."""


class WaitTimes:
    """Since when each task waits in a lane, and behind the head of its session."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane: dict[str, float] = {}
        self._session: dict[str, float] = {}
        self._blocked: set[AccountSlot] = set()
        self.totals: dict[str, float] = {}
        """Seconds by reason that all tasks have waited that were claimed."""

    def __len__(self) -> int:
        return len(self._lane.keys() | self._session.keys())

    def queued(self, task_id: str) -> None:
        """The task waits in a lane; a wait that has begun before goes on."""
        self._lane.setdefault(task_id, self._loop.time())

    def behind(self, task_id: str) -> None:
        """The task waits for an earlier task of its session."""
        self._session.setdefault(task_id, self._loop.time())

    def left(self, task_id: str) -> None:
        """The task's wait is over."""
        self._lane.pop(task_id, None)
        if self._session:
            self._session.pop(task_id, None)

    def note(self, reasons: Mapping[AccountSlot, Reason]) -> None:
        """Record why the ready workers of these account slots are given no task, though their gates
        are open."""
        for slot in self._blocked - reasons.keys():
            if slot.ready:
                slot.gate.wait_reasons.note(None, slot.gate.time())
        for slot, reason in reasons.items():
            slot.gate.wait_reasons.note(reason, slot.gate.time())
        self._blocked = set(reasons)

    def taken(self, task_id: str, gate: AccountLimiter) -> dict[str, Any]:
        """End the wait of a task that is claimed at the gate; returns `waited` and `gate` for its
        record, or nothing where it has not waited."""
        waited = self.so_far(task_id, [gate])
        self.left(task_id)
        for reason, seconds in waited.items():
            self.totals[reason] = self.totals.get(reason, 0.0) + seconds
        return {"waited": waited, "gate": gate_status(gate)} if waited else {}

    def so_far(self, task_id: str, gates: Iterable[AccountLimiter]) -> dict[str, float]:
        """Seconds that the task has waited, by reason, at the gate that was closed for the shortest
        time. `turn`: behind other tasks although there was room; `session`: behind the head of
        the session."""
        now = asyncio.get_running_loop().time()
        since = self._lane.get(task_id, now)
        behind = since - self._session.get(task_id, since)
        waited = {"session": behind}
        if now - since >= INSTANT_S:
            found = (gate.wait_reasons.between(since, now) for gate in gates)
            reasons = min(found, key=lambda each: sum(each.values()), default={})
            waited |= reasons | {"turn": now - since - sum(reasons.values())}
        return {name: round(s, 3) for name, s in waited.items() if s >= INSTANT_S}


def cooldown_s(since: float, gates: Iterable[AccountLimiter]) -> float:
    """Seconds since then in which all gates were closed because of a provider's answer."""
    now = asyncio.get_running_loop().time()
    found = (gate.wait_reasons.between(since, now) for gate in gates)
    return min((sum(each.get(reason, 0.0) for reason in COOLDOWNS) for each in found), default=0.0)


def gate_status(gate: AccountLimiter) -> dict[str, Any]:
    """The gate's calls and rate window at this moment, for the record of an attempt."""
    return {
        "name": gate.name,
        "busy": gate.busy,
        "concurrency": gate.concurrency,
        "window_used": gate.window.used(gate.time()),
        "window_limit": gate.window.limit,
    }
