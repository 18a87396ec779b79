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
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from asyncsvc.errors import ProviderError
from asyncsvc.limits.account import Gate
from asyncsvc.limits.permit import Permit
from asyncsvc.limits.wait_reasons import Reason
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.account_slots import Bars, Options, Seat, Taken, all_gone
from asyncsvc.scheduling.candidates import Chooser, decision, soonest
from asyncsvc.scheduling.fair_queue import Lane
from asyncsvc.scheduling.hold_back import Patience
from asyncsvc.scheduling.pools import Pool, Pools
from asyncsvc.scheduling.priority_queue import Rank, newcomer
from asyncsvc.scheduling.timers import Alarm
from asyncsvc.scheduling.wait_clocks import Waits, rested
from asyncsvc.tasks.state import Request, Task


class Dispatch:
    """`enter` and `leave` for tasks, `next` for workers."""

    def __init__(
        self,
        seats: Sequence[Seat],
        chooser: Chooser,
        lacking: Callable[[], dict[str, str]],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.seats = tuple(seats)
        self.on_stranded: Callable[[str, ProviderError], None] = lambda task_id, fault: None
        """Called for a waiting task for which no model is left, with the reason."""
        self._chooser = chooser
        self._lacking = lacking
        self.waits = Waits()
        self._patience = Patience()
        self._pools = Pools(weights or {})
        self._stopped = False
        self._alarm = Alarm(self.match)
        self._listen()

    def _listen(self) -> None:
        for seat in self.seats:
            seat.gate.on_close = partial(self._closed, seat)
            # What counts in a budget has changed: look again, once the caller is done.
            seat.gate.on_room = partial(self._alarm.set, 0.0)

    def apply(
        self,
        seats: Sequence[Seat],
        balance: bool,
        weights: Mapping[str, float],
        live: Mapping[str, Task],
    ) -> None:
        """Other seats from now on, and those who wait choose anew among them, whatever has
        refused them; `live`: all tasks."""
        for seat in set(self.seats).difference(seats):
            self.withdraw(seat)
        self.seats = tuple(seats)
        self._listen()
        self._chooser.apply(self.seats, balance)

        def choose(task_id: str) -> Options | None:
            task = live.get(task_id)
            return None if task is None else self._chooser.options(task.request)

        self._pools.regroup(weights, choose)
        self.match()

    def nobody(self, request: Request) -> str | None:
        """Why there is no model at all for a task, in words; None where there is one."""
        if self._chooser.options(request).seats:
            return None
        name = request.model
        if name is None:
            return "no model that is enabled serves such tasks"
        why = self._lacking().get(name)
        return f"model {name} is disabled: {why}" if why else f"model {name} is not in the settings"

    def __len__(self) -> int:
        return len(self._pools)

    def candidates(self, request: Request) -> tuple[Seat, ...]:
        """The seats that a task of that request waits for as things stand."""
        return self._chooser.serving(self._chooser.options(request))

    def elsewhere(self, task: Task, bars: Bars) -> bool:
        """Whether an account is left that the bars do not rule out."""
        seats = self._chooser.options(task.request, bars).seats
        return bool(seats) and not all_gone(seats)

    def held(self, task: Task, bars: Bars | None = None) -> bool:
        """Whether somebody holds each model that could serve the task."""
        seats = self._chooser.options(task.request, bars).seats
        able = [seat for seat in seats if seat.gate.fault is None]
        return bool(able) and all(seat.gate.held is not None for seat in able)

    def refusal(self, task: Task, bars: Bars | None = None) -> ProviderError | None:
        """For which answer of a provider no model takes a call at this moment, of those that
        could serve the task; None where one does."""
        soonest = min(self._open(task, bars), key=lambda gate: gate.wait(), default=None)
        return None if soonest is None else soonest.refusal()

    def rested(self, task: Task, since: float, bars: Bars | None = None) -> float:
        """How long since then the task has waited because of such answers alone."""
        return rested(since, self._open(task, bars))

    def _open(self, task: Task, bars: Bars | None) -> list[Gate]:
        """The gates that the task waits for, and that neither an operator nor a fault closes."""
        seats = self._chooser.serving(self._chooser.options(task.request, bars))
        return [seat.gate for seat in seats if seat.gate.fault is None and seat.gate.held is None]

    def explain(self, request: Request, at: int) -> dict[str, Any]:
        """The decision, each candidate, and which would take the task if it came now."""
        options = self._chooser.options(request)
        ahead = self.position(request, newcomer(request, at), self._chooser.serving(options)) - 1
        rows = self._chooser.explain(options, self._lacking(), ahead)
        able = [row for row in rows if row["eligible"]]
        ready = self._pick(options, request.lane == "long")
        if ready is not None and self._sparing(ready, options) > 0:
            ready = None
        chosen = ready.upstream.name if ready else soonest(able)
        seat = next((s for s in options.seats if s.upstream.name == chosen), None)
        why = self._chooser.why(seat, options) if seat else "no model can take it now"
        return decision(request) | {"candidates": rows, "chosen": chosen, "why": why}

    def enter(self, task: Task, bars: Bars | None = None) -> ProviderError | None:
        """The task waits from now on; or why nobody will ever serve it."""
        if task.request.id in self._pools:
            return None
        options = self._chooser.options(task.request, bars)
        seats = options.seats
        if all_gone(seats):
            return next(seat.gate.fault for seat in seats)
        self._chooser.arrived(options)
        self._pools.enter(task, options)
        # Else it changes nothing, unless a seat is left free that one more makes worth taking.
        if self._patience.leaves or any(seat.ready for seat in seats):
            self.match()
        return None

    def leave(self, task: Task) -> bool:
        """The task waits no longer; False where it did not wait."""
        left = self._pools.leave(task.id)
        self.waits.left(task.id)
        if not len(self._pools):
            self._patience.settle()
        return left

    def position(self, request: Request, rank: Rank, seats: Collection[Seat]) -> int:
        """The place among the tasks that wait for any of these seats; 1 is the next."""
        place = 1
        for pool in self._pools:  # no generators: each submit comes here
            for seat in self._serving(pool):
                if seat in seats:
                    place += pool.ahead_of(request, rank)
                    break
        return place

    def depth(self, name: str) -> int:
        """How many wait that the model of that name could serve."""
        return sum(
            len(pool)
            for pool in self._pools
            if any(seat.upstream.name == name for seat in self._serving(pool))
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
        self._alarm.set(math.inf)

    def match(self) -> None:
        """Hand the best waiting task to the best seat with room, until there is none."""
        while not self._stopped and (found := self._best()) is not None:
            pool, lane, seat = found
            assert seat.permit is not None and seat.offer is not None
            entry = self._pools.take(lane)
            self._patience.taken(seat.upstream)
            route = self._route(pool.options, seat) | self.waits.taken(entry.task_id, seat.gate)
            seat.permit.reserve(lane.long, entry.tokens)
            seat.offer.set_result(Taken(entry, route))

    def _route(self, options: Options, seat: Seat) -> dict[str, Any]:
        """What to note of the choice, before the seat is taken."""
        return {
            "candidates": self._chooser.explain(options, self._lacking(), taking=seat),
            "chosen": seat.upstream.name,
            "why": self._chooser.why(seat, options),
        }

    def _best(self) -> tuple[Pool, Lane, Seat] | None:
        """The next that can go. Sets the alarm where it is tokens that somebody waits for."""
        if not any(seat.ready for seat in self.seats):
            self._patience.settle()
            return None
        heads = self._pools.heads()
        held: set[Seat] = set()
        met: dict[Seat, Reason] = {}
        soonest = math.inf
        for first, urgent in heads:
            while (seat := self._pick(first.options, urgent.long, held)) is not None:
                pool, lane = self._turn(first, urgent, seat, heads, held)
                if (wait := seat.gate.tokens_wait(lane.next().tokens)) > 0:
                    held.add(seat)
                    met[seat] = "tokens"
                    soonest = min(soonest, wait)
                elif (wait := self._left(seat, pool.options)) > 0:
                    # Free seats that are slower still are none the better.
                    met[seat] = "patience"
                    soonest = min(soonest, wait)
                    break
                else:
                    return pool, lane, seat
        self._patience.settle()
        self.waits.note(met)
        self._alarm.set(soonest)
        return None

    def _turn(
        self,
        pool: Pool,
        lane: Lane,
        seat: Seat,
        heads: Sequence[tuple[Pool, Lane]],
        held: Collection[Seat],
    ) -> tuple[Pool, Lane]:
        """Whose turn it is at the seat, of all that wait for it with the same urgency class."""
        others = [(p, each) for p, each in heads if each.turns is lane.turns and each is not lane]
        if all(each.next().owner == lane.next().owner for _, each in others):
            return pool, lane
        found = [each for each in others if self._pick(each[0].options, lane.long, held) is seat]
        return min([(pool, lane), *found], key=lambda each: lane.turns.of(each[1].next()))

    def _pick(self, options: Options, long: bool, held: Collection[Seat] = ()) -> Seat | None:
        return self._chooser.pick(options, long, held, self._borrowers)

    def _left(self, seat: Seat, options: Options) -> float:
        """How long the seat had better stay free for tasks that a faster one may take."""
        if not (others := self._others(seat, options)):
            return 0.0
        return self._patience.left(seat.upstream, others, self._pools.rivals(options))

    def _sparing(self, seat: Seat, options: Options) -> float:
        """How long a task that came now would leave the seat free."""
        waiting = max(self._pools.rivals(options), 1)
        return self._patience.spares(seat.upstream, self._others(seat, options), waiting)

    def spared(self, request: Request) -> tuple[Seat, float] | None:
        """The free seat that is kept from such a task for a faster one, and for how long."""
        options = self._chooser.options(request)
        if len(options.primary) == 1 or all(seat.ready for seat in options.primary):
            return None  # of those that are all free the best is taken
        seat = self._pick(options, request.lane == "long")
        left = self._sparing(seat, options) if seat is not None else 0.0
        return (seat, left) if seat is not None and left > 0 else None

    def _others(self, seat: Seat, options: Options) -> list[Upstream]:
        """What may be better to wait for; nothing where the order decides."""
        if not self._chooser.balance or seat not in options.primary or len(options.primary) == 1:
            return []
        return [s.upstream for s in self._chooser.waited_for(options) if s is not seat]

    def _borrowers(self, options: Options) -> int:
        """How many would gain by the slot of real-time work; 0 while that waits itself."""
        waits = any(pool.options.name == "realtime" and len(pool) for pool in self._pools)
        return 0 if waits else self._pools.rivals(options)

    def _closed(self, seat: Seat) -> None:
        """The gate has closed: who stands there steps back, who waited for it looks elsewhere."""
        self.withdraw(seat)
        if seat.gate.fault is not None:
            for pool in self._pools:
                if seat in pool.options.seats and all_gone(pool.options.seats):
                    for task_id in self._pools.empty(pool):
                        self.on_stranded(task_id, seat.gate.fault)
        self.match()

    def _serving(self, pool: Pool) -> tuple[Seat, ...]:
        return self._chooser.serving(pool.options)
