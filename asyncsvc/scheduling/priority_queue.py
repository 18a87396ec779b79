"""A priority queue of one user's waiting tasks, in the order of their urgency.

The key of a task never changes while it waits, so a task is overtaken only by tasks that arrive
within its slack, and none starves; no sweeper is needed.
"""

import asyncio
import sys
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

from asyncsvc.tasks.state import Request, Task

LANE_SLACK_S = {"priority": 0.0, "short": 600.0, "long": 1800.0}
PRIORITY_SLACK_S = 60.0
"""Seconds per priority level below 9. Ten levels fit between two lanes, so that a lane goes before
the next whatever the priorities; the least urgent task waits at most 39 minutes longer than the
most urgent task that came with it."""


Rank = tuple[float, int]
"""A place in the order of urgency: the key, then the number of arrival."""


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
    """The task as an entry of its queue."""
    request = task.request
    key = _key(request, task.queued_at)
    return Entry(key, task.n, request.id, request.session_id, request.tokens, request.owner)


def newcomer(request: Request, at: int) -> Rank:
    """The rank of a task that came at `at` (ms): behind all waiting tasks of its lane and priority
    that came before."""
    return _key(request, at), sys.maxsize


def _key(request: Request, queued_at: int) -> float:
    """The time of arrival plus the slack of lane and priority, in seconds since the epoch."""
    slack = LANE_SLACK_S[request.lane] + PRIORITY_SLACK_S * (9 - request.priority)
    return queued_at / 1000 + slack


class Line:
    """A priority queue whose first task can be read without removing it, and from which any task
    can be removed.

    Built on `asyncio.PriorityQueue` by its public methods: the first task is taken out of the
    queue to be read, and put back when a more urgent task arrives.
    """

    def __init__(self) -> None:
        self._queue: asyncio.PriorityQueue[Entry] = asyncio.PriorityQueue()
        self._first: Entry | None = None
        """The task taken out of the queue; at least as urgent as all in it."""
        # The queue gives the next task; this list gives the place of any. Both hold the same
        # tasks, except that the queue may still hold tasks that were removed.
        self._ranks: list[Rank] = []
        self._waiting: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._waiting

    def enter(self, entry: Entry) -> None:
        """Add a task; a task that waits already keeps its place."""
        if entry.task_id in self._waiting:
            return
        self._waiting[entry.task_id] = entry
        insort(self._ranks, entry.rank)
        self._put(entry)

    def entries(self) -> list[Entry]:
        """All waiting tasks, in no order."""
        return list(self._waiting.values())

    def fill(self, entries: Iterable[Entry]) -> None:
        """Add many tasks at once, none of which waits here: far cheaper than one by one."""
        added = sorted(entries)
        self._waiting.update((entry.task_id, entry) for entry in added)
        self._ranks = sorted(entry.rank for entry in self._waiting.values())
        for entry in added:
            self._put(entry)

    def leave(self, task_id: str) -> bool:
        """Remove a task from any place; False where it was not waiting here."""
        entry = self._waiting.pop(task_id, None)
        if entry is None:
            return False
        self._ranks.pop(bisect_left(self._ranks, entry.rank))
        return True

    def head(self) -> Entry | None:
        """The next task, without removing it."""
        while True:
            if self._first is None:
                if self._queue.empty():
                    return None
                self._first = self._queue.get_nowait()
            if self._waiting.get(self._first.task_id) is self._first:
                return self._first
            self._first = None  # removed, and perhaps added again with another key

    def first(self) -> Rank:
        """The rank of the next task; one must wait."""
        return self._ranks[0]

    def take(self) -> Entry:
        """Remove the next task and return it; one must wait."""
        head = self.head()
        assert head is not None
        self._first = None
        self.leave(head.task_id)
        return head

    def ahead_of(self, rank: Rank) -> int:
        """How many tasks wait before that rank, whether one waits there or not."""
        return bisect_left(self._ranks, rank)

    def _put(self, entry: Entry) -> None:
        if self._first is not None and entry < self._first:
            self._queue.put_nowait(self._first)
            self._first = None
        self._queue.put_nowait(entry)
