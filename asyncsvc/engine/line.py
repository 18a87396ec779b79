"""A line: tasks in the order of their urgency.

Owns the order among the tasks of one user. Promises that the key of a task never changes while
it waits, so that a task is overtaken only by what arrives within its slack and none starves; no
sweeper is needed. Never knows about models, gates or the database.
"""

import asyncio
import sys
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

from asyncsvc.tasks.task import Request, Task

LANE_SLACK_S = {"priority": 0.0, "short": 600.0, "long": 1800.0}
PRIORITY_SLACK_S = 60.0
"""Per level below 9. Ten levels fit between two lanes, so that a lane goes before the next
whatever the priorities; the least urgent task waits at most 39 minutes longer than the most
urgent one that came with it."""


Rank = tuple[float, int]
"""A place in line: the key, then the number of arrival."""


class Entry(NamedTuple):
    """A waiting task; sorts by key, then by arrival."""

    key: float
    n: int
    task_id: str
    session_id: str | None = None
    tokens: int = 0
    owner: str | None = None

    @property
    def rank(self) -> Rank:
        return self.key, self.n


def entry_of(task: Task) -> Entry:
    """The task's place in line."""
    request = task.request
    key = _key(request, task.queued_at)
    return Entry(key, task.n, request.id, request.session_id, request.tokens, request.owner)


def newcomer(request: Request, at: int) -> Rank:
    """The rank that a task would have if it came now: behind all of its like."""
    return _key(request, at), sys.maxsize


def _key(request: Request, queued_at: int) -> float:
    """When it came, plus its slack, in seconds since the epoch."""
    slack = LANE_SLACK_S[request.lane] + PRIORITY_SLACK_S * (9 - request.priority)
    return queued_at / 1000 + slack


class Line(asyncio.PriorityQueue[Entry]):
    """A priority queue that knows its head, and from which a task may step out."""

    def __init__(self) -> None:
        super().__init__()
        # The heap gives the next; this list gives the place of any. Both hold the same tasks,
        # but that the heap may still hold some which have stepped out.
        self._ranks: list[Rank] = []
        self._waiting: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._waiting

    def enter(self, entry: Entry) -> None:
        """Wait in line; a task that waits already stays where it is."""
        if entry.task_id in self._waiting:
            return
        self._waiting[entry.task_id] = entry
        insort(self._ranks, entry.rank)
        self.put_nowait(entry)

    def entries(self) -> list[Entry]:
        """All who wait, in no order."""
        return list(self._waiting.values())

    def fill(self, entries: Iterable[Entry]) -> None:
        """Many at once, none of whom waits here: far cheaper than one by one."""
        self._waiting.update((entry.task_id, entry) for entry in entries)
        ordered = sorted(self._waiting.values())
        self._ranks = [entry.rank for entry in ordered]
        self._queue: list[Entry] = ordered  # what is in order is a heap

    def leave(self, task_id: str) -> bool:
        """Step out, wherever in line; False where it was not waiting here."""
        entry = self._waiting.pop(task_id, None)
        if entry is None:
            return False
        self._ranks.pop(bisect_left(self._ranks, entry.rank))
        return True

    def head(self) -> Entry | None:
        """The next in line, without taking it."""
        while not self.empty():
            entry = self._peek()
            if self._waiting.get(entry.task_id) is entry:
                return entry
            self.get_nowait()  # it stepped out, and perhaps came back with another key
        return None

    def first(self) -> Rank:
        """The place of the next in line; somebody must wait."""
        return self._ranks[0]

    def take(self) -> Entry:
        """The next in line; somebody must wait."""
        head = self.head()
        assert head is not None
        self.get_nowait()
        self.leave(head.task_id)
        return head

    def ahead_of(self, rank: Rank) -> int:
        """How many wait before that place, whether anybody waits there or not."""
        return bisect_left(self._ranks, rank)

    def _peek(self) -> Entry:
        return self._queue[0]
