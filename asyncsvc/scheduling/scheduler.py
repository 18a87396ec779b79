"""Which waiting task goes to which model, decided at the last moment.

Owns the lanes and the account slots that stand ready. Promises: a worker first has its gate's
permit
and only then gets the best task there is at that moment; a task that several models can serve
goes to the one expected to be done first; a saturated or dead model holds up only the tasks that
nobody else can serve; at a gate with a token budget, a task that does not fit yet is not
overtaken by one that would. Never waits for a gate, never starts anything.

All decisions fall in `match`, a plain function called whenever a task or an account slot arrives.
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
from asyncsvc.scheduling.candidates import (
    AccountSlot,
    Chooser,
    Claim,
    Exclusions,
    Options,
    all_gone,
    decision,
    soonest,
)
from asyncsvc.scheduling.deadlines import Waits, rested
from asyncsvc.scheduling.fair_queue import Lane, Pool, Pools
from asyncsvc.scheduling.hold_back import HoldBack
from asyncsvc.scheduling.priority_queue import Rank, newcomer
from asyncsvc.scheduling.timers import Alarm
from asyncsvc.tasks.state import Request, Task


class Scheduler:
    """`enter` and `leave` for tasks, `next` for workers."""

    def __init__(
        self,
        account_slots: Sequence[AccountSlot],
        chooser: Chooser,
        lacking: Callable[[], dict[str, str]],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.account_slots = tuple(account_slots)
        self.on_stranded: Callable[[str, ProviderError], None] = lambda task_id, fault: None
        """Called for a waiting task for which no model is left, with the reason."""
        self._chooser = chooser
        self._lacking = lacking
        self.waits = Waits()
        self._hold_back = HoldBack()
        self._pools = Pools(weights or {})
        self._stopped = False
        self._alarm = Alarm(self.match)
        self._listen()

    def _listen(self) -> None:
        for account_slot in self.account_slots:
            account_slot.gate.on_close = partial(self._closed, account_slot)
            # What counts in a budget has changed: look again, once the caller is done.
            account_slot.gate.on_room = partial(self._alarm.set, 0.0)

    def apply(
        self,
        account_slots: Sequence[AccountSlot],
        balance: bool,
        weights: Mapping[str, float],
        live: Mapping[str, Task],
    ) -> None:
        """Other account slots from now on, and those who wait choose anew among them, whatever has
        refused them; `live`: all tasks."""
        for account_slot in set(self.account_slots).difference(account_slots):
            self.withdraw(account_slot)
        self.account_slots = tuple(account_slots)
        self._listen()
        self._chooser.apply(self.account_slots, balance)

        def choose(task_id: str) -> Options | None:
            task = live.get(task_id)
            return None if task is None else self._chooser.options(task.request)

        self._pools.regroup(weights, choose)
        self.match()

    def nobody(self, request: Request) -> str | None:
        """Why there is no model at all for a task, in words; None where there is one."""
        if self._chooser.options(request).account_slots:
            return None
        name = request.model
        if name is None:
            return "no model that is enabled serves such tasks"
        why = self._lacking().get(name)
        return f"model {name} is disabled: {why}" if why else f"model {name} is not in the settings"

    def __len__(self) -> int:
        return len(self._pools)

    def candidates(self, request: Request) -> tuple[AccountSlot, ...]:
        """The account slots that a task of that request waits for as things stand."""
        return self._chooser.serving(self._chooser.options(request))

    def elsewhere(self, task: Task, exclusions: Exclusions) -> bool:
        """Whether an account is left that the exclusions do not rule out."""
        account_slots = self._chooser.options(task.request, exclusions).account_slots
        return bool(account_slots) and not all_gone(account_slots)

    def held(self, task: Task, exclusions: Exclusions | None = None) -> bool:
        """Whether somebody holds each model that could serve the task."""
        account_slots = self._chooser.options(task.request, exclusions).account_slots
        able = [account_slot for account_slot in account_slots if account_slot.gate.fault is None]
        return bool(able) and all(account_slot.gate.held is not None for account_slot in able)

    def refusal(self, task: Task, exclusions: Exclusions | None = None) -> ProviderError | None:
        """For which answer of a provider no model takes a call at this moment, of those that
        could serve the task; None where one does."""
        soonest = min(self._open(task, exclusions), key=lambda gate: gate.wait(), default=None)
        return None if soonest is None else soonest.refusal()

    def rested(self, task: Task, since: float, exclusions: Exclusions | None = None) -> float:
        """How long since then the task has waited because of such answers alone."""
        return rested(since, self._open(task, exclusions))

    def _open(self, task: Task, exclusions: Exclusions | None) -> list[Gate]:
        """The gates that the task waits for, and that neither an operator nor a fault closes."""
        account_slots = self._chooser.serving(self._chooser.options(task.request, exclusions))
        return [
            account_slot.gate
            for account_slot in account_slots
            if account_slot.gate.fault is None and account_slot.gate.held is None
        ]

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
        account_slot = next((s for s in options.account_slots if s.upstream.name == chosen), None)
        why = (
            self._chooser.why(account_slot, options) if account_slot else "no model can take it now"
        )
        return decision(request) | {"candidates": rows, "chosen": chosen, "why": why}

    def enter(self, task: Task, exclusions: Exclusions | None = None) -> ProviderError | None:
        """The task waits from now on; or why nobody will ever serve it."""
        if task.request.id in self._pools:
            return None
        options = self._chooser.options(task.request, exclusions)
        account_slots = options.account_slots
        if all_gone(account_slots):
            return next(account_slot.gate.fault for account_slot in account_slots)
        self._chooser.arrived(options)
        self._pools.enter(task, options)
        # Else it changes nothing, unless an account slot is left free that one more makes worth
        # taking.
        if self._hold_back.leaves or any(account_slot.ready for account_slot in account_slots):
            self.match()
        return None

    def leave(self, task: Task) -> bool:
        """The task waits no longer; False where it did not wait."""
        left = self._pools.leave(task.id)
        self.waits.left(task.id)
        if not len(self._pools):
            self._hold_back.settle()
        return left

    def position(self, request: Request, rank: Rank, account_slots: Collection[AccountSlot]) -> int:
        """The place among the tasks that wait for any of these account slots; 1 is the next."""
        place = 1
        for pool in self._pools:  # no generators: each submit comes here
            for account_slot in self._serving(pool):
                if account_slot in account_slots:
                    place += pool.ahead_of(request, rank)
                    break
        return place

    def depth(self, name: str) -> int:
        """How many wait that the model of that name could serve."""
        return sum(
            len(pool)
            for pool in self._pools
            if any(account_slot.upstream.name == name for account_slot in self._serving(pool))
        )

    async def next(self, account_slot: AccountSlot, permit: Permit) -> Claim | None:
        """The task for a worker that holds the permit; None where its gate has closed since.

        The permit is reserved when the task is found, so nobody else can use up its rate.
        """
        if not account_slot.gate.admits(long=False):
            return None
        account_slot.permit = permit
        account_slot.offer = asyncio.get_running_loop().create_future()
        try:
            self.match()
            return await account_slot.offer
        finally:
            account_slot.offer = account_slot.permit = None

    def withdraw(self, account_slot: AccountSlot) -> None:
        """The gate has closed: whoever stands ready there goes back to wait for it."""
        if account_slot.ready and account_slot.offer is not None:
            account_slot.offer.set_result(None)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._alarm.set(math.inf)

    def match(self) -> None:
        """Hand the best waiting task to the best account slot with room, until there is none."""
        while not self._stopped and (found := self._best()) is not None:
            pool, lane, account_slot = found
            assert account_slot.permit is not None and account_slot.offer is not None
            entry = self._pools.take(lane)
            self._hold_back.taken(account_slot.upstream)
            route = self._route(pool.options, account_slot) | self.waits.taken(
                entry.task_id, account_slot.gate
            )
            account_slot.permit.reserve(lane.long, entry.tokens)
            account_slot.offer.set_result(Claim(entry, route))

    def _route(self, options: Options, account_slot: AccountSlot) -> dict[str, Any]:
        """What to note of the choice, before the account slot is taken."""
        return {
            "candidates": self._chooser.explain(options, self._lacking(), taking=account_slot),
            "chosen": account_slot.upstream.name,
            "why": self._chooser.why(account_slot, options),
        }

    def _best(self) -> tuple[Pool, Lane, AccountSlot] | None:
        """The next that can go. Sets the alarm where it is tokens that somebody waits for."""
        if not any(account_slot.ready for account_slot in self.account_slots):
            self._hold_back.settle()
            return None
        heads = self._pools.heads()
        held: set[AccountSlot] = set()
        met: dict[AccountSlot, Reason] = {}
        soonest = math.inf
        for first, urgent in heads:
            while (account_slot := self._pick(first.options, urgent.long, held)) is not None:
                pool, lane = self._turn(first, urgent, account_slot, heads, held)
                if (wait := account_slot.gate.tokens_wait(lane.next().tokens)) > 0:
                    held.add(account_slot)
                    met[account_slot] = "tokens"
                    soonest = min(soonest, wait)
                elif (wait := self._left(account_slot, pool.options)) > 0:
                    # Free account slots that are slower still are none the better.
                    met[account_slot] = "patience"
                    soonest = min(soonest, wait)
                    break
                else:
                    return pool, lane, account_slot
        self._hold_back.settle()
        self.waits.note(met)
        self._alarm.set(soonest)
        return None

    def _turn(
        self,
        pool: Pool,
        lane: Lane,
        account_slot: AccountSlot,
        heads: Sequence[tuple[Pool, Lane]],
        held: Collection[AccountSlot],
    ) -> tuple[Pool, Lane]:
        """Whose turn it is at the account slot, of all that wait for it with the same urgency
        class."""
        others = [(p, each) for p, each in heads if each.turns is lane.turns and each is not lane]
        if all(each.next().owner == lane.next().owner for _, each in others):
            return pool, lane
        found = [
            each for each in others if self._pick(each[0].options, lane.long, held) is account_slot
        ]
        return min([(pool, lane), *found], key=lambda each: lane.turns.of(each[1].next()))

    def _pick(
        self, options: Options, long: bool, held: Collection[AccountSlot] = ()
    ) -> AccountSlot | None:
        return self._chooser.pick(options, long, held, self._borrowers)

    def _left(self, account_slot: AccountSlot, options: Options) -> float:
        """How long the account slot had better stay free for tasks that a faster one may take."""
        if not (others := self._others(account_slot, options)):
            return 0.0
        return self._hold_back.left(account_slot.upstream, others, self._pools.rivals(options))

    def _sparing(self, account_slot: AccountSlot, options: Options) -> float:
        """How long a task that came now would leave the account slot free."""
        waiting = max(self._pools.rivals(options), 1)
        return self._hold_back.spares(
            account_slot.upstream, self._others(account_slot, options), waiting
        )

    def spared(self, request: Request) -> tuple[AccountSlot, float] | None:
        """The free account slot kept from such a task for a faster one, and for how long."""
        options = self._chooser.options(request)
        if len(options.primary) == 1 or all(account_slot.ready for account_slot in options.primary):
            return None  # of those that are all free the best is taken
        account_slot = self._pick(options, request.lane == "long")
        left = self._sparing(account_slot, options) if account_slot is not None else 0.0
        return (account_slot, left) if account_slot is not None and left > 0 else None

    def _others(self, account_slot: AccountSlot, options: Options) -> list[Upstream]:
        """What may be better to wait for; nothing where the order decides."""
        if (
            not self._chooser.balance
            or account_slot not in options.primary
            or len(options.primary) == 1
        ):
            return []
        return [s.upstream for s in self._chooser.waited_for(options) if s is not account_slot]

    def _borrowers(self, options: Options) -> int:
        """How many would gain by the slot of real-time work; 0 while that waits itself."""
        waits = any(pool.options.name == "realtime" and len(pool) for pool in self._pools)
        return 0 if waits else self._pools.rivals(options)

    def _closed(self, account_slot: AccountSlot) -> None:
        """The gate has closed: who stands there steps back, who waited for it looks elsewhere."""
        self.withdraw(account_slot)
        if account_slot.gate.fault is not None:
            for pool in self._pools:
                if account_slot in pool.options.account_slots and all_gone(
                    pool.options.account_slots
                ):
                    for task_id in self._pools.empty(pool):
                        self.on_stranded(task_id, account_slot.gate.fault)
        self.match()

    def _serving(self, pool: Pool) -> tuple[AccountSlot, ...]:
        return self._chooser.serving(pool.options)
