"""Which waiting task goes to which model, decided at the last moment.

Owns the lanes and the seats that stand ready. Promises: a worker first has its gate's permit
and only then gets the best task there is at that moment; a task that several models can serve
goes to the first of them with room; a saturated or dead model holds up only the tasks that
nobody else can serve; at a gate with a token budget, a task that does not fit yet is not
overtaken by one that would. Never waits for a gate, never starts anything.

All decisions fall in `match`, a plain function called whenever a task or a seat arrives.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from asyncsvc.engine.lane import LANE_SLACK_S, Entry, Lane, entry_of
from asyncsvc.providers.gate import Permit
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.task import Task


@dataclass(eq=False, slots=True)
class Seat:
    """One account's place at the desk: at most one of its workers stands ready there."""

    upstream: Upstream
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    permit: Permit | None = None
    offer: "asyncio.Future[Entry | None] | None" = None

    @property
    def ready(self) -> bool:
        return self.offer is not None and not self.offer.done()


@dataclass(eq=False, slots=True)
class Pool:
    """The lanes of those tasks that the same seats can serve, in order of preference."""

    seats: tuple[Seat, ...]
    lanes: dict[str, Lane]


class Dispatch:
    """`enter` and `leave` for tasks, `next` for workers."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = tuple(seats)
        self._pools: dict[tuple[Seat, ...], Pool] = {}
        self._stopped = False
        self._alarm: asyncio.TimerHandle | None = None
        for seat in self.seats:
            seat.upstream.gate.on_close = partial(self.withdraw, seat)
            seat.upstream.gate.on_room = self._later

    def __len__(self) -> int:
        return sum(len(lane) for pool in self._pools.values() for lane in pool.lanes.values())

    def candidates(self, task: Task) -> tuple[Seat, ...]:
        """The seats that can serve the task: the model it names, else all of its type."""
        request = task.request
        kind = "embedding" if request.type == "embedding" else "chat"
        return tuple(
            seat
            for seat in self.seats
            if seat.upstream.settings.type == kind
            and (request.model is None or seat.upstream.name == request.model)
        )

    def enter(self, task: Task) -> None:
        """The task waits from now on."""
        self._lane(task).enter(entry_of(task))
        self.match()

    def leave(self, task: Task) -> bool:
        """The task waits no longer; False where it did not wait."""
        return self._lane(task).leave(task.id)

    def position(self, task: Task) -> int:
        """Its place among the tasks that wait for any of the same seats; 1 is the next."""
        entry, seats = entry_of(task), set(self.candidates(task))
        rivals = (pool for pool in self._pools.values() if seats.intersection(pool.seats))
        return 1 + sum(lane.ahead_of(entry) for pool in rivals for lane in pool.lanes.values())

    def depth(self, name: str) -> int:
        """How many wait that the model of that name could serve."""
        return sum(
            len(lane)
            for pool in self._pools.values()
            if any(seat.upstream.name == name for seat in pool.seats)
            for lane in pool.lanes.values()
        )

    async def next(self, seat: Seat, permit: Permit) -> Entry | None:
        """The task for a worker that holds the permit; None where its gate has closed since.

        The permit is reserved when the task is found, so nobody else can use up its rate.
        """
        if not self._admits(seat):
            return None
        seat.permit = permit
        seat.offer = asyncio.get_running_loop().create_future()
        try:
            self.match()
            return await seat.offer
        finally:
            seat.offer = seat.permit = None

    def withdraw(self, seat: Seat) -> None:
        """The gate has closed: whoever stands ready there goes back to wait for it."""
        if seat.ready and seat.offer is not None:
            seat.offer.set_result(None)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._set_alarm(math.inf)

    def match(self) -> None:
        """Hand the best waiting task to the first seat with room, until there is none."""
        while not self._stopped and (found := self._best()) is not None:
            lane, seat = found
            assert seat.permit is not None and seat.offer is not None
            entry = lane.take()
            seat.permit.reserve(lane.long, entry.tokens)
            seat.offer.set_result(entry)

    def _best(self) -> tuple[Lane, Seat] | None:
        """The next that can go. Sets the alarm where it is tokens that somebody waits for."""
        heads = [
            (head, lane, pool)
            for pool in self._pools.values()
            if any(seat.ready for seat in pool.seats)
            for lane in pool.lanes.values()
            if (head := lane.head()) is not None
        ]
        heads.sort(key=lambda found: found[0].rank)
        held: set[Seat] = set()
        soonest = math.inf
        for head, lane, pool in heads:
            for seat in pool.seats:
                if not seat.ready or seat in held or not self._admits(seat, lane.long):
                    continue
                wait = seat.upstream.gate.tokens_wait(head.tokens)
                if wait <= 0:
                    return lane, seat
                held.add(seat)
                soonest = min(soonest, wait)
        self._set_alarm(soonest)
        return None

    def _later(self) -> None:
        """What counts in a budget has changed: look again, once the caller is done."""
        self._set_alarm(0.0)

    def _set_alarm(self, delay: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if delay < math.inf and not self._stopped:
            self._alarm = asyncio.get_running_loop().call_later(delay, self.match)

    def _admits(self, seat: Seat, long: bool = False) -> bool:
        return seat.upstream.gate.admits(long)

    def _lane(self, task: Task) -> Lane:
        seats = self.candidates(task)
        pool = self._pools.get(seats)
        if pool is None:
            pool = Pool(seats, {name: Lane(long=name == "long") for name in LANE_SLACK_S})
            self._pools[seats] = pool
        return pool.lanes[task.request.lane]
