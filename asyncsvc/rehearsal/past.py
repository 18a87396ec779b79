"""What the past was: when each task came, how its attempts went, and how long calls take.

Read from the tasks as they are stored: their marks say what they did how long. Nothing here is
drawn by chance: a call time that was not measured is that of a similar task, and always the same.
"""

import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncsvc.tasks.marks import CUT, began_at
from asyncsvc.tasks.state import State, Task

WORKING = frozenset({"first_token", "thinking", "answering", "tool"})
NEAREST = 25
"""A call time is drawn from so many measured calls of about as many tokens."""
UNKNOWN_S = 10.0
"""The call time where no call of any model was measured."""
NO_LENGTH_S = 0.001


class Run(NamedTuple):
    """An attempt of a task: seconds to the first token, and to its end."""

    first_s: float
    total_s: float
    again_s: float | None = None
    """Seconds until the next attempt; None: it was the last."""


class Part(NamedTuple):
    """A part of an agent's run: a call of its model, or time in which it needs no account."""

    calls: bool
    seconds: float


@dataclass(slots=True)
class PastTask:
    """A task as it was, and what a replay needs of it."""

    task: Task
    at: int
    """When it came, or was retried by hand, in ms."""
    failed: list[Run] = field(default_factory=list)
    """Its attempts that were followed by another."""
    last: Run | None = None
    """The attempt that ended it; None where it has none, or was cut off by a client."""
    parts: list[Part] = field(default_factory=list)
    """Of an agent: what its runs were made of."""
    wait_s: float | None = None
    """Seconds that it waited for its first start; None: it never started."""
    carried: bool = False
    """Whether it came before the time of the replay, and comes at its beginning."""

    @property
    def tokens(self) -> int:
        return _tokens(self.task)


def past_of(task: Task, now: int) -> PastTask:
    """The past of a stored task."""
    found = PastTask(task, began_at(task.marks, task.request.created_at))
    if task.started_at is not None:
        found.wait_s = max(task.started_at - max(task.queued_at, found.at), 0) / 1000
    if task.request.type == "agent":
        found.parts = _parts(task, now)
    else:
        _read_runs(found, task, now)
    return found


def _read_runs(found: PastTask, task: Task, now: int) -> None:
    """Fill in the attempts: those that a client or the service's end cut off are left out."""
    first = total = 0.0
    cut = False
    for kind, ms in task.trace(now):
        if kind in WORKING:
            first += ms / 1000 if kind == "first_token" and total == first else 0.0
            total += ms / 1000
        elif kind == CUT:
            cut = True
        else:
            if kind == "retry" and cut:
                found.failed.append(Run(first, total, ms / 1000))
            first = total = 0.0
            cut = False
    if task.state in (State.COMPLETED, State.FAILED) and not task.cached and (total or cut):
        found.last = Run(first, total)
    if found.last is None and task.state is State.COMPLETED and task.latency and not task.cached:
        found.last = Run(task.latency, task.latency)  # from before there were marks


def _parts(task: Task, now: int) -> list[Part]:
    """An agent's calls and the times between them."""
    parts: list[Part] = []
    began = False
    for kind, ms in task.trace(now):
        calls = kind in WORKING and kind != "tool"
        began = began or calls
        if not began or kind in (CUT, "pending", "scheduled"):
            continue
        if parts and parts[-1].calls == calls:
            parts[-1] = Part(calls, parts[-1].seconds + ms / 1000)
        else:
            parts.append(Part(calls, ms / 1000))
    if parts and not parts[-1].calls:
        parts.pop()
    return parts


def _tokens(task: Task) -> int:
    used = (task.usage or {}).get("total_tokens")
    return used if isinstance(used, int) and used > 0 else task.request.tokens


class CallTimes:
    """The measured call times of each model, from which those of other tasks are drawn."""

    def __init__(self, past: Iterable[PastTask]) -> None:
        self.unknown: set[str] = set()
        """Models of which no call was measured, and whose call times were asked for."""
        self._measured: dict[str, list[tuple[int, Run]]] = defaultdict(list)
        self._of_kind: dict[str, list[tuple[int, Run]]] = defaultdict(list)
        for one in past:
            task = one.task
            if one.last is None or task.name is None or task.state is not State.COMPLETED:
                continue
            kind = "embedding" if task.request.type == "embedding" else "chat"
            for rows in (self._measured[task.name], self._of_kind[kind]):
                rows.append((one.tokens, one.last))
        for rows in (*self._measured.values(), *self._of_kind.values()):
            rows.sort()

    def count(self, name: str) -> int:
        """The number of measured calls of a model."""
        return len(self._measured.get(name, ()))

    def of(self, one: PastTask, name: str) -> Run:
        """How the last attempt of a task goes at a model: as it went, where it went there."""
        if one.last is not None and one.task.name == name:
            return one.last
        rows: Sequence[tuple[int, Run]] = self._measured.get(name, ())
        if not rows:
            self.unknown.add(name)
            kind = "embedding" if one.task.request.type == "embedding" else "chat"
            rows = self._of_kind.get(kind, ())
        if not rows:
            return Run(UNKNOWN_S, UNKNOWN_S)
        middle = bisect_left(rows, (one.tokens, Run(0.0, 0.0)))
        start = max(min(middle - NEAREST // 2, len(rows) - NEAREST), 0)
        near = rows[start : start + NEAREST]
        # By the task's id: the same in each replay, whatever else has changed.
        return near[zlib.crc32(f"{one.task.id} {name}".encode()) % len(near)][1]
