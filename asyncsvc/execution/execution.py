"""The executor: runs a call for all tasks that share it, from a permit to the recorded outcomes.

The starts are on the disk before the request is sent. Only the executor ends a running task, each
with an explicit outcome, never one guessed from a CancelledError. A call goes on while an
execution shares it and is cancelled when the last one leaves. The closing events are written
however long the disk takes to come back (`recorder`). No error, the service's own included, leaves
a task without a next step.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

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
from asyncsvc.execution.agent import Agents
from asyncsvc.execution.call import Call, CallState, ChunkWriter, Execution
from asyncsvc.execution.large_bodies import LargeBodies
from asyncsvc.execution.outcome import (
    Dropped,
    Failed,
    Outcome,
    Retried,
    Stopped,
    after_fault,
)
from asyncsvc.execution.recorder import STORAGE_PAUSE_S, Recorder
from asyncsvc.execution.recovery import Recovery
from asyncsvc.execution.request import outgoing, request
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.large_work import LargeWork
from asyncsvc.limits.account import Permit
from asyncsvc.providers.client import Client
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.scheduling.steps import Steps
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import Cause, State, Task, status

log = logging.getLogger(__name__)


class Executor:
    """`run` a task for a worker, `stop` a task that runs."""

    def __init__(
        self,
        journal: Journal,
        client: Client,
        scheduler: Scheduler,
        settings: Settings,
        agents: Agents,
        large_work: LargeWork,
    ) -> None:
        self.executions: dict[str, Execution] = {}
        """The executions under way, by task id."""
        self.stopping = False
        self._journal = journal
        self._client = client
        self._scheduler = scheduler
        self._settings = settings
        self._agents = agents
        self._recovery = Recovery(journal, client)
        self._recorder = Recorder(journal, scheduler, settings)
        self._steps = Steps()
        self._large_bodies = LargeBodies(journal, settings, large_work)

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
        tracing = self._settings.otel.endpoint != ""
        if tracing or task.request.traceparent is not None:
            call.trace = outgoing(task, tracing)
        sharing = self._scheduler.start_call(task, lambda late: self._join(call, late))
        if not sharing:
            return  # an equal call is under way, and the task waits for it
        for each in sharing:
            self._join(call, each)
        if task.request.type == "agent":
            # Its worker is needed for other calls while the agent's tools run.
            self._steps.start(self._carry_beside(call))
            await permit.until_released()
        else:
            await self._carry(call)

    async def _carry(self, call: Call) -> None:
        """Make the call and record the outcome of each task that shares it."""
        task = call.leader
        try:
            ending = await call.make(self._attempt(call))
            call.report(ending)
            call.permit.release()  # the connection is closed: the next call waits for no disk
            await self._finish_all(call, ending)
        except Exception:
            for other in call.executions.keys() - {task.id}:
                self._steps.start(self.abandoned(other))
            raise
        finally:
            call.close()
            for execution in list(call.executions.values()):
                self._remove(execution)
            self._scheduler.finish_call(task)

    async def _carry_beside(self, call: Call) -> None:
        """The same for an agent, whose worker does not wait for the end."""
        try:
            await self._carry(call)
        except Exception:
            task_id = call.leader.id
            text = "the execution of agent %s failed; it is tried again"
            log.exception(text, task_id, extra={"task_id": task_id})
            await self.abandoned(call.leader.id)
        finally:
            call.permit.release()
            self._scheduler.match()  # a task may have waited for this slot

    async def _attempt(self, call: Call) -> Outcome | ProviderError:
        """Everything between the permit and its end; raises only CancelledError."""
        room, asked = 0, call.leader.request
        try:
            if self._journal.has_body(call.leader):
                body = loads(await self._journal.body(call.leader))  # a small one
            else:
                body, room = await self._large_bodies.read(call.leader)
            call.warnings = call.upstream.warnings(body["params"])
            if asked.type == "agent":
                await self._start(call)
                return await self._agents.run(call, body)
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
        finally:
            if room:
                self._large_bodies.give(room)

    async def _start(self, call: Call) -> None:
        """Write the starts of all executions. The request counts once, in the leader's."""
        call.move(CallState.STARTED)
        # Each step of an agent counts by itself, if it comes to that.
        counts = call.upstream.settings.counted and call.leader.request.type != "agent"
        counted = call.upstream.gate.name if counts else None
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
                fields = {"task_id": call.leader.id, "account": call.upstream.gate.name}
                text = "a fault of ours while running task %s"
                log.error(text, call.leader.id, exc_info=fault, extra=fields)
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
