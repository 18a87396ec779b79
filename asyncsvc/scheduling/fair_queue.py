"""A lane: the tasks that wait for the same models with the same urgency class.

Owns how users share it. Promises that each user's tasks go in their own order of urgency, that
while several wait each gets turns in proportion to its weight, however many tasks it has brought,
and that a user who was away has saved nothing up. Never knows about models, gates or the
database.

The rule is start-time fair queueing (Goyal, Vin and Cheng, 1996), counted in tasks: a user's turn
is at the tag that its last task left behind, or at that of the task served last where the user
was away; whoever has the smallest is next, and of equals the more urgent task.
"""

from collections.abc import Mapping, Sequence
from math import floor

from asyncsvc.scheduling.priority_queue import Entry, Line, Rank

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
