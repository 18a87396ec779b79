"""The dispatcher: which waiting task goes to which account, decided at the last moment.

A worker first holds a permit of its account and only then is given the best task at that moment.
A task that several models can serve goes to the model expected to be done first; a saturated or
disabled model delays only the tasks that no other model can serve; at an account with a token
budget, a task that does not fit yet is not overtaken by one that would. The next call of a task
that is under way goes before all waiting tasks.

All decisions fall in `match`, a plain function called whenever a task or a worker arrives. The
dispatcher calls no other part back: it returns what it has found.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from asyncsvc.errors import GateClosed, ProviderError
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.limits.verdict import Reason, Stage
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.candidates import (
    AccountSlot,
    Chooser,
    Claim,
    Exclusions,
    Options,
    all_disabled,
    decision,
    soonest,
)
from asyncsvc.scheduling.fair_queue import Lane, Pool, Pools, Rank, newcomer
from asyncsvc.scheduling.hold_back import HoldBack
from asyncsvc.scheduling.next_calls import NextCalls
from asyncsvc.scheduling.timers import Alarm, WaitTimes
from asyncsvc.tasks.state import Request, Task


class Dispatcher:
    """The lanes of waiting tasks on one side, the accounts' ready workers on the other."""

    def __init__(
        self,
        account_slots: Sequence[AccountSlot],
        chooser: Chooser,
        lacking: Callable[[], dict[str, str]],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """`lacking`: why models of the settings cannot be used, by name; `weights`: by user."""
        self.account_slots = tuple(account_slots)
        self.waits = WaitTimes()
        self.chooser = chooser
        self._lacking = lacking
        self._hold_back = HoldBack()
        self._pools = Pools(weights or {})
        self._next_calls = NextCalls()
        self._stopped = False
        self._alarm = Alarm(self.match)

    def apply(
        self,
        account_slots: Sequence[AccountSlot],
        balance: bool,
        weights: Mapping[str, float],
        live: Mapping[str, Task],
    ) -> None:
        """Use other account slots from now on; waiting tasks choose again among them, without
        their exclusions. `live`: all unfinished tasks."""
        for slot in set(self.account_slots).difference(account_slots):
            self.withdraw(slot)
            self._next_calls.close(slot)
        self.account_slots = tuple(account_slots)
        self.chooser.apply(self.account_slots, balance)

        def choose(task_id: str) -> Options | None:
            task = live.get(task_id)
            return None if task is None else self.chooser.options(task.request)

        self._pools.regroup(weights, choose)
        self.match()

    def __len__(self) -> int:
        """The number of tasks in the lanes."""
        return len(self._pools)

    def no_model_reason(self, request: Request) -> str | None:
        """Why no model serves such tasks, for people; None where one does."""
        if self.chooser.options(request).account_slots:
            return None
        name = request.model
        if name is None:
            return "no model that is enabled serves such tasks"
        why = self._lacking().get(name)
        return f"model {name} is disabled: {why}" if why else f"model {name} is not in the settings"

    def candidates(self, request: Request) -> tuple[AccountSlot, ...]:
        """The account slots for which a task of that request waits as things stand."""
        return self.chooser.serving(self.chooser.options(request))

    def explain(self, request: Request, at: int) -> dict[str, Any]:
        """The routing decision, each candidate, and which would take a task that came at `at`."""
        options = self.chooser.options(request)
        ahead = self.position(request, newcomer(request, at), self.chooser.serving(options)) - 1
        rows = self.chooser.explain(options, self._lacking(), ahead)
        able = [row for row in rows if row["eligible"]]
        ready = self._pick(options, request.lane == "long")
        if ready is not None and self._newcomer_hold_back_s(ready, options) > 0:
            ready = None
        chosen = ready.upstream.name if ready else soonest(able)
        slot = next((s for s in options.account_slots if s.upstream.name == chosen), None)
        why = self.chooser.why(slot, options) if slot else "no model can take it now"
        return decision(request) | {"candidates": rows, "chosen": chosen, "why": why}

    def enter(self, task: Task, exclusions: Exclusions | None = None) -> ProviderError | None:
        """Let the task wait in a lane; or the error for which no model will ever serve it."""
        if task.request.id in self._pools:
            return None
        options = self.chooser.options(task.request, exclusions)
        account_slots = options.account_slots
        if all_disabled(account_slots):
            return next(slot.gate.fault for slot in account_slots)
        self.chooser.arrived(options)
        self._pools.enter(task, options)
        # Without a ready account slot nothing changes, unless one is held back for a faster one
        # and one more waiting task makes the free one worth taking.
        if self._hold_back.active or any(slot.ready for slot in account_slots):
            self.match()
        return None

    def leave(self, task: Task) -> bool:
        """Take the task out of its lane; False where it waited in none."""
        left = self._pools.leave(task.id)
        self.waits.left(task.id)
        if not len(self._pools):
            self._hold_back.settle()
        return left

    def position(self, request: Request, rank: Rank, account_slots: Collection[AccountSlot]) -> int:
        """The place of that rank among the tasks that wait for any of these account slots; 1 is the
        next."""
        place = 1
        for pool in self._pools:  # no generators: each submit comes here
            for slot in self._serving(pool):
                if slot in account_slots:
                    place += pool.ahead_of(request, rank)
                    break
        return place

    def depth(self, name: str) -> int:
        """The number of waiting tasks that the model of that name could serve."""
        return sum(
            len(pool)
            for pool in self._pools
            if any(slot.upstream.name == name for slot in self._serving(pool))
        )

    async def claim(self, slot: AccountSlot, permit: Permit) -> Claim | None:
        """Wait for the next task for a worker that holds the permit; None where the account has
        closed meanwhile.

        The permit is reserved when the task is found, so no other worker can use up its rate.
        """
        if not slot.gate.verdict(Stage.SLOT).ready:
            return None
        slot.permit = permit
        slot.offer = asyncio.get_running_loop().create_future()
        try:
            self.match()
            return await slot.offer
        finally:
            slot.offer = slot.permit = None

    async def next_call(self, upstream: Upstream, long: bool, tokens: int) -> Permit:
        """Wait for a permit for one more call of a task that is under way, reserved for so many
        tokens. Raises GateClosed where the account takes no calls for now."""
        slot = next((one for one in self.account_slots if one.upstream is upstream), None)
        if slot is None:
            raise GateClosed("the model is not in the settings any more, or has changed")
        if (why := slot.gate.describe(Stage.QUEUE)) is not None:
            raise GateClosed(why)
        waiting = self._next_calls.enter(slot, long, tokens)
        self.match()
        return await waiting.permit()

    def withdraw(self, slot: AccountSlot) -> None:
        """Send the account's ready worker back to wait for a permit."""
        if slot.ready and slot.offer is not None:
            slot.offer.set_result(None)

    def stop(self) -> None:
        """Hand out no further task."""
        self._stopped = True
        self._alarm.set(math.inf)

    def match_soon(self) -> None:
        """Match in the next step of the loop, when the caller is done: the room of a token budget
        has changed."""
        self._alarm.set(0.0)

    def match(self) -> None:
        """Hand the best waiting task to the best account slot with room, until there is none."""
        if self._next_calls.waiting:  # most of the time none waits
            self._next_calls.match()
        while not self._stopped and (found := self._best()) is not None:
            pool, lane, slot = found
            assert slot.permit is not None
            assert slot.offer is not None
            entry = self._pools.take(lane)
            self._hold_back.taken(slot.upstream)
            route = self._route(pool.options, slot) | self.waits.taken(entry.task_id, slot.gate)
            slot.permit.reserve(lane.long, entry.tokens)
            slot.offer.set_result(Claim(entry.task_id, route))

    def _route(self, options: Options, slot: AccountSlot) -> dict[str, Any]:
        """The record of the choice, made before the account slot is taken."""
        return {
            "candidates": self.chooser.explain(options, self._lacking(), taking=slot),
            "chosen": slot.upstream.name,
            "why": self.chooser.why(slot, options),
        }

    def _best(self) -> tuple[Pool, Lane, AccountSlot] | None:
        """The next task that can start, as its pool, lane and account slot. Sets the alarm for the
        moment at which a task's tokens fit, or a hold-back ends."""
        if not any(slot.ready for slot in self.account_slots):
            self._hold_back.settle()
            return None
        heads = self._pools.heads()
        skipped, soonest = set[AccountSlot](), math.inf
        if self._next_calls.waiting:
            skipped, soonest = self._next_calls.short_of_tokens()
        reasons: dict[AccountSlot, Reason] = dict.fromkeys(skipped, "tokens")
        for first, urgent in heads:
            while (slot := self._pick(first.options, urgent.long, skipped)) is not None:
                pool, lane = self._turn(first, urgent, slot, heads, skipped)
                found = slot.gate.verdict(
                    Stage.SLOT, long=lane.long, tokens=max(lane.next().tokens, 1)
                )
                if found.reason is not None:
                    skipped.add(slot)
                    reasons[slot] = found.reason
                    soonest = min(soonest, found.wait_s(slot.gate.time()))
                elif (wait := self._hold_back_s(slot, pool.options)) > 0:
                    # Free account slots that are slower still are no better.
                    reasons[slot] = "patience"
                    soonest = min(soonest, wait)
                    break
                else:
                    return pool, lane, slot
        self._hold_back.settle()
        self.waits.note(reasons)
        self._alarm.set(soonest)
        return None

    def _turn(
        self,
        pool: Pool,
        lane: Lane,
        slot: AccountSlot,
        heads: Sequence[tuple[Pool, Lane]],
        skipped: Collection[AccountSlot],
    ) -> tuple[Pool, Lane]:
        """The lane whose turn it is at the account slot, of all lanes of the same urgency class
        that wait for that account slot."""
        others = [(p, each) for p, each in heads if each.turns is lane.turns and each is not lane]
        if all(each.next().owner == lane.next().owner for _, each in others):
            return pool, lane
        found = [
            (p, each) for p, each in others if self._pick(p.options, lane.long, skipped) is slot
        ]
        return min([(pool, lane), *found], key=lambda each: lane.turns.of(each[1].next()))

    def _pick(
        self, options: Options, long: bool, skipped: Collection[AccountSlot] = ()
    ) -> AccountSlot | None:
        return self.chooser.pick(options, long, skipped, self._competing)

    def _hold_back_s(self, slot: AccountSlot, options: Options) -> float:
        """Seconds for which the free account slot had better wait for a faster one to serve."""
        if not (others := self._others(slot, options)):
            return 0.0
        waiting = self._pools.competing(options)
        return self._hold_back.left(slot.upstream, others, waiting)

    def _newcomer_hold_back_s(self, slot: AccountSlot, options: Options) -> float:
        """Seconds for which a task that came now would leave the account slot free."""
        waiting = max(self._pools.competing(options), 1)
        others = self._others(slot, options)
        return self._hold_back.newcomer_left(slot.upstream, others, waiting)

    def held_back(self, request: Request) -> tuple[AccountSlot, float] | None:
        """The free account slot that such a task leaves free for a faster one, and the seconds."""
        options = self.chooser.options(request)
        if len(options.primary) == 1 or all(slot.ready for slot in options.primary):
            return None  # of those that are all free the best is taken
        slot = self._pick(options, request.lane == "long")
        if slot is None:
            return None
        left = self._newcomer_hold_back_s(slot, options)
        return (slot, left) if left > 0 else None

    def _others(self, slot: AccountSlot, options: Options) -> list[Upstream]:
        """The accounts that may be worth waiting for; none where the order of models decides."""
        if not self.chooser.balance or slot not in options.primary or len(options.primary) == 1:
            return []
        return [s.upstream for s in self.chooser.waited_for(options) if s is not slot]

    def _competing(self, options: Options) -> int:
        """The number of waiting tasks that would gain by the slot reserved for real-time tasks;
        0 while a real-time task waits itself."""
        waits = any(pool.options.name == "realtime" and len(pool) for pool in self._pools)
        return 0 if waits else self._pools.competing(options)

    def closed(self, account: AccountLimiter) -> list[tuple[str, ProviderError]]:
        """The account takes no calls now: its ready worker steps back, and waiting tasks go
        elsewhere. Returns the tasks for which no model is left, with the reason."""
        for slot in self.account_slots:
            if slot.gate is account:
                self.withdraw(slot)
                if account.describe(Stage.QUEUE) is not None:
                    self._next_calls.close(slot)
        without_model: list[tuple[str, ProviderError]] = []
        if (fault := account.fault) is not None:
            for pool in self._pools:
                able = pool.options.account_slots
                if any(each.gate is account for each in able) and all_disabled(able):
                    without_model += [(task_id, fault) for task_id in self._pools.empty(pool)]
        self.match()
        return without_model

    def _serving(self, pool: Pool) -> tuple[AccountSlot, ...]:
        return self.chooser.serving(pool.options)
