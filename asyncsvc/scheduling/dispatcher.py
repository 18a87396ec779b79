"""The dispatcher: which waiting task goes to which account, decided at the last moment.

A worker first holds a permit of its account and only then is given the best task at that moment.
A task that several models can serve goes to the model expected to be done first; a saturated or
disabled model delays only the tasks that no other model can serve; at an account with a token
budget, a task that does not fit yet is not overtaken by one that would.

All decisions fall in `match`, a plain function called whenever a task or a worker arrives. The
dispatcher calls no other part back: it returns what it has found.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from asyncsvc.errors import ProviderError
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
from asyncsvc.scheduling.deadlines import WaitTimes, cooldown_s
from asyncsvc.scheduling.fair_queue import Lane, Pool, Pools
from asyncsvc.scheduling.hold_back import HoldBack
from asyncsvc.scheduling.priority_queue import Rank, newcomer
from asyncsvc.scheduling.timers import Alarm
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
        self._chooser = chooser
        self._lacking = lacking
        self._hold_back = HoldBack()
        self._pools = Pools(weights or {})
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
        for account_slot in set(self.account_slots).difference(account_slots):
            self.withdraw(account_slot)
        self.account_slots = tuple(account_slots)
        self._chooser.apply(self.account_slots, balance)

        def choose(task_id: str) -> Options | None:
            task = live.get(task_id)
            return None if task is None else self._chooser.options(task.request)

        self._pools.regroup(weights, choose)
        self.match()

    def __len__(self) -> int:
        """The number of tasks in the lanes."""
        return len(self._pools)

    def no_model_reason(self, request: Request) -> str | None:
        """Why no model serves such tasks, for people; None where one does."""
        if self._chooser.options(request).account_slots:
            return None
        name = request.model
        if name is None:
            return "no model that is enabled serves such tasks"
        why = self._lacking().get(name)
        return f"model {name} is disabled: {why}" if why else f"model {name} is not in the settings"

    def candidates(self, request: Request) -> tuple[AccountSlot, ...]:
        """The account slots for which a task of that request waits as things stand."""
        return self._chooser.serving(self._chooser.options(request))

    def has_account(self, task: Task, exclusions: Exclusions) -> bool:
        """Whether an account is left that the exclusions do not rule out."""
        account_slots = self._chooser.options(task.request, exclusions).account_slots
        return bool(account_slots) and not all_disabled(account_slots)

    def all_paused(self, task: Task, exclusions: Exclusions | None = None) -> bool:
        """Whether each model that could serve the task is paused by an operator."""
        account_slots = self._chooser.options(task.request, exclusions).account_slots
        verdicts = [account_slot.gate.verdict(Stage.PERMIT) for account_slot in account_slots]
        able = [verdict for verdict in verdicts if not verdict.never]
        return bool(able) and all(verdict.reason == "held" for verdict in able)

    def refusal(self, task: Task, exclusions: Exclusions | None = None) -> ProviderError | None:
        """The provider's answer because of which no model that could serve the task takes a call
        now; None where one does."""
        soonest = min(self._open(task, exclusions), key=lambda gate: gate.wait(), default=None)
        return None if soonest is None else soonest.refusal()

    def provider_wait_s(
        self, task: Task, since: float, exclusions: Exclusions | None = None
    ) -> float:
        """Seconds since then in which the task has waited for providers' cooldowns alone."""
        return cooldown_s(since, self._open(task, exclusions))

    def waited(self, task: Task) -> dict[str, float]:
        """Seconds that a pending task has waited so far, by wait reason."""
        gates = [account_slot.gate for account_slot in self.candidates(task.request)]
        return self.waits.so_far(task.id, gates)

    def _open(self, task: Task, exclusions: Exclusions | None) -> list[AccountLimiter]:
        """The gates for which the task waits and that neither an operator nor a fault closes."""
        account_slots = self._chooser.serving(self._chooser.options(task.request, exclusions))
        return [
            account_slot.gate
            for account_slot in account_slots
            if account_slot.gate.verdict(Stage.PERMIT).reason not in ("disabled", "held")
        ]

    def explain(self, request: Request, at: int) -> dict[str, Any]:
        """The routing decision, each candidate, and which would take a task that came at `at`."""
        options = self._chooser.options(request)
        ahead = self.position(request, newcomer(request, at), self._chooser.serving(options)) - 1
        rows = self._chooser.explain(options, self._lacking(), ahead)
        able = [row for row in rows if row["eligible"]]
        ready = self._pick(options, request.lane == "long")
        if ready is not None and self._newcomer_hold_back_s(ready, options) > 0:
            ready = None
        chosen = ready.upstream.name if ready else soonest(able)
        account_slot = next((s for s in options.account_slots if s.upstream.name == chosen), None)
        why = (
            self._chooser.why(account_slot, options) if account_slot else "no model can take it now"
        )
        return decision(request) | {"candidates": rows, "chosen": chosen, "why": why}

    def enter(self, task: Task, exclusions: Exclusions | None = None) -> ProviderError | None:
        """Let the task wait in a lane; or the error for which no model will ever serve it."""
        if task.request.id in self._pools:
            return None
        options = self._chooser.options(task.request, exclusions)
        account_slots = options.account_slots
        if all_disabled(account_slots):
            return next(account_slot.gate.fault for account_slot in account_slots)
        self._chooser.arrived(options)
        self._pools.enter(task, options)
        # Without a ready account slot nothing changes, unless one is held back for a faster one
        # and one more waiting task makes the free one worth taking.
        if self._hold_back.active or any(account_slot.ready for account_slot in account_slots):
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
            for account_slot in self._serving(pool):
                if account_slot in account_slots:
                    place += pool.ahead_of(request, rank)
                    break
        return place

    def depth(self, name: str) -> int:
        """The number of waiting tasks that the model of that name could serve."""
        return sum(
            len(pool)
            for pool in self._pools
            if any(account_slot.upstream.name == name for account_slot in self._serving(pool))
        )

    async def claim(self, account_slot: AccountSlot, permit: Permit) -> Claim | None:
        """Wait for the next task for a worker that holds the permit; None where the account has
        closed meanwhile.

        The permit is reserved when the task is found, so no other worker can use up its rate.
        """
        if not account_slot.gate.verdict(Stage.SLOT).ready:
            return None
        account_slot.permit = permit
        account_slot.offer = asyncio.get_running_loop().create_future()
        try:
            self.match()
            return await account_slot.offer
        finally:
            account_slot.offer = account_slot.permit = None

    def withdraw(self, account_slot: AccountSlot) -> None:
        """Send the account's ready worker back to wait for a permit."""
        if account_slot.ready and account_slot.offer is not None:
            account_slot.offer.set_result(None)

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
        """The record of the choice, made before the account slot is taken."""
        return {
            "candidates": self._chooser.explain(options, self._lacking(), taking=account_slot),
            "chosen": account_slot.upstream.name,
            "why": self._chooser.why(account_slot, options),
        }

    def _best(self) -> tuple[Pool, Lane, AccountSlot] | None:
        """The next task that can start, as its pool, lane and account slot. Sets the alarm for the
        moment at which a task's tokens fit, or a hold-back ends."""
        if not any(account_slot.ready for account_slot in self.account_slots):
            self._hold_back.settle()
            return None
        heads = self._pools.heads()
        skipped: set[AccountSlot] = set()
        reasons: dict[AccountSlot, Reason] = {}
        soonest = math.inf
        for first, urgent in heads:
            while (account_slot := self._pick(first.options, urgent.long, skipped)) is not None:
                pool, lane = self._turn(first, urgent, account_slot, heads, skipped)
                found = account_slot.gate.verdict(
                    Stage.SLOT, long=lane.long, tokens=max(lane.next().tokens, 1)
                )
                if found.reason is not None:
                    skipped.add(account_slot)
                    reasons[account_slot] = found.reason
                    soonest = min(soonest, found.wait_s(account_slot.gate.time()))
                elif (wait := self._hold_back_s(account_slot, pool.options)) > 0:
                    # Free account slots that are slower still are no better.
                    reasons[account_slot] = "patience"
                    soonest = min(soonest, wait)
                    break
                else:
                    return pool, lane, account_slot
        self._hold_back.settle()
        self.waits.note(reasons)
        self._alarm.set(soonest)
        return None

    def _turn(
        self,
        pool: Pool,
        lane: Lane,
        account_slot: AccountSlot,
        heads: Sequence[tuple[Pool, Lane]],
        skipped: Collection[AccountSlot],
    ) -> tuple[Pool, Lane]:
        """The lane whose turn it is at the account slot, of all lanes of the same urgency class
        that wait for that account slot."""
        others = [(p, each) for p, each in heads if each.turns is lane.turns and each is not lane]
        if all(each.next().owner == lane.next().owner for _, each in others):
            return pool, lane
        found = [
            (p, each)
            for p, each in others
            if self._pick(p.options, lane.long, skipped) is account_slot
        ]
        return min([(pool, lane), *found], key=lambda each: lane.turns.of(each[1].next()))

    def _pick(
        self, options: Options, long: bool, skipped: Collection[AccountSlot] = ()
    ) -> AccountSlot | None:
        return self._chooser.pick(options, long, skipped, self._borrowers)

    def _hold_back_s(self, account_slot: AccountSlot, options: Options) -> float:
        """Seconds for which the free account slot had better wait for a faster one to serve."""
        if not (others := self._others(account_slot, options)):
            return 0.0
        waiting = self._pools.competing(options)
        return self._hold_back.left(account_slot.upstream, others, waiting)

    def _newcomer_hold_back_s(self, account_slot: AccountSlot, options: Options) -> float:
        """Seconds for which a task that came now would leave the account slot free."""
        waiting = max(self._pools.competing(options), 1)
        others = self._others(account_slot, options)
        return self._hold_back.newcomer_left(account_slot.upstream, others, waiting)

    def held_back(self, request: Request) -> tuple[AccountSlot, float] | None:
        """The free account slot that such a task leaves free for a faster one, and the seconds."""
        options = self._chooser.options(request)
        if len(options.primary) == 1 or all(account_slot.ready for account_slot in options.primary):
            return None  # of those that are all free the best is taken
        account_slot = self._pick(options, request.lane == "long")
        if account_slot is None:
            return None
        left = self._newcomer_hold_back_s(account_slot, options)
        return (account_slot, left) if left > 0 else None

    def _others(self, account_slot: AccountSlot, options: Options) -> list[Upstream]:
        """The accounts that may be worth waiting for; none where the order of models decides."""
        if (
            not self._chooser.balance
            or account_slot not in options.primary
            or len(options.primary) == 1
        ):
            return []
        return [s.upstream for s in self._chooser.waited_for(options) if s is not account_slot]

    def _borrowers(self, options: Options) -> int:
        """The number of waiting tasks that would gain by the slot reserved for real-time tasks;
        0 while a real-time task waits itself."""
        waits = any(pool.options.name == "realtime" and len(pool) for pool in self._pools)
        return 0 if waits else self._pools.competing(options)

    def closed(self, account: AccountLimiter) -> list[tuple[str, ProviderError]]:
        """The account takes no calls now: its ready worker steps back, and waiting tasks go
        elsewhere. Returns the tasks for which no model is left, with the reason."""
        for account_slot in self.account_slots:
            if account_slot.gate is account:
                self.withdraw(account_slot)
        stranded: list[tuple[str, ProviderError]] = []
        if (fault := account.fault) is not None:
            for pool in self._pools:
                able = pool.options.account_slots
                if any(each.gate is account for each in able) and all_disabled(able):
                    stranded += [(task_id, fault) for task_id in self._pools.empty(pool)]
        self.match()
        return stranded

    def _serving(self, pool: Pool) -> tuple[AccountSlot, ...]:
        return self._chooser.serving(pool.options)
