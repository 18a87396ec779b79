"""The executor: runs a call for all tasks that share it, from a permit to the recorded outcomes.

The starts are on the disk before the request is sent. Only the executor ends a running task, each
with an explicit outcome, never one guessed from a CancelledError. A call goes on while an
execution shares it and is cancelled when the last one leaves. The closing events are written
however long the disk takes to come back: text first and closing event last, in one append, with
the answer for the cache. No error, the service's own included, leaves a task without a next step.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from asyncsvc.clock import rfc3339
from asyncsvc.config.settings import Settings
from asyncsvc.errors import (
    DatabaseDamaged,
    EmptyAnswer,
    IllegalTransition,
    InternalError,
    ProviderError,
    StorageUnavailable,
    TaskNotFound,
    Unexplained,
)
from asyncsvc.execution.call import Call, CallState, ChunkWriter, Execution
from asyncsvc.execution.outcome import (
    Completed,
    Deferred,
    Dropped,
    Failed,
    Outcome,
    Retried,
    Stopped,
    after_fault,
)
from asyncsvc.execution.recovery import Recovery
from asyncsvc.execution.request import request
from asyncsvc.journal.journal import Change, Journal, PersistedValue
from asyncsvc.limits.account import Permit
from asyncsvc.providers.client import Client
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.cache import Answer
from asyncsvc.scheduling.scheduler import Scheduler, text_so_far
from asyncsvc.scheduling.steps import Steps
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import FINISHED, Cause, Draft, EventType, State, Task, status

log = logging.getLogger(__name__)


STORAGE_PAUSE_S = 0.5


class Recorder:
    """`write` an outcome, then `settle` the task; `abandon` a task whose worker failed."""

    def __init__(self, journal: Journal, scheduler: Scheduler, settings: Settings) -> None:
        self._journal = journal
        self._scheduler = scheduler
        self._settings = settings

    async def write(self, execution: Execution, outcome: Outcome, keep: bool) -> Task | None:
        """Append the closing events; the task as they leave it, None where there is nothing
        to record, or the next process will record it.

        `keep`: of all executions that share the answer, this one writes it into the cache.
        """
        if isinstance(outcome, Dropped):
            return None
        entries = self._cache_entries(execution, outcome) if keep else []
        while True:
            try:
                await execution.settled()
                if isinstance(outcome, Deferred) and self._state(execution) is State.PENDING:
                    return self._journal.live.get(execution.task.id)  # it never began
                change = self._closing(execution, outcome, await self._text(execution))
                task = (await self._journal.append(change, *entries))[0]
            except StorageUnavailable:
                execution.reported.set()
                if self._journal.closing:
                    return None  # the next process finds it running and takes it up again
                await asyncio.sleep(STORAGE_PAUSE_S)
                continue
            except (IllegalTransition, TaskNotFound):
                return self._journal.live.get(execution.task.id)
            self._scheduler.cache.keep(entries)
            return task

    def settle(self, task: Task, outcome: Outcome | None) -> None:
        """Let the recorded task wait where its state demands, or be done."""
        if task.finished:
            self._scheduler.finish(task)
            return
        if isinstance(outcome, Retried | Deferred):
            self._scheduler.deadlines.record_error(task, outcome.error)
        elif isinstance(outcome, Stopped):
            self._scheduler.deadlines.drop(task)  # by no fault of its own
        delay = outcome.delay_s if isinstance(outcome, Retried) else None
        self._scheduler.enqueue(task, delay)

    async def abandon(self, task: Task) -> None:
        """Let a task be tried again whose worker raised an exception, which is our fault."""
        drafts = self._abandonment(task)
        result = await text_so_far(self._journal, task) if _ends(drafts) else None
        change = Change(task.id, drafts, result=result, source=task.state)
        self.settle((await self._journal.append(change))[0], None)

    def _abandonment(self, task: Task) -> list[Draft]:
        """The events of such a try. It counts as an attempt, or a task that makes its workers
        raise would do so for ever."""
        error = InternalError("a worker died over this task")
        drafts = [] if task.state is State.RUNNING else [status(Cause.STARTED, task.state)]
        allowed = task.request.max_retries
        allowed = self._settings.retry.max_retries if allowed is None else allowed
        if task.tries + len(drafts) > allowed:
            return [*drafts, status(Cause.FAILED, State.RUNNING, error=error.as_dict())]
        attempt = task.attempts + len(drafts)
        return drafts + self._retry_drafts(error, attempt, self._settings.retry.base_s)

    def _cache_entries(self, execution: Execution, outcome: Outcome) -> list[PersistedValue]:
        """The cache's entries; only for whole answers that are nothing but text."""
        cache, call = self._scheduler.cache, execution.call
        key = cache.key(execution.task)
        if key is None or not isinstance(outcome, Completed):
            return []
        if outcome.tool_calls or not outcome.result:
            return []
        if not cache.worth(execution.task, call.upstream):
            return []
        facts = _facts(outcome) | {"model": call.model_id, "name": call.upstream.name}
        return cache.entries(key, Answer.of_call(call.received, outcome.result, facts).text())

    async def _text(self, execution: Execution) -> str | None:
        """The task's text: of this attempt, or of the one before where this one never began."""
        if self._state(execution) is State.RUNNING:
            return execution.chunk_writer.text or None
        return await text_so_far(self._journal, execution.task)

    def _state(self, execution: Execution) -> State:
        return self._journal.live.get(execution.task.id, execution.task).state

    def _closing(self, execution: Execution, outcome: Outcome, text: str | None) -> Change:
        state, call = self._state(execution), execution.call
        now = asyncio.get_running_loop().time()
        latency = round(now - execution.started, 3)
        drafts = execution.chunk_writer.rest() if state is State.RUNNING else []
        facts: dict[str, Any] = {"latency": latency}
        match outcome:
            case Completed():
                facts |= _facts(outcome) | {"model": call.model_id, "name": call.upstream.name}
                drafts.append(status(Cause.COMPLETED, state, error=None, **facts))
            case Failed(error=error):
                drafts.append(status(Cause.FAILED, state, error=error.as_dict(), **facts))
            case Retried(error=error, delay_s=delay):
                if state is State.PENDING:  # a fault before the start costs an attempt too
                    drafts.append(status(Cause.STARTED, state))
                drafts += self._retry_drafts(error, execution.task.attempts + 1, delay)
            case Deferred(error=error):
                drafts.append(self._why(error, execution.task.attempts + 1, None))
                drafts.append(status(Cause.DEFERRED, state))
            case Stopped(cause=cause):
                if not call.open:  # else the call goes on for others
                    facts["closed_ms"] = round((now - execution.left_at) * 1000)
                drafts.append(status(cause, state, **facts))
            case Dropped():
                raise AssertionError("a dropped execution has nothing to record")
        result = outcome.result or None if isinstance(outcome, Completed) else text
        epoch = execution.epoch if state is State.RUNNING else None
        result = result if _ends(drafts) else None
        return Change(execution.task.id, drafts, result=result, epoch=epoch)

    def _retry_drafts(self, error: ProviderError, attempt: int, delay: float) -> list[Draft]:
        when = self._journal.now() + round(delay * 1000)
        return [
            self._why(error, attempt, delay),
            status(Cause.RETRYING, State.RUNNING, next_run_at=when),
        ]

    def _why(self, error: ProviderError, attempt: int, delay: float | None) -> Draft:
        data: dict[str, Any] = {"why": error.as_dict(), "attempt": attempt, "delay_s": delay}
        if delay is not None:
            data["when"] = rfc3339(self._journal.now() + round(delay * 1000))
        return Draft(EventType.RETRY, data)


def _facts(outcome: Completed) -> dict[str, Any]:
    """How the answer ended, for its closing event."""
    return {
        "usage": outcome.usage,
        "finish_reason": outcome.finish_reason,
        "finish_reason_raw": outcome.finish_reason_raw,
    }


def _ends(drafts: Sequence[Draft]) -> bool:
    return drafts[-1].data["status"] in FINISHED


class Executor:
    """`run` a task for a worker, `stop` a task that runs."""

    def __init__(
        self, journal: Journal, client: Client, scheduler: Scheduler, settings: Settings
    ) -> None:
        self.executions: dict[str, Execution] = {}
        """The executions under way, by task id."""
        self.stopping = False
        self._journal = journal
        self._client = client
        self._scheduler = scheduler
        self._settings = settings
        self._recovery = Recovery(journal, client)
        self._recorder = Recorder(journal, scheduler, settings)
        self._steps = Steps()

    # The pipeline: prepare → start → request → recover → outcome → finish ----------------------

    async def run(
        self, task_id: str, upstream: Upstream, permit: Permit, route: dict[str, Any]
    ) -> None:
        """Run the task if it is still pending, with all tasks that share its call, and record
        the outcome of each; `route` says why this upstream was chosen."""
        task = self._journal.live.get(task_id)
        if task is None or task.state is not State.PENDING or task_id in self.executions:
            return
        if self.stopping:
            return  # found while the service stops: the next process takes it up
        now = asyncio.get_running_loop().time()
        call = Call(task, upstream, permit, upstream.model_id, now, route)
        sharing = self._scheduler.start_call(task, lambda late: self._join(call, late))
        if not sharing:
            return  # an equal call is under way, and the task waits for it
        for each in sharing:
            self._join(call, each)
        try:
            ending = await call.make(self._attempt(call))
            call.report(ending)
            permit.release()  # the connection is closed: the next call need not wait for the disk
            await self._finish_all(call, ending)
        except Exception:
            for other in call.executions.keys() - {task_id}:
                self._steps.start(self.abandoned(other))
            raise
        finally:
            call.close()
            for execution in list(call.executions.values()):
                self._remove(execution)
            self._scheduler.finish_call(task)

    async def _attempt(self, call: Call) -> Outcome | ProviderError:
        """Everything between the permit and its end; raises only CancelledError."""
        try:
            body = loads(await self._journal.body(call.leader))
            call.warnings = call.upstream.warnings(body["params"])
            resumed = await self._recovery.prepare(call)
            call.permit.confirm()  # nothing is written yet: the cheapest moment for a refusal
            await self._start(call)
            self._sent(call)
            found = await self._recovery.resume(call) if resumed else None
            if found is not None:
                return found
            try:
                return await request(self._client, self._journal, call, body)
            except ProviderError as fault:
                found = await self._recovery.after_cut(call, fault)
                if found is None:
                    raise
                return found
        except Exception as fault:
            return await self._ending(call, fault)

    async def _start(self, call: Call) -> None:
        """Write the starts of all executions. The request counts once, in the leader's."""
        call.move(CallState.STARTED)
        counted = call.upstream.gate.name if call.upstream.settings.counted else None
        executions = list(call.executions.values())
        for execution in executions:
            self._append_start(execution, counted if execution is executions[0] else None)
        starts = [asyncio.shield(each.start) for each in executions if each.start is not None]
        found = await asyncio.gather(*starts, return_exceptions=True)
        for execution, result in zip(executions, found, strict=True):
            if isinstance(result, IllegalTransition | TaskNotFound) and len(call.executions) > 1:
                self._leave(execution, Dropped(result))
            elif isinstance(result, BaseException) and execution.outcome is None:
                raise result
        if counted is not None and isinstance(found[0], BaseException):
            other = next(iter(call.executions))  # the leader is gone, and its record with it
            tokens = call.leader.request.tokens
            await asyncio.shield(
                self._journal.append(Change(other, [], call=counted, tokens=tokens))
            )

    def _append_start(self, execution: Execution, counted: str | None) -> None:
        task = execution.task
        drafts = [status(Cause.STARTED, State.PENDING), execution.call.attempt(task)]
        tokens = task.request.tokens
        change = Change(task.id, drafts, call=counted, tokens=tokens, source=State.PENDING)
        execution.begin(self._journal.append(change))

    def _sent(self, call: Call) -> None:
        """The starts are on the disk: the request may go out. Raises GateClosed."""
        call.permit.confirm()
        call.started = asyncio.get_running_loop().time()
        call.permit.sent()
        call.alive()
        self._scheduler.cache.misses += self._scheduler.cache.key(call.leader) is not None

    async def _ending(self, call: Call, fault: Exception) -> Outcome | ProviderError:
        """What an exception in an attempt means for the call."""
        match fault:
            case IllegalTransition() | TaskNotFound():
                return Dropped(fault)
            case ProviderError():
                return fault.bare()
            case DatabaseDamaged() | MemoryError():  # may happen again: it counts as an attempt
                return InternalError(str(fault) or "there was no memory left for this call")
            case StorageUnavailable():
                # The text cannot be stored; when the disk is back, the call is made again. The
                # pause keeps a full disk from turning this into a busy loop.
                await asyncio.sleep(STORAGE_PAUSE_S)
                return Stopped(Cause.INTERRUPTED)
            case _:
                log.error("a fault of ours while running task %s", call.leader.id, exc_info=fault)
                return InternalError(f"a fault of ours: {type(fault).__name__}")

    async def _finish_all(self, call: Call, ending: Outcome | ProviderError) -> None:
        """Record each execution's own outcome; tasks with as many attempts behind them get the
        same delay, so that they share the next call too."""
        delays: dict[int, float] = {}
        steps: list[Coroutine[Any, Any, None]] = []
        for execution in call.executions.values():
            outcome = execution.outcome or ending
            if isinstance(outcome, ProviderError):
                outcome = self._after_fault(execution, outcome)
            if isinstance(outcome, Retried):
                if outcome.error.trips or isinstance(outcome.error, EmptyAnswer | Unexplained):
                    self._scheduler.exclude(execution.task, call.upstream, outcome.error)
                delay = delays.setdefault(execution.task.tries, outcome.delay_s)
                if delay < execution.deadline - asyncio.get_running_loop().time():
                    outcome = replace(outcome, delay_s=delay)
            steps.append(self._finish(execution, outcome, not steps))
        for failure in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    async def _finish(self, execution: Execution, outcome: Outcome, keep: bool = False) -> None:
        """Record the outcome, then let the task wait for its next step or be done. `keep`: this
        execution writes the answer into the cache."""
        task = execution.recorded = await self._recorder.write(execution, outcome, keep)
        self._remove(execution)
        if task is not None:
            self._recorder.settle(task, outcome)

    def _after_fault(self, execution: Execution, error: ProviderError) -> Outcome:
        call, left_s = execution.call, execution.deadline - asyncio.get_running_loop().time()
        return after_fault(
            error,
            execution.task,
            call.upstream,
            call.model_id,
            begun=call.begun,
            left_s=left_s,
            retry=self._settings.retry,
            elsewhere=lambda: self._scheduler.exclude(execution.task, call.upstream, error),
        )

    # Stopping ---------------------------------------------------------------------------------

    async def stop(self, task_id: str, cause: Cause) -> Task | None:
        """End a task's execution and wait until that is recorded; the task as the record left
        it, None where there is no execution or it left none. Raises StorageUnavailable where the
        disk refuses: the call is cancelled all the same."""
        execution = self.executions.get(task_id)
        if execution is None:
            return None
        self._leave(execution, Stopped(cause))
        await execution.until_recorded()
        return execution.recorded

    def cut(self, call: Call, error: ProviderError) -> None:
        """End a call, for all executions, as if it had ended with that error."""
        for execution in list(call.executions.values()):
            self._leave(execution, self._after_fault(execution, error))

    def time_is_up(self, execution: Execution) -> None:
        """End an execution whose deadline has passed."""
        error = self._scheduler.deadlines.over(execution.task, execution.call.begun)
        outcome = Failed(error) if error.slow_down else self._after_fault(execution, error)
        self._leave(execution, outcome)

    async def interrupt_all(self) -> None:
        """Make every running task pending again, as far as it can be taken up; start no more."""
        self.stopping = True
        executions = list(self.executions.values())
        for execution in executions:
            self._leave(execution, Stopped(Cause.INTERRUPTED))
        await asyncio.gather(*(execution.ended.wait() for execution in executions))

    async def abandoned(self, task_id: str) -> None:
        """Let a task be tried again whose worker raised an exception."""
        while (task := self._journal.live.get(task_id)) and task_id not in self.executions:
            try:
                await self._recorder.abandon(task)
                return
            except (IllegalTransition, TaskNotFound):
                return
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)

    async def close(self) -> None:
        """Cancel what is still being recorded; a restart finds it."""
        await self._steps.close()

    # Which executions share a call ------------------------------------------------------------

    def _join(self, call: Call, task: Task) -> bool:
        """Let the task share the call; False where it is too late for that."""
        if self.stopping or not call.open:
            return False
        loop = asyncio.get_running_loop()
        chunk_writer, deadline = ChunkWriter(self._journal, task), self._scheduler.start(task)
        execution = Execution(call, task, chunk_writer, loop.time(), deadline)
        execution.alarm = loop.call_at(deadline, self.time_is_up, execution)
        self.executions[task.id] = call.executions[task.id] = execution
        if call.state is not CallState.PREPARED:
            self._append_start(execution, None)
            self._steps.start(self._joined(execution))
        self._scheduler.cache.shared += task.id != call.leader.id
        return True

    async def _joined(self, execution: Execution) -> None:
        """Wait for the start of an execution that joined late; it fails for its task alone."""
        assert execution.start is not None
        try:
            await asyncio.shield(execution.start)
        except (IllegalTransition, TaskNotFound) as reason:
            self._leave(execution, Dropped(reason))
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_PAUSE_S)
            self._leave(execution, Stopped(Cause.INTERRUPTED))

    def _leave(self, execution: Execution, outcome: Outcome) -> None:
        """End the execution with that outcome; the call goes on while others share it."""
        call = execution.call
        if execution.outcome is not None or not call.open:
            return
        execution.outcome, execution.left_at = outcome, asyncio.get_running_loop().time()
        if len(call.executions) > 1:
            del call.executions[execution.task.id]
            self._steps.start(self._finish(execution, outcome))
        else:
            call.cancel()

    def _remove(self, execution: Execution) -> None:
        """The execution is over."""
        for shared in (self.executions, execution.call.executions):
            if shared.get(execution.task.id) is execution:  # it may have joined anew
                del shared[execution.task.id]
        execution.end()
