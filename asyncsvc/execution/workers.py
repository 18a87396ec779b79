"""The workers: a clerk at each gate, and a worker for each call under way.

Owns the coroutines that call. Promises that there are never more workers at a gate than
its limit, whatever becomes of that, and none without a call but the clerk; that whoever dies is
back at once, again and again only after a pause, and its task is tried again, whatever it died
of; that a run beyond its deadline is cut and its worker let go. Never looks at a task.
"""

import asyncio
import logging
import math
from collections import Counter

from asyncsvc.config.settings import Settings
from asyncsvc.execution.execution import Executor
from asyncsvc.execution.watchdog import Watchdog
from asyncsvc.limits.permit import Permit
from asyncsvc.scheduling.candidates import AccountSlot, Claim
from asyncsvc.scheduling.scheduler import Scheduler

log = logging.getLogger(__name__)

PAUSE_S = 0.1
"""After the second death in a row at a gate; doubled with each further one."""
PAUSE_MOST_S = 30.0


class WorkerPool:
    """`run` until cancelled; `staff` when the account slots are others."""

    def __init__(self, scheduler: Scheduler, executor: Executor, settings: Settings) -> None:
        self.restarts = 0
        """How many workers and clerks have died and been replaced."""
        self.watchdog = Watchdog(executor, settings)
        self._scheduler = scheduler
        self._executor = executor
        self._clerks: dict[AccountSlot, asyncio.Task[None]] = {}
        self._workers: dict[asyncio.Task[None], AccountSlot] = {}
        self._busy: Counter[AccountSlot] = Counter()
        self._at_work = asyncio.Event()

    async def run(self) -> None:
        """Keep every account slot staffed. Ends only by cancellation."""
        try:
            self.staff()
            await self.watchdog.run(self._at_work)
        finally:
            everyone = [*self._clerks.values(), *self._workers]
            for one in everyone:
                one.cancel()
            await asyncio.gather(*everyone, return_exceptions=True)

    def staff(self) -> None:
        """One clerk at each account slot; those whose account slot is gone leave, calls under way
        go on."""
        for account_slot in self._clerks.keys() - set(self._scheduler.account_slots):
            clerk = self._clerks.pop(account_slot)
            # One that stands ready has been sent back by `withdraw` already, or has a task: then
            # it must still hand it on.
            if account_slot.offer is None:
                clerk.cancel()
        for account_slot in self._scheduler.account_slots:
            if account_slot not in self._clerks:
                name = f"clerk {account_slot.gate.name}"
                self._clerks[account_slot] = asyncio.create_task(
                    self._attend(account_slot), name=name
                )

    def working(self, account_slot: AccountSlot | None = None) -> int:
        """Workers with a call, at one account slot or in all."""
        return len(self._workers) if account_slot is None else self._busy[account_slot]

    def figures(self) -> dict[str, int]:
        """For people to look at."""
        return {
            "clerks": len(self._clerks),
            "working": len(self._workers),
            "restarts": self.restarts,
            "cut": self.watchdog.cut,
            "left_behind": self.watchdog.left_behind,
        }

    async def _attend(self, account_slot: AccountSlot) -> None:
        """Wait at the gate for a permit and a task for it, again and again, and hand both to a
        worker. Ends when the account slot is gone, else only by cancellation."""
        deaths = 0
        while account_slot in self._scheduler.account_slots:
            try:
                # What is still being recorded counts too: a disk that takes nothing would
                # otherwise gather workers without end.
                while self.working(account_slot) >= account_slot.gate.concurrency:
                    account_slot.gate.meets("concurrency")
                    await account_slot.gate.sleep(math.inf)
                found = await self._turn(account_slot)
            except Exception:
                deaths += 1
                self.restarts += 1
                log.exception("a clerk of %s died and is replaced", account_slot.gate.name)
                if deaths > 1:
                    await asyncio.sleep(min(PAUSE_S * 2.0 ** (deaths - 2), PAUSE_MOST_S))
                continue
            deaths = 0
            if found is not None:
                self._put_to_work(account_slot, *found)

    async def _turn(self, account_slot: AccountSlot) -> tuple[Permit, Claim] | None:
        """Both a permit and a task for it; None where the gate has closed meanwhile."""
        permit = await account_slot.gate.acquire()
        try:
            taken = await self._scheduler.claim(account_slot, permit)
        except BaseException:
            permit.release()
            raise
        if taken is None:
            permit.release()
            return None
        return permit, taken

    def _put_to_work(self, account_slot: AccountSlot, permit: Permit, taken: Claim) -> None:
        work = self._work(account_slot, permit, taken)
        worker = asyncio.create_task(work, name=f"worker {account_slot.gate.name}")
        self._workers[worker] = account_slot
        self._busy[account_slot] += 1
        self._at_work.set()
        worker.add_done_callback(self._gone)

    def _gone(self, worker: "asyncio.Task[None]") -> None:
        account_slot = self._workers.pop(worker)
        self._busy[account_slot] -= 1
        if not self._busy[account_slot]:
            del self._busy[account_slot]
        account_slot.gate.wake()
        if not self._workers:
            self._at_work.clear()

    async def _work(self, account_slot: AccountSlot, permit: Permit, taken: Claim) -> None:
        """One call; raises only CancelledError."""
        task_id = taken.entry.task_id
        try:
            try:
                await self._executor.run(task_id, account_slot.upstream, permit, taken.route)
            finally:
                permit.release()
                self._scheduler.match()  # a long task may have waited for this slot
        except Exception:
            self.restarts += 1
            log.exception("a worker of %s died and is replaced", account_slot.gate.name)
            await self._hand_back(task_id)

    async def _hand_back(self, task_id: str) -> None:
        try:
            await self._executor.abandoned(task_id)
        except Exception:
            log.exception("task %s could not be handed back; a restart will", task_id)
