"""The worker pool: a loop for each account slot, a worker for each call under way, a watchdog.

Owns the coroutines that call. Promises that an account never has more workers than its limit
allows, and begins no call while the disk has no room for answers; that a loop or worker which
raises is replaced at once, again and again only after a pause, and the task tried again; that a
call beyond its deadline, or of which nothing has been received for longer than the timeouts allow,
is cancelled and left behind within seconds if it does not end. Never looks at a task's content,
never hurries a disk.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable

from asyncsvc.config.settings import Settings
from asyncsvc.errors import IdleTimeout
from asyncsvc.execution.call import Call, CallState
from asyncsvc.execution.execution import Executor
from asyncsvc.limits.account import Permit
from asyncsvc.scheduling.candidates import PASSED_ON, AccountSlot, Claim
from asyncsvc.scheduling.scheduler import Scheduler

log = logging.getLogger(__name__)

PAUSE_S = 0.1
"""After the second failure in a row of an account's loop; doubled with each further one."""
PAUSE_MOST_S = 30.0
EVERY_S = 2.0
"""Between two looks of the watchdog."""
MARGIN_S = 5.0
"""Beyond a deadline, after which a call that observes it by itself has ended."""
CLOSE_WITHIN_S = 5.0
"""How long a cancelled call may take to end and close its connection."""


class Watchdog:
    """Cancels calls that should have ended by themselves: `run` until cancelled, `look` once."""

    def __init__(self, executor: Executor, settings: Settings) -> None:
        self.cut = 0
        """Calls that had to be cancelled."""
        self.left_behind = 0
        """Cancelled calls that did not end and are no longer waited for."""
        self._executor = executor
        self._settings = settings
        self._closing_since: dict[Call, float] = {}

    async def run(self, at_work: asyncio.Event, idle: Callable[[], bool]) -> None:
        """Look every `EVERY_S` seconds while there are calls: from when `at_work` is set, until
        `idle` says that there are none."""
        while True:
            await at_work.wait()
            await asyncio.sleep(EVERY_S)
            try:
                self.look()
            except Exception:
                log.exception("the watchdog failed once; it goes on")
            if idle():
                at_work.clear()

    def look(self) -> None:
        """Cancel calls that are too late, leave those behind that do not end."""
        now = asyncio.get_running_loop().time()
        calls = {execution.call for execution in self._executor.executions.values()}
        under_way = {call for call in calls if call.state is not CallState.CLOSED}
        for call in under_way:
            if call.state is CallState.CLOSING:
                if now - self._closing_since.setdefault(call, now) >= CLOSE_WITHIN_S:
                    self._leave_behind(call)
            else:
                self._judge(call, now)
        self._closing_since = {c: at for c, at in self._closing_since.items() if c in under_way}

    def _judge(self, call: Call, now: float) -> None:
        for execution in list(call.executions.values()):
            if now > execution.deadline + MARGIN_S:
                task_id = execution.task.id
                text = "task %s runs beyond its deadline and is cut"
                log.error(text, task_id, extra={"task_id": task_id})
                self.cut += 1
                self._executor.time_is_up(execution)
        timeouts = call.upstream.limits(self._settings.timeouts)
        limit_s = timeouts.connect_s + max(timeouts.first_token_s, timeouts.idle_s) + MARGIN_S
        if call.open and call.silent_s(now) > limit_s:
            text = "nothing was received by the call of task %s; it is cut"
            log.error(text, call.leader.id, extra=_fields(call))
            self.cut += 1
            self._executor.cut(call, IdleTimeout(f"nothing was received for {limit_s:g} s"))

    def _leave_behind(self, call: Call) -> None:
        text = "the call of task %s was cut and does not end; left behind"
        log.error(text, call.leader.id, extra=_fields(call))
        self.left_behind += 1
        call.close()


def _fields(call: Call) -> dict[str, str]:
    """The fields of a line about a call."""
    return {"task_id": call.leader.id, "account": call.upstream.gate.name}


class WorkerPool:
    """`run` until cancelled; `staff` when the account slots have changed."""

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        settings: Settings,
        room: asyncio.Event | None = None,
    ) -> None:
        self.restarts = 0
        """How many loops and workers have raised an exception and been replaced."""
        self.watchdog = Watchdog(executor, settings)
        self._room = room
        """Set while the disk has room for more answers; None: there always is."""
        self._scheduler = scheduler
        self._executor = executor
        self._loops: dict[AccountSlot, asyncio.Task[None]] = {}
        self._workers: dict[asyncio.Task[None], AccountSlot] = {}
        self._busy: Counter[AccountSlot] = Counter()
        self._at_work = asyncio.Event()

    async def run(self) -> None:
        """Run a loop for every account slot, and the watchdog. Ends only by cancellation."""
        try:
            self.staff()
            await self.watchdog.run(self._at_work, self._idle)
        finally:
            running = [*self._loops.values(), *self._workers]
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def staff(self) -> None:
        """Start a loop for each new account slot and end those of slots that are gone; calls
        under way go on."""
        for account_slot in self._loops.keys() - set(self._scheduler.account_slots):
            loop = self._loops.pop(account_slot)
            # A loop with an offer has been woken by the scheduler already, or has a task, which
            # it must still hand to a worker.
            if account_slot.offer is None:
                loop.cancel()
        for account_slot in self._scheduler.account_slots:
            if account_slot not in self._loops:
                name = f"account {account_slot.gate.name}"
                self._loops[account_slot] = asyncio.create_task(
                    self._serve(account_slot), name=name
                )

    def working(self, account_slot: AccountSlot | None = None) -> int:
        """The number of workers, at one account slot or in all."""
        return len(self._workers) if account_slot is None else self._busy[account_slot]

    def figures(self) -> dict[str, int]:
        """Counts for the health page; `clerks` are the loops of the account slots."""
        return {
            "clerks": len(self._loops),
            "working": len(self._workers),
            "restarts": self.restarts,
            "cut": self.watchdog.cut,
            "left_behind": self.watchdog.left_behind,
        }

    async def _serve(self, account_slot: AccountSlot) -> None:
        """Wait for a permit and a task for it, again and again, and hand both to a worker. Ends
        when the account slot is gone, else only by cancellation."""
        failures = 0
        while account_slot in self._scheduler.account_slots:
            try:
                # A worker that still records counts too: a disk that takes nothing would
                # otherwise gather workers without end.
                while self.working(account_slot) >= account_slot.gate.concurrency:
                    account_slot.gate.wait_reasons.note("concurrency", account_slot.gate.time())
                    await account_slot.gate.sleep(math.inf)
                if self._room is not None:
                    await self._room.wait()
                found = await self._next(account_slot)
            except Exception:
                failures += 1
                self.restarts += 1
                name = account_slot.gate.name
                text = "the loop of %s failed and begins again"
                log.exception(text, name, extra={"account": name})
                if failures > 1:
                    await asyncio.sleep(min(PAUSE_S * 2.0 ** (failures - 2), PAUSE_MOST_S))
                continue
            failures = 0
            if found is not None:
                self._put_to_work(account_slot, *found)

    async def _next(self, account_slot: AccountSlot) -> tuple[Permit, Claim] | None:
        """A permit and a task for it; None where the account was closed meanwhile."""
        permit = await account_slot.gate.acquire()
        try:
            taken = await self._scheduler.claim(account_slot, permit)
        except BaseException:
            permit.release()
            raise
        if taken is None:
            permit.release()
        return None if taken is None or taken is PASSED_ON else (permit, taken)

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

    def _idle(self) -> bool:
        """Whether nothing runs; an agent goes on beside the workers."""
        return not self._workers and not self._executor.executions

    async def _work(self, account_slot: AccountSlot, permit: Permit, taken: Claim) -> None:
        """One call; raises only CancelledError."""
        task_id = taken.task_id
        try:
            try:
                await self._executor.run(task_id, account_slot.upstream, permit, taken.route)
            finally:
                permit.release()
                self._scheduler.match()  # a long task may have waited for this slot
        except Exception:
            self.restarts += 1
            fields = {"task_id": task_id, "account": account_slot.gate.name}
            text = "a worker of %s failed and is replaced"
            log.exception(text, account_slot.gate.name, extra=fields)
            try:
                await self._executor.abandoned(task_id)
            except Exception:
                text = "task %s could not be handed back; a restart will"
                log.exception(text, task_id, extra=fields)
