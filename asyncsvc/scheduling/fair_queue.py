"""Fair queues: the order of waiting tasks by urgency and by users' turns, for each pool of models.

Each user's tasks go in the order of their urgency. The key of a task never changes while it waits,
so a task is overtaken only by tasks that arrive within its slack, and none starves; no sweeper is
needed. While several users wait, each gets turns in proportion to its weight, however many tasks
it has submitted, and a user who was away has saved nothing up. Turns count over all pools: a user
who is served by one model has had that turn at every other.

The rule is start-time fair queueing (Goyal, Vin and Cheng, 1996), counted in tasks: a user's turn
is at the tag that its last task left behind, or at that of the task served last where the user
was away; the user with the smallest tag is next, and of equals the more urgent task.
"""

import asyncio
import sys
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import NamedTuple

from asyncsvc.scheduling.candidates import Options
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


def rank(task: Task) -> Rank:
    """The place of a waiting task in the order of urgency."""
    return _key(task.request, task.queued_at), task.n


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

    def ahead_of(self, rank: Rank) -> int:
        """How many tasks wait before that rank, whether one waits there or not."""
        return bisect_left(self._ranks, rank)

    def _put(self, entry: Entry) -> None:
        if self._first is not None and entry < self._first:
            self._queue.put_nowait(self._first)
            self._first = None
        self._queue.put_nowait(entry)


USERS_KEPT = 1000
"""Above so many users, the tags of those whose turn is due are forgotten."""

Turn = tuple[float, Rank]
"""The order of turns: the user's tag, then the rank of the user's first task."""


class Turns:
    """The users' turns over all lanes of one urgency class; no owner counts as a user, too."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.changes = 0
        self._weights = weights or {}
        self._tags: dict[str | None, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        """The number of users whose tag is remembered."""
        return len(self._tags)

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Use other weights from now on."""
        self._weights = weights

    def weight(self, owner: str | None) -> float:
        """The user's weight in the settings; 1 for other users."""
        return self._weights.get(owner or "", 1.0)

    def tag(self, owner: str | None) -> float:
        """The virtual time of the user's next turn, in tasks of weight 1."""
        return max(self._tags.get(owner, 0.0), self._now)

    def of(self, entry: Entry) -> Turn:
        """The turn of an entry that is the first of its user."""
        return self.tag(entry.owner), entry.rank

    def served(self, owner: str | None) -> None:
        """Count a turn of the user: one of its tasks is handed out."""
        self._now = self.tag(owner)
        self._tags[owner] = self._now + 1 / self.weight(owner)
        self.changes += 1
        if len(self._tags) > USERS_KEPT:
            # Half of the users are forgotten: each would have had to wait one turn at most.
            self._now = max(self._now, sorted(self._tags.values())[USERS_KEPT // 2])
            self._tags = {one: tag for one, tag in self._tags.items() if tag > self._now}


class Lane:
    """The waiting tasks of one pool and urgency class, in the order of the users' turns."""

    def __init__(self, turns: Turns, long: bool = False) -> None:
        self.turns = turns
        self.long = long
        self._lines: dict[str | None, Line] = {}
        """The queue of each user; none is empty."""
        self._owners: dict[str, str | None] = {}
        """The user of each task."""
        self._head: Entry | None = None
        self._seen = 0
        """`turns.changes` at which the head was chosen; the head is right until the next change."""

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def busy(self) -> bool:
        """Whether any task waits in the lane."""
        return bool(self._lines)

    def enter(self, entry: Entry) -> None:
        """Add a task; a task that waits already stays where it is."""
        if entry.task_id in self._owners:
            return
        self._owners[entry.task_id] = entry.owner
        line = self._lines.get(entry.owner)
        if line is None:
            line = self._lines[entry.owner] = Line()
        line.enter(entry)
        if self._head is not None and self.turns.of(entry) < self.turns.of(self._head):
            self._head = entry

    def lines(self) -> list[tuple[str | None, Line]]:
        """The queue of each user."""
        return list(self._lines.items())

    def take_over(self, owner: str | None, line: Line, entries: Sequence[Entry]) -> None:
        """Add entries of a queue of another lane, which is not used any more; none of them waits
        here."""
        self._owners.update(dict.fromkeys((entry.task_id for entry in entries), owner))
        mine = self._lines.get(owner)
        if mine is None and len(entries) == len(line):
            self._lines[owner] = line
        else:
            self._lines.setdefault(owner, Line()).fill(entries)
        self._head = None

    def leave(self, task_id: str) -> bool:
        """Remove a task from any place; False where it does not wait here."""
        if task_id not in self._owners:
            return False
        owner = self._owners.pop(task_id)
        line = self._lines[owner]
        line.leave(task_id)
        if not len(line):
            del self._lines[owner]
        if self._head is not None and self._head.task_id == task_id:
            self._head = None
        return True

    def head(self) -> Entry | None:
        """The next task, without removing it; None where no task waits."""
        if self._seen != self.turns.changes:
            self._head, self._seen = None, self.turns.changes
        if self._head is None and self._lines:
            heads = (line.head() for line in self._lines.values())
            self._head = min((head for head in heads if head is not None), key=self.turns.of)
        return self._head

    def next(self) -> Entry:
        """The next task, without removing it; a task must wait."""
        head = self.head()
        assert head is not None
        return head

    def rank(self) -> Rank:
        """The rank of the most urgent task, whichever user's turn it is; a task must wait."""
        return min(line.first() for line in self._lines.values())

    def take(self) -> Entry:
        """Remove the next task and count its user's turn; a task must wait."""
        head = self.next()
        self.leave(head.task_id)
        self.turns.served(head.owner)
        return head

    def ahead_of(self, rank: Rank, owner: str | None) -> int:
        """The number of tasks that have their turn before a task of that rank, if no other comes.

        Exact but for equal turns, of which the more urgent goes first.
        """
        mine = self._lines.get(owner)
        own = mine.ahead_of(rank) if mine is not None else 0
        if not self._lines or (mine is not None and len(self._lines) == 1):
            return own
        tag = self.turns.tag(owner) + own / self.turns.weight(owner)
        others = [one for one in self._lines if one != owner]
        return own + sum(self._before(one, tag, rank) for one in others)

    def before(self, rank: Rank) -> int:
        """The number of tasks that are more urgent than that rank."""
        return sum(line.ahead_of(rank) for line in self._lines.values())

    def _before(self, owner: str | None, tag: float, rank: Rank) -> int:
        """The number of another user's tasks that have their turn before that tag."""
        line = self._lines[owner]
        turns = (tag - self.turns.tag(owner)) * self.turns.weight(owner)
        if turns < 0:
            return 0
        before = floor(turns)
        if before < turns or line.first() < rank:
            before += 1
        return min(len(line), before)


POOLS_KEPT = 64
"""Pools are made when a task needs them; above this many, the empty pools are dropped."""


@dataclass(eq=False, slots=True)
class Pool:
    """The lanes of tasks that have the same options, by urgency class."""

    options: Options
    lanes: dict[str, Lane]

    def __len__(self) -> int:
        return sum(len(lane) for lane in self.lanes.values())

    def ahead_of(self, request: Request, rank: Rank) -> int:
        """The number of tasks before a task of that rank: users share a lane by turns; of another
        lane, only urgency counts."""
        mine = request.lane
        ahead = self.lanes[mine].ahead_of(rank, request.owner)
        for name, lane in self.lanes.items():
            if name != mine and lane.busy:
                ahead += lane.before(rank)
        return ahead


class Pools:
    """All pools; a task waits in one lane at most."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._turns = {name: Turns(weights) for name in LANE_SLACK_S}
        self._pools: dict[Options, Pool] = {}
        self._lanes: dict[str, Lane] = {}
        """The lane of each waiting task, as its options may have changed meanwhile."""

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._lanes

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def enter(self, task: Task, options: Options) -> None:
        """Add a task to the pool of its options."""
        request = task.request
        lane = self._lanes[request.id] = self._pool(options).lanes[request.lane]
        lane.enter(entry_of(task))

    def leave(self, task_id: str) -> bool:
        """Remove a task; False where it did not wait."""
        lane = self._lanes.pop(task_id, None)
        return lane is not None and lane.leave(task_id)

    def take(self, lane: Lane) -> Entry:
        """Remove the lane's next task and count its user's turn."""
        entry = lane.take()
        del self._lanes[entry.task_id]
        return entry

    def empty(self, pool: Pool) -> list[str]:
        """Remove all tasks of a pool; returns their ids."""
        return [self.take(lane).task_id for lane in pool.lanes.values() for _ in range(len(lane))]

    def regroup(
        self, weights: Mapping[str, float], choose: Callable[[str], Options | None]
    ) -> None:
        """Move each task to the pool that `choose` gives for its id, None: out of the pools; use
        these weights from now on.

        All of it happens in one step of the loop, with ten thousand waiting: so tasks that stay
        together move as one queue, and are not sorted in one by one.
        """
        for turns in self._turns.values():
            turns.weigh(weights)
        before = list(self)
        self._pools, self._lanes = {}, {}
        for pool in before:
            for name, lane in pool.lanes.items():
                for owner, line in lane.lines():
                    for options, entries in _chosen(line.entries(), choose):
                        there = self._pool(options).lanes[name]
                        there.take_over(owner, line, entries)
                        ids = (entry.task_id for entry in entries)
                        self._lanes.update(dict.fromkeys(ids, there))

    def heads(self) -> list[tuple[Pool, Lane]]:
        """The lanes in which tasks wait, the most urgent first."""
        found = [(p, lane) for p in self._pools.values() for lane in p.lanes.values() if len(lane)]
        if len(found) > 1:
            found.sort(key=lambda each: each[1].rank())
        return found

    def competing(self, options: Options) -> int:
        """The number of tasks that wait for any of the primary account slots of the options."""
        account_slots = set(options.primary)
        return sum(len(p) for p in self if not account_slots.isdisjoint(p.options.primary))

    def _pool(self, options: Options) -> Pool:
        pool = self._pools.get(options)
        if pool is None:
            if len(self._pools) >= POOLS_KEPT:
                self._pools = {o: pool for o, pool in self._pools.items() if len(pool)}
            lanes = {name: Lane(turns, name == "long") for name, turns in self._turns.items()}
            pool = self._pools[options] = Pool(options, lanes)
        return pool


def _chosen(
    entries: Sequence[Entry], choose: Callable[[str], Options | None]
) -> list[tuple[Options, list[Entry]]]:
    """The entries by the options that are chosen for them."""
    found: dict[int, tuple[Options, list[Entry]]] = {}
    for entry in entries:
        # By identity: equal options are one object, and comparing them costs more than all else.
        options = choose(entry.task_id)
        if options is not None:
            found.setdefault(id(options), (options, []))[1].append(entry)
    return list(found.values())
