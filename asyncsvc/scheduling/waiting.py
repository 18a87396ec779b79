"""Where a task waits that neither runs nor is finished.

Owns the way from a state to a waiting place: lane, session, flight or alarm; and for how
long. Promises that every pending task is in a lane, behind its session's head or in a
flight, every scheduled one has an alarm, that a task whose answer is known is given it without
waiting, and that a task that never gets its turn fails in the end. Never runs a task.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from asyncsvc.clock import left_ms
from asyncsvc.config.settings import Settings
from asyncsvc.errors import (
    ContextTooLong,
    DatabaseDamaged,
    Expired,
    IllegalTransition,
    ProviderError,
    StorageUnavailable,
    TaskNotFound,
    TaskTimeout,
)
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.cache import Answer, Cache
from asyncsvc.scheduling.candidates import AccountSlot, Exclusions
from asyncsvc.scheduling.deadlines import Deadlines
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.scheduling.sessions import Sessions
from asyncsvc.scheduling.single_flight import Board, SingleFlight
from asyncsvc.scheduling.timers import Timers
from asyncsvc.storage.refusals import loads
from asyncsvc.tasks.state import FINISHED, Cause, Draft, State, Task, status

STORAGE_PAUSE_S = 1.0
LEAST_S = 0.05
"""Between two looks at a task whose time is nearly over."""
MOMENT_S = 1.0
"""Between two looks at a task whose time is over while no model rests."""
AT_A_TIME = 500
"""Alarms that are set without a pause; about 5 ms."""
T = TypeVar("T")


async def through(step: Coroutine[Any, Any, T]) -> T:
    """Carry a step through although whoever asked for it may be cancelled meanwhile.

    What is on the disk must also find its waiting place: a client that hangs up between the
    two would leave a task behind that nobody runs before the next start.
    """
    carried = asyncio.ensure_future(step)
    carried.add_done_callback(_heard)
    return await asyncio.shield(carried)


def _heard(step: "asyncio.Future[T]") -> None:
    """A refusal that nobody waits for any more is nobody's news, and no fault of ours."""
    if not step.cancelled():
        step.exception()


class WaitingTasks:
    """`admit` whatever is to wait, `remove` what waits no longer, `done` what is finished."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        timers: Timers,
        settings: Settings,
        cache: Cache,
    ) -> None:
        self.scheduler = scheduler
        self.cache = cache
        self.single_flight = SingleFlight(scheduler, self._to_lane)
        self._journal = journal
        self._timers = timers
        self.sessions = Sessions()
        self._settings = settings
        self.deadlines = Deadlines(settings)
        self._exclusions: dict[str, Exclusions] = {}
        self._since: dict[str, float] = {}
        """Since when each task with a time of its own waits, by the loop's clock."""
        scheduler.on_stranded = self._strand
        self._steps: set[asyncio.Task[None]] = set()

    def admit(self, task: Task, delay_s: float | None = None) -> None:
        """Let the task wait as its state demands; `delay_s` is known better than the clock."""
        session, mine = task.request.session_id, True
        if session is not None:
            mine = self.sessions.enter(session, task.id)
        if task.state is State.SCHEDULED:
            self.single_flight.leave(task)
            self._set_alarm(task, delay_s)
        elif task.state is State.PENDING:
            self._watch(task)
            if not mine:
                self.scheduler.waits.behind(task.id)
            elif task.request.cache_key is None:
                self._to_lane(task)
            else:
                self._line_up(task)

    def _line_up(self, task: Task) -> None:
        """It is the task's turn to be served: from the cache, or by a call."""
        key = self.cache.key(task)
        if key is None:
            self._to_lane(task)
            return
        # Whoever has it done again by hand wants to hear something new.
        again = task.starts > 0 and task.started_at is None
        answer = None if again else self.cache.get(key)
        if answer is None:
            self.single_flight.enter(key, task)
        else:
            self.single_flight.leave(task)
            self._later(self._answer(task, answer))

    def _to_lane(self, task: Task) -> None:
        task_id = task.request.id
        exclusions = self._exclusions.get(task_id) if self._exclusions else None
        self.scheduler.waits.queued(task_id)
        if (fault := self.scheduler.enter(task, exclusions)) is not None:
            self._strand(task_id, fault)

    def depart(self, task: Task, board: Board) -> list[Task]:
        """The task's call begins: all who share it, none where one is under way already."""
        return self.single_flight.depart(self.cache.key(task), task, board)

    def land(self, task: Task) -> None:
        """The task's call is over and recorded: whoever came too late for it is next."""
        for late in self.single_flight.land(task):
            self.admit(late)

    def apply(self, account_slots: Sequence[AccountSlot], ttl_changed: bool) -> None:
        """Take other account slots and settings from now on; every waiting task is tried again."""
        self._exclusions.clear()
        live, settings = self._journal.live, self._settings
        self.scheduler.apply(account_slots, settings.routing.balance, settings.queue.weights, live)
        if ttl_changed:
            self._later(self._watch_all(list(live)))

    async def _watch_all(self, task_ids: list[str]) -> None:
        """Set the alarms of all who wait anew, a few at a time: none of them is due so soon that
        it matters, and thousands at once would hold up everybody else."""
        for number, task_id in enumerate(task_ids, 1):
            task = self._journal.live.get(task_id)
            if task is not None and task.state is State.PENDING and not self.deadlines.of(task):
                self._watch(task)
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)

    def bar(self, task: Task, upstream: Upstream, fault: ProviderError) -> bool:
        """Do not ask that account again for the task; whether another one is left."""
        exclusions = self._exclusions.setdefault(task.id, Exclusions())
        if isinstance(fault, ContextTooLong):
            exclusions.context = max(exclusions.context, upstream.settings.context)
        else:
            (exclusions.failed if fault.again else exclusions.refused).add(upstream.gate.name)
        return self.scheduler.elsewhere(task, exclusions)

    def _strand(self, task_id: str, fault: ProviderError) -> None:
        """No model is left that could serve the task, and none will be before the next start."""
        self._later(self._fail(task_id, fault))

    def _set_alarm(self, task: Task, delay_s: float | None) -> None:
        def due(task_id: str) -> None:
            self._later(self._become(task_id, Cause.DUE))

        due_at, request = task.next_run_at or 0, task.request
        if delay_s is not None:
            self._timers.after(task.id, delay_s, due)
        elif due_at == request.run_at and not request.delayed:
            self._timers.at(task.id, due_at, due)
        else:
            left = left_ms(due_at, task.updated_at, self._journal.now())
            self._timers.after(task.id, left / 1000, due)

    def remove(self, task: Task) -> None:
        """The task is paused, or about to run: it waits no longer, but keeps its session."""
        self._timers.clear(task.id)
        self._since.pop(task.id, None)
        self.scheduler.leave(task)
        self.single_flight.leave(task)

    def done(self, task: Task) -> None:
        """The task is finished: whoever was behind it in its session is next."""
        self.remove(task)
        self.deadlines.drop(task)
        self._exclusions.pop(task.id, None)
        session = task.request.session_id
        heir = self.sessions.leave(session, task.id) if session is not None else None
        if heir is not None and (next_task := self._journal.live.get(heir)) is not None:
            self.admit(next_task)

    def begin(self, task: Task) -> float:
        """The task starts: until when it may take, by the loop's clock, retries included."""
        self._timers.clear(task.id)
        self._since.pop(task.id, None)
        return self.deadlines.begin(task)

    async def said(self, task: Task) -> str | None:
        """What it said in its last attempt: its result, if it ends while it does not run."""
        try:
            rows = await self._journal.store.text_so_far(task.n) if task.starts else []
            return "".join(loads(row)["text"] for row in rows) or None
        except DatabaseDamaged:
            return None  # a task whose text is damaged must end all the same

    async def close(self) -> None:
        self._timers.close()
        for step in self._steps:
            step.cancel()
        await asyncio.gather(*self._steps, return_exceptions=True)

    def _watch(self, task: Task) -> None:
        """Set the alarm for the end of the task's wait."""
        if (allowance := self.deadlines.of(task)) is not None:
            left = allowance.until - asyncio.get_running_loop().time()
            last = "" if allowance.fault is None else f"; the last one failed: {allowance.fault}"
            error = TaskTimeout(f"the task's time ran out while it waited for its next try{last}")
            given_up = allowance.refusal or error
            self._timers.after(task.id, left, partial(self._time_is_up, task, given_up))
            return
        left, call = self._ttl_left(task), self._expire
        if (limit := task.request.timeout_s) is not None:
            now = asyncio.get_running_loop().time()
            since = self._since.setdefault(task.id, now)
            sooner = limit - self._rested(task, since)
            # After a rest that is over, the next that counts is as long as the limit, or nearly.
            sooner = max(sooner, LEAST_S) if sooner > 0 else max(limit, MOMENT_S)
            if sooner < left:
                left, call = sooner, self._look
        self._timers.after(task.request.id, left, call)

    def _ttl_left(self, task: Task) -> float:
        # One that has started before waits anew. By duration: a clock that is set ends no wait.
        since = task.queued_at if task.started_at is None else task.updated_at
        waited = (self._journal.now() - since) / 1000
        ttl = self._settings.queue.ttl_s
        return ttl - waited if waited > 0 else ttl

    def _rested(self, task: Task, since: float) -> float:
        return self.scheduler.rested(task, since, self._exclusions.get(task.id))

    def _time_is_up(self, task: Task, error: ProviderError, _: str) -> None:
        """It has waited too long for its next try; but not for a model that somebody holds."""
        if self.scheduler.held(task, self._exclusions.get(task.id)):
            self.deadlines.drop(task)
            self._watch(task)
        else:
            self._later(self._fail(task.id, error))

    def _expire(self, task_id: str) -> None:
        ttl = self._settings.queue.ttl_s
        self._later(
            self._fail(task_id, Expired(f"the task waited longer than {ttl:g} s for its turn"))
        )

    def _look(self, task_id: str) -> None:
        """End the wait of a task that has a time of its own, or look again later.

        The time of a task begins with its start. What the refusal of a provider costs before
        that counts as well: the submitter of a task with a time is answered within that time.
        """
        task = self._journal.live.get(task_id)
        if task is None or task.state is not State.PENDING:
            return
        limit, since = task.request.timeout_s, self._since.get(task_id)
        if limit is not None and since is not None and self._rested(task, since) >= limit:
            refusal = self.scheduler.refusal(task, self._exclusions.get(task_id))
            if refusal is not None:
                self._later(self._fail(task_id, refusal))
                return
        self._watch(task)

    def _later(self, step: Coroutine[Any, Any, None]) -> None:
        running = asyncio.ensure_future(step)
        self._steps.add(running)
        running.add_done_callback(self._steps.discard)

    async def _become(self, task_id: str, cause: Cause) -> None:
        """The alarm rang: move a scheduled task on."""
        task = await self._move(task_id, status(cause, State.SCHEDULED), State.SCHEDULED)
        if task is not None:
            self.admit(task)

    async def _fail(self, task_id: str, error: ProviderError) -> None:
        """The alarm rang: the task's patience is at an end."""
        closing = status(Cause.FAILED, State.PENDING, error=error.as_dict())
        task = await self._move(task_id, closing, State.PENDING)
        if task is not None:
            self.done(task)

    async def _answer(self, task: Task, answer: Answer) -> None:
        """The answer is known: the task has it without a call."""
        finished = await self._append(answer.replay(task))
        if finished is not None:
            self.cache.hits += 1
            self.done(finished)

    async def _move(self, task_id: str, draft: Draft, source: State) -> Task | None:
        """Append it with what the task has said; None where somebody was faster."""
        while True:
            try:
                task = await self._journal.task(task_id)
                ends = draft.data["status"] in FINISHED
                result = await self.said(task) if ends else None
            except TaskNotFound:
                return None
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)
                continue
            return await self._append(Change(task_id, [draft], result=result, source=source))

    async def _append(self, change: Change) -> Task | None:
        """Append it, however long the disk takes to come back; None where somebody was faster."""
        while True:
            try:
                return (await self._journal.append(change))[0]
            except (IllegalTransition, TaskNotFound):
                return None
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)
