"""A lane: the tasks that wait for the same models with the same urgency class.

Owns how users share it. Promises that each user's tasks go in their own order of urgency, that
while several wait each gets turns in proportion to its weight, however many tasks it has brought,
and that a user who was away has saved nothing up. Never knows about models, gates or the
database.

The rule is start-time fair queueing (Goyal, Vin and Cheng, 1996), counted in tasks: a user's turn
is at the tag that its last task left behind, or at that of the task served last where the user
was away; whoever has the smallest is next, and of equals the more urgent task.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor

from asyncsvc.scheduling.candidates import Options
from asyncsvc.scheduling.priority_queue import LANE_SLACK_S, Entry, Line, Rank, entry_of
from asyncsvc.tasks.state import Request, Task

USERS_KEPT = 1000
"""Above so many users, those whose turn is due are forgotten."""

Turn = tuple[float, Rank]
"""Sorts the next task first."""


class Turns:
    """Whose turn it is, over all lanes of one urgency class. Without a name is a user, too."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.changes = 0
        self._weights = weights or {}
        self._tags: dict[str | None, float] = {}
        self._now = 0.0

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Other weights from now on."""
        self._weights = weights

    def weight(self, owner: str | None) -> float:
        """What the settings say; anybody else has 1."""
        return self._weights.get(owner or "", 1.0)

    def tag(self, owner: str | None) -> float:
        return max(self._tags.get(owner, 0.0), self._now)

    def of(self, entry: Entry) -> Turn:
        return self.tag(entry.owner), entry.rank

    def served(self, owner: str | None) -> None:
        """One of the user's tasks has had its turn."""
        self._now = self.tag(owner)
        self._tags[owner] = self._now + 1 / self.weight(owner)
        self.changes += 1
        if len(self._tags) > USERS_KEPT:
            # Half of them are let go: at most one turn each that they would have had to wait.
            self._now = max(self._now, sorted(self._tags.values())[USERS_KEPT // 2])
            self._tags = {one: tag for one, tag in self._tags.items() if tag > self._now}


class Lane:
    """`enter`, `leave` and `take`; `head` is the next, and stays it until something changes."""

    def __init__(self, turns: Turns, long: bool = False) -> None:
        self.turns = turns
        self.long = long
        self._lines: dict[str | None, Line] = {}
        """By user; nobody's line is empty."""
        self._owners: dict[str, str | None] = {}
        """By task."""
        self._head: Entry | None = None
        self._seen = 0
        """Up to which change of the turns the head is known to be right."""

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def waits(self) -> bool:
        """Whether anybody does."""
        return bool(self._lines)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._owners

    def enter(self, entry: Entry) -> None:
        """Wait in line; a task that waits already stays where it is."""
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
        """Each user's line."""
        return list(self._lines.items())

    def take_over(self, owner: str | None, line: Line, entries: Sequence[Entry]) -> None:
        """Some of a line from elsewhere, which nobody uses any more; none of them waits here."""
        self._owners.update(dict.fromkeys((entry.task_id for entry in entries), owner))
        mine = self._lines.get(owner)
        if mine is None and len(entries) == len(line):
            self._lines[owner] = line
        else:
            self._lines.setdefault(owner, Line()).fill(entries)
        self._head = None

    def leave(self, task_id: str) -> bool:
        """Step out, wherever in line; False where it was not waiting here."""
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
        """The next, without taking it."""
        if self._seen != self.turns.changes:
            self._head, self._seen = None, self.turns.changes
        if self._head is None and self._lines:
            heads = (line.head() for line in self._lines.values())
            self._head = min((head for head in heads if head is not None), key=self.turns.of)
        return self._head

    def next(self) -> Entry:
        """The same; somebody must wait."""
        head = self.head()
        assert head is not None
        return head

    def rank(self) -> Rank:
        """How urgent the lane is beside others: as its most urgent task, whoever's turn it is.
        Somebody must wait."""
        return min(line.first() for line in self._lines.values())

    def take(self) -> Entry:
        """Let the next have its turn; somebody must wait."""
        head = self.next()
        self.leave(head.task_id)
        self.turns.served(head.owner)
        return head

    def ahead_of(self, rank: Rank, owner: str | None) -> int:
        """How many have their turn before a task of that place, if nobody else comes.

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
        """How many are more urgent than that."""
        return sum(line.ahead_of(rank) for line in self._lines.values())

    def _before(self, owner: str | None, tag: float, rank: Rank) -> int:
        """How many of another user's tasks have their turn before that tag."""
        line = self._lines[owner]
        turns = (tag - self.turns.tag(owner)) * self.turns.weight(owner)
        if turns < 0:
            return 0
        before = floor(turns)
        if before < turns or line.first() < rank:
            before += 1
        return min(len(line), before)


POOLS_KEPT = 64
"""Pools are made as tasks ask for them; above this many, the empty ones go."""


@dataclass(eq=False, slots=True)
class Pool:
    """The lanes of those tasks that have the same options."""

    options: Options
    lanes: dict[str, Lane]

    def __len__(self) -> int:
        return sum(len(lane) for lane in self.lanes.values())

    def ahead_of(self, request: Request, rank: Rank) -> int:
        """How many are before that place: users share a lane by turns; of another lane, only
        urgency counts."""
        mine = request.lane
        ahead = self.lanes[mine].ahead_of(rank, request.owner)
        for name, lane in self.lanes.items():
            if name != mine and lane.waits:
                ahead += lane.before(rank)
        return ahead


class Pools:
    """`enter`, `leave` and `take`; `heads` are those that may be next."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._turns = {name: Turns(weights) for name in LANE_SLACK_S}
        self._pools: dict[Options, Pool] = {}
        self._lanes: dict[str, Lane] = {}
        """Where each waiting task is: its options may be others by now."""

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._lanes

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def enter(self, task: Task, options: Options) -> None:
        request = task.request
        lane = self._lanes[request.id] = self._pool(options).lanes[request.lane]
        lane.enter(entry_of(task))

    def leave(self, task_id: str) -> bool:
        """False where it did not wait."""
        lane = self._lanes.pop(task_id, None)
        return lane is not None and lane.leave(task_id)

    def take(self, lane: Lane) -> Entry:
        """The lane's next, which has had its turn now."""
        entry = lane.take()
        del self._lanes[entry.task_id]
        return entry

    def empty(self, pool: Pool) -> list[str]:
        """Let all go that wait there; their ids."""
        return [self.take(lane).task_id for lane in pool.lanes.values() for _ in range(len(lane))]

    def regroup(
        self, weights: Mapping[str, float], choose: Callable[[str], Options | None]
    ) -> None:
        """Everybody chooses anew, None: waits no longer; the weights are these from now on.

        It falls between two steps of the loop, with ten thousand waiting: so those who stay
        together move as a line, and none of them is put in its place one by one.
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
        """The lanes in which somebody waits, the most urgent first."""
        found = [(p, lane) for p in self._pools.values() for lane in p.lanes.values() if len(lane)]
        if len(found) > 1:
            found.sort(key=lambda each: each[1].rank())
        return found

    def competing(self, options: Options) -> int:
        """How many wait for any of the account slots that are meant for the class."""
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
    """By what they choose."""
    found: dict[int, tuple[Options, list[Entry]]] = {}
    for entry in entries:
        # By identity: who chooses makes them once, and to compare them costs more than all else.
        options = choose(entry.task_id)
        if options is not None:
            found.setdefault(id(options), (options, []))[1].append(entry)
    return list(found.values())
