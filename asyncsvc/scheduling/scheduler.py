"""The scheduler: where each task waits that neither runs nor is finished, and for how long.

A pending task waits in a lane, behind the head of its session, or in a single-flight group; a
scheduled task waits for its alarm. A task whose answer is in the cache gets the answer without
a call, and a task whose time is over before a worker claims it fails. Lanes, sessions, groups,
timers and the dispatcher are parts that know nothing of the scheduler; what they conclude comes
back as return values.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

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
from asyncsvc.journal.journal import Change
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.cache import Answer, Cache
from asyncsvc.scheduling.candidates import AccountSlot, Claim, Exclusions
from asyncsvc.scheduling.dispatcher import Dispatcher
from asyncsvc.scheduling.groups import Join, LeaderChange, Sessions, SingleFlight
from asyncsvc.scheduling.steps import Steps
from asyncsvc.scheduling.task_log import TaskLog
from asyncsvc.scheduling.timers import Deadlines, Timers, cooldown_s
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import FINISHED, Cause, Draft, Request, State, Task, status

STORAGE_PAUSE_S = 1.0
"""Between two tries to write while the disk refuses writes."""
CHECK_LEAST_S = 0.05
"""At least so long between two checks of a task whose time is nearly over."""
CHECK_AGAIN_S = 1.0
"""At least so long between two checks of a task whose time is over while some model is open."""
ALARMS_AT_ONCE = 500
"""Alarms that are set in one step of the loop; about 5 ms."""


class Scheduler:
    """`enqueue` a task, `remove` one that stops waiting, `finish` one that has ended; workers
    `claim`; an executor brackets each call by `start_call` and `finish_call`."""

    def __init__(
        self,
        journal: TaskLog,
        dispatcher: Dispatcher,
        timers: Timers,
        settings: Settings,
        cache: Cache,
    ) -> None:
        self.dispatcher = dispatcher
        self._chooser = dispatcher.chooser
        self.cache = cache
        self.sessions = Sessions()
        self.deadlines = Deadlines(settings)
        self._single_flight = SingleFlight()
        self._journal = journal
        self._timers = timers
        self._settings = settings
        self._exclusions: dict[str, Exclusions] = {}
        self._since: dict[str, float] = {}
        """Since when each task with a `timeout_s` waits, by the loop's clock."""
        self._steps = Steps()

    def __len__(self) -> int:
        """The number of tasks in the lanes."""
        return len(self.dispatcher)

    # Workers ------------------------------------------------------------------------------------

    @property
    def account_slots(self) -> tuple[AccountSlot, ...]:
        return self.dispatcher.account_slots

    def claim(self, slot: AccountSlot, permit: Permit) -> Awaitable[Claim | None]:
        """Wait for the next task for a worker that holds the permit; see `Dispatcher.claim`."""
        return self.dispatcher.claim(slot, permit)

    def next_call(self, task: Task, upstream: Upstream, tokens: int) -> Awaitable[Permit]:
        """Wait for a permit for one more call of a running task; see `Dispatcher.next_call`."""
        return self.dispatcher.next_call(upstream, task.request.lane == "long", tokens)

    def match(self) -> None:
        """Look again for tasks that can start: a limit outside the scheduler has changed."""
        self.dispatcher.match()

    def stop(self) -> None:
        """Hand out no further task."""
        self.dispatcher.stop()

    # Views --------------------------------------------------------------------------------------

    def depth(self, name: str) -> int:
        """The number of tasks in the lanes that the model of that name could serve."""
        return self.dispatcher.depth(name)

    def explain(self, request: Request, at: int) -> dict[str, Any]:
        """The routing decision and each candidate for a task that came at `at` (ms)."""
        return self.dispatcher.explain(request, at)

    def waited(self, task: Task) -> dict[str, float]:
        """Seconds that a pending task has waited so far, by wait reason."""
        gates = [slot.gate for slot in self.dispatcher.candidates(task.request)]
        return self.dispatcher.waits.so_far(task.id, gates)

    # A task's way -------------------------------------------------------------------------------

    def enqueue(self, task: Task, delay_s: float | None = None) -> None:
        """Let the task wait as its state demands. `delay_s`: seconds until a scheduled task is
        due, where they are known more exactly than by the wall clock."""
        session, is_head = task.request.session, True
        if session is not None:
            is_head = self.sessions.enter(session, task.id)
        if task.state is State.SCHEDULED:
            self._change_leader(self._single_flight.leave(task))
            self._set_alarm(task, delay_s)
        elif task.state is State.PENDING:
            self._limit_wait(task)
            if not is_head:
                self.dispatcher.waits.behind(task.id)
            elif task.request.cache_key is None:
                self._enter_lane(task)
            else:
                self._answer_or_group(task)

    def _answer_or_group(self, task: Task) -> None:
        """Answer the task from the cache, or let it wait with equal tasks for a call."""
        key = self.cache.key(task)
        if key is None:
            self._enter_lane(task)
            return
        # A task that is retried by hand is to get a new answer.
        again = task.starts > 0 and task.started_at is None
        answer = None if again else self.cache.get(key)
        if answer is None:
            self._change_leader(self._single_flight.enter(key, task))
        else:
            self._change_leader(self._single_flight.leave(task))
            self._steps.start(self._answer(task, answer))

    def _change_leader(self, change: LeaderChange) -> None:
        if change.leave is not None:
            self.dispatcher.leave(change.leave)
        if change.enter is not None:
            self._enter_lane(change.enter)

    def _enter_lane(self, task: Task) -> None:
        task_id = task.request.id
        exclusions = self._exclusions.get(task_id) if self._exclusions else None
        self.dispatcher.waits.queued(task_id)
        if (fault := self.dispatcher.enter(task, exclusions)) is not None:
            self._steps.start(self._fail(task_id, fault))

    def start_call(self, task: Task, join: Join) -> list[Task]:
        """Begin the task's call: returns all tasks that share the call, the task first; an empty
        list where an equal call is under way. `join` adds a task that comes later."""
        sharing = self._single_flight.start(self.cache.key(task), task, join)
        for each in sharing:
            self.dispatcher.leave(each)
        return sharing

    def finish_call(self, task: Task) -> None:
        """The task's call is over and recorded: tasks that came too late to join it are next."""
        for late in self._single_flight.finish(task):
            self.enqueue(late)

    def start(self, task: Task) -> float:
        """The task starts: returns its deadline by the loop's clock, retries included."""
        self._timers.clear(task.id)
        self._since.pop(task.id, None)
        return self.deadlines.begin(task)

    def remove(self, task: Task) -> None:
        """The task is paused or ends: it waits no longer, but keeps its place in its session."""
        self._timers.clear(task.id)
        self._since.pop(task.id, None)
        self.dispatcher.leave(task)
        self._change_leader(self._single_flight.leave(task))

    def finish(self, task: Task) -> None:
        """The task is finished: the task behind it in its session is next."""
        self.remove(task)
        self.deadlines.drop(task)
        self._exclusions.pop(task.id, None)
        session = task.request.session
        head = self.sessions.leave(session, task.id) if session is not None else None
        if head is not None and (next_task := self._journal.live.get(head)) is not None:
            self.enqueue(next_task)

    def exclude(self, task: Task, upstream: Upstream, fault: ProviderError) -> bool:
        """Do not call that account again for the task; whether another account is left."""
        exclusions = self._exclusions.setdefault(task.id, Exclusions())
        if isinstance(fault, ContextTooLong):
            exclusions.context = max(exclusions.context, upstream.settings.context)
        else:
            (exclusions.failed if fault.again else exclusions.refused).add(upstream.gate.name)
        return self._chooser.has_account(task.request, exclusions)

    # Settings and gates -------------------------------------------------------------------------

    def apply(self, account_slots: Sequence[AccountSlot], ttl_changed: bool) -> None:
        """Use other account slots and settings from now on; waiting tasks choose again among
        all models, whatever excluded some before."""
        self._exclusions.clear()
        live, settings = self._journal.live, self._settings
        self.dispatcher.apply(account_slots, settings.routing.balance, settings.queue.weights, live)
        if ttl_changed:
            self._steps.start(self._limit_waits(list(live)))

    def account_closed(self, account: AccountLimiter) -> None:
        """The account takes no calls: fail the tasks for which no account is left."""
        for task_id, fault in self.dispatcher.closed(account):
            self._steps.start(self._fail(task_id, fault))

    async def close(self) -> None:
        """Cancel all alarms and steps under way."""
        self._timers.close()
        await self._steps.close()

    # Alarms -------------------------------------------------------------------------------------

    def _set_alarm(self, task: Task, delay_s: float | None) -> None:
        """Set the alarm for the moment at which a scheduled task is due."""

        def due(task_id: str) -> None:
            self._steps.start(self._due(task_id))

        due_at, request = task.next_run_at or 0, task.request
        if delay_s is not None:
            self._timers.after(task.id, delay_s, due)
        elif due_at == request.run_at and not request.delayed:
            self._timers.at(task.id, due_at, due)
        else:
            left = left_ms(due_at, task.updated_at, self._journal.now())
            self._timers.after(task.id, left / 1000, due)

    async def _limit_waits(self, task_ids: list[str]) -> None:
        """Set the alarms of pending tasks again, a few in each step of the loop: thousands at
        once would hold up all else, and none of them is due so soon."""
        for number, task_id in enumerate(task_ids, 1):
            task = self._journal.live.get(task_id)
            if task is not None and task.state is State.PENDING and not self.deadlines.of(task):
                self._limit_wait(task)
            if number % ALARMS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _limit_wait(self, task: Task) -> None:
        """Set the alarm for the end of a pending task's wait."""
        if (deadline := self.deadlines.of(task)) is not None:
            left = deadline.until - asyncio.get_running_loop().time()
            last = "" if deadline.fault is None else f"; the last one failed: {deadline.fault}"
            timeout = TaskTimeout(f"the task's time ran out while it waited for its next try{last}")
            error = deadline.refusal or timeout
            self._timers.after(task.id, left, partial(self._deadline_over, task, error))
            return
        left, call = self._ttl_left(task), self._expire
        if (limit := task.request.timeout_s) is not None:
            now = asyncio.get_running_loop().time()
            since = self._since.setdefault(task.id, now)
            sooner = limit - self._provider_wait_s(task, since)
            # After a cooldown that is over, the next one that counts is as long as the limit.
            sooner = max(sooner, CHECK_LEAST_S) if sooner > 0 else max(limit, CHECK_AGAIN_S)
            if sooner < left:
                left, call = sooner, self._check_timeout
        self._timers.after(task.request.id, left, call)

    def _ttl_left(self, task: Task) -> float:
        # A task that has started before waits anew. By duration: a clock that is set ends no wait.
        since = task.queued_at if task.started_at is None else task.updated_at
        waited = (self._journal.now() - since) / 1000
        ttl = self._settings.queue.ttl_s
        return ttl - waited if waited > 0 else ttl

    def _provider_wait_s(self, task: Task, since: float) -> float:
        """Seconds since then in which the task has waited for providers' cooldowns alone."""
        exclusions = self._exclusions.get(task.id)
        return cooldown_s(since, self._chooser.open_gates(task.request, exclusions))

    def _deadline_over(self, task: Task, error: ProviderError, _: str) -> None:
        """Fail a task that waited too long for its next try, unless its models are paused."""
        if self._chooser.all_paused(task.request, self._exclusions.get(task.id)):
            self.deadlines.drop(task)
            self._limit_wait(task)
        else:
            self._steps.start(self._fail(task.id, error))

    def _expire(self, task_id: str) -> None:
        ttl = self._settings.queue.ttl_s
        error = Expired(f"the task waited longer than {ttl:g} s for its turn")
        self._steps.start(self._fail(task_id, error))

    def _check_timeout(self, task_id: str) -> None:
        """Fail a task with a `timeout_s` that providers' refusals have used up, or check later.

        The time of a task begins with its start. What the refusal of a provider costs before
        that counts as well: the submitter of a task with a time is answered within that time.
        """
        task = self._journal.live.get(task_id)
        if task is None or task.state is not State.PENDING:
            return
        limit, since = task.request.timeout_s, self._since.get(task_id)
        if limit is not None and since is not None and self._provider_wait_s(task, since) >= limit:
            refusal = self._chooser.refusal(task.request, self._exclusions.get(task_id))
            if refusal is not None:
                self._steps.start(self._fail(task_id, refusal))
                return
        self._limit_wait(task)

    # Steps that write ---------------------------------------------------------------------------

    async def _due(self, task_id: str) -> None:
        """Queue a scheduled task."""
        due = status(Cause.DUE, State.SCHEDULED)
        task = await _move(self._journal, task_id, due, State.SCHEDULED)
        if task is not None:
            self.enqueue(task)

    async def _fail(self, task_id: str, error: ProviderError) -> None:
        """End a pending task with an error."""
        closing = status(Cause.FAILED, State.PENDING, error=error.as_dict())
        task = await _move(self._journal, task_id, closing, State.PENDING)
        if task is not None:
            self.finish(task)

    async def _answer(self, task: Task, answer: Answer) -> None:
        """Complete a pending task with an answer from the cache."""
        finished = await _append(self._journal, answer.replay(task))
        if finished is not None:
            self.cache.hits += 1
            self.finish(finished)


async def text_so_far(journal: TaskLog, task: Task) -> str | None:
    """The text of the task's last attempt: its result, if it ends while it does not run."""
    try:
        rows = await journal.store.since_attempt(task.n) if task.starts else []
        return "".join(loads(row)["text"] for row in rows) or None
    except DatabaseDamaged:
        return None  # a task whose text is damaged must end all the same


async def _move(journal: TaskLog, task_id: str, draft: Draft, source: State) -> Task | None:
    """Append a transition; None where the task has left that state meanwhile."""
    while True:
        try:
            task = await journal.task(task_id)
            ends = draft.data["status"] in FINISHED
            result = await text_so_far(journal, task) if ends else None
        except TaskNotFound:
            return None
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_PAUSE_S)
            continue
        return await _append(journal, Change(task_id, [draft], result=result, source=source))


async def _append(journal: TaskLog, change: Change) -> Task | None:
    """Append a change, however long the disk refuses; None where the task has moved on."""
    while True:
        try:
            return (await journal.append(change))[0]
        except (IllegalTransition, TaskNotFound):
            return None
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_PAUSE_S)
