"""Which waiting task goes to which model, decided at the last moment.

Owns the lanes and the seats that stand ready. Promises: a worker first has its gate's permit
and only then gets the best task there is at that moment; a task that several models can serve
goes to the one expected to be done first; a saturated or dead model holds up only the tasks that
nobody else can serve; at a gate with a token budget, a task that does not fit yet is not
overtaken by one that would. Never waits for a gate, never starts anything.

All decisions fall in `match`, a plain function called whenever a task or a seat arrives.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from asyncsvc.engine.choice import Bars, Chooser, Options, Seat, Taken, decision
from asyncsvc.engine.lane import LANE_SLACK_S, Lane, entry_of
from asyncsvc.errors import ProviderError
from asyncsvc.providers.permit import Permit
from asyncsvc.tasks.task import Task

POOLS_KEPT = 64
"""Pools are made as tasks ask for them; above this many, the empty ones go."""


@dataclass(eq=False, slots=True)
class Pool:
    """The lanes of those tasks that have the same options."""

    options: Options
    lanes: dict[str, Lane]

    def __len__(self) -> int:
        return sum(len(lane) for lane in self.lanes.values())


class Dispatch:
    """`enter` and `leave` for tasks, `next` for workers."""

    def __init__(
        self, seats: Sequence[Seat], chooser: Chooser, lacking: Callable[[], dict[str, str]]
    ) -> None:
        self.seats = tuple(seats)
        self.on_stranded: Callable[[str, ProviderError], None] = lambda task_id, fault: None
        """Called for a waiting task for which no model is left, with the reason."""
        self._chooser = chooser
        self._lacking = lacking
        self._pools: dict[Options, Pool] = {}
        self._lanes: dict[str, Lane] = {}
        """Where each waiting task is: its options may be others by now."""
        self._stopped = False
        self._alarm: asyncio.TimerHandle | None = None
        for seat in self.seats:
            seat.gate.on_close = partial(self._closed, seat)
            seat.gate.on_room = self._later

    def __len__(self) -> int:
        return len(self._lanes)

    def candidates(self, task: Task, bars: Bars | None = None) -> tuple[Seat, ...]:
        """The seats that the task waits for as things stand."""
        return self._chooser.serving(self._chooser.options(task.request, bars))

    def fault_of(self, task: Task, bars: Bars | None = None) -> ProviderError | None:
        """Why nobody will ever serve the task; None where somebody may."""
        seats = self._chooser.options(task.request, bars).seats
        return next((s.gate.fault for s in seats), None) if _all_gone(seats) else None

    def elsewhere(self, task: Task, bars: Bars) -> bool:
        """Whether an account is left that the bars do not rule out."""
        seats = self._chooser.options(task.request, bars).seats
        return bool(seats) and not _all_gone(seats)

    def held(self, task: Task, bars: Bars | None = None) -> bool:
        """Whether somebody holds each model that could serve the task."""
        seats = self._chooser.options(task.request, bars).seats
        able = [seat for seat in seats if seat.gate.fault is None]
        return bool(able) and all(seat.gate.held is not None for seat in able)

    def explain(self, task: Task, bars: Bars | None = None) -> dict[str, Any]:
        """The decision, each candidate, and which would take the task if it came now."""
        options = self._chooser.options(task.request, bars)
        ahead = self.position(task) - 1
        rows = self._chooser.explain(options, self._lacking(), ahead)
        able = [row for row in rows if row["eligible"]]
        ready = self._chooser.pick(options, task.request.lane == "long")
        chosen = ready.upstream.name if ready else _soonest(able)
        seat = next((s for s in options.seats if s.upstream.name == chosen), None)
        why = self._chooser.why(seat, options) if seat else "no model can take it now"
        return decision(task.request) | {"candidates": rows, "chosen": chosen, "why": why}

    def enter(self, task: Task, bars: Bars | None = None) -> None:
        """The task waits from now on."""
        if task.id in self._lanes:
            return
        options = self._chooser.options(task.request, bars)
        self._chooser.arrived(options)
        lane = self._lanes[task.id] = self._pool(options).lanes[task.request.lane]
        lane.enter(entry_of(task))
        self.match()

    def leave(self, task: Task) -> bool:
        """The task waits no longer; False where it did not wait."""
        lane = self._lanes.pop(task.id, None)
        return lane is not None and lane.leave(task.id)

    def position(self, task: Task) -> int:
        """Its place among the tasks that wait for any of the same seats; 1 is the next."""
        entry, seats = entry_of(task), set(self.candidates(task))
        rivals = (pool for pool in self._pools.values() if seats.intersection(self._serving(pool)))
        return 1 + sum(lane.ahead_of(entry) for pool in rivals for lane in pool.lanes.values())

    def depth(self, name: str) -> int:
        """How many wait that the model of that name could serve."""
        return sum(
            len(lane)
            for pool in self._pools.values()
            if any(seat.upstream.name == name for seat in self._serving(pool))
            for lane in pool.lanes.values()
        )

    async def next(self, seat: Seat, permit: Permit) -> Taken | None:
        """The task for a worker that holds the permit; None where its gate has closed since.

        The permit is reserved when the task is found, so nobody else can use up its rate.
        """
        if not seat.gate.admits(long=False):
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
        """Hand the best waiting task to the best seat with room, until there is none."""
        while not self._stopped and (found := self._best()) is not None:
            pool, lane, seat = found
            assert seat.permit is not None and seat.offer is not None
            entry = lane.take()
            del self._lanes[entry.task_id]
            route = self._route(pool.options, seat)
            seat.permit.reserve(lane.long, entry.tokens)
            seat.offer.set_result(Taken(entry, route))

    def _route(self, options: Options, seat: Seat) -> dict[str, Any]:
        """What to note of the choice, before the seat is taken."""
        return {
            "candidates": self._chooser.explain(options, self._lacking()),
            "chosen": seat.upstream.name,
            "why": self._chooser.why(seat, options),
        }

    def _best(self) -> tuple[Pool, Lane, Seat] | None:
        """The next that can go. Sets the alarm where it is tokens that somebody waits for."""
        if not any(seat.ready for seat in self.seats):
            return None
        heads = [
            (head, lane, pool)
            for pool in self._pools.values()
            for lane in pool.lanes.values()
            if (head := lane.head()) is not None
        ]
        heads.sort(key=lambda found: found[0].rank)
        held: set[Seat] = set()
        soonest = math.inf
        for head, lane, pool in heads:
            while (seat := self._chooser.pick(pool.options, lane.long, held)) is not None:
                wait = seat.gate.tokens_wait(head.tokens)
                if wait <= 0:
                    return pool, lane, seat
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

    def _closed(self, seat: Seat) -> None:
        """The gate has closed: who stands there steps back, who waited for it looks elsewhere."""
        self.withdraw(seat)
        if seat.gate.fault is not None:
            for pool in self._pools.values():
                if seat in pool.options.seats and _all_gone(pool.options.seats):
                    self._strand(pool, seat.gate.fault)
        self.match()

    def _strand(self, pool: Pool, fault: ProviderError) -> None:
        for lane in pool.lanes.values():
            while lane.head() is not None:
                task_id = lane.take().task_id
                del self._lanes[task_id]
                self.on_stranded(task_id, fault)

    def _serving(self, pool: Pool) -> tuple[Seat, ...]:
        return self._chooser.serving(pool.options)

    def _pool(self, options: Options) -> Pool:
        pool = self._pools.get(options)
        if pool is None:
            if len(self._pools) >= POOLS_KEPT:
                self._pools = {o: pool for o, pool in self._pools.items() if len(pool)}
            pool = Pool(options, {name: Lane(long=name == "long") for name in LANE_SLACK_S})
            self._pools[options] = pool
        return pool


def _all_gone(seats: Sequence[Seat]) -> bool:
    """Whether all of them, and there are some, take no call any more."""
    return bool(seats) and all(seat.gate.fault is not None for seat in seats)


def _soonest(rows: list[dict[str, Any]]) -> str | None:
    """The model expected to be done first; the order decides where nothing is known."""
    known = [row for row in rows if row["eta_s"] is not None]
    best = min(known, key=lambda row: row["eta_s"]) if len(known) == len(rows) and rows else None
    found = best or (rows[0] if rows else None)
    return None if found is None else str(found["model"])
