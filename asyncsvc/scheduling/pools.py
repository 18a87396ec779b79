"""The pools: who waits for which models, in which lane.

Owns the lanes of all pools and where each task waits. Promises that a task waits in one lane
at most, and that the users' turns count over all pools: a user who is served by one model has
had that turn at every other. Never looks at gates, never chooses an account slot.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from asyncsvc.scheduling.account_slots import Options
from asyncsvc.scheduling.fair_queue import Lane, Turns
from asyncsvc.scheduling.priority_queue import LANE_SLACK_S, Entry, Rank, entry_of
from asyncsvc.tasks.state import Request, Task

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

    def rivals(self, options: Options) -> int:
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
