"""The recorder: writes the outcome of an execution, however long the disk takes to come back.

Owns the closing events: text first and the closing event last, in one append, with the answer for
the cache. Promises that no error, the service's own included, leaves a task without a next step.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from asyncsvc.clock import rfc3339
from asyncsvc.config.settings import Settings
from asyncsvc.errors import (
    IllegalTransition,
    InternalError,
    ProviderError,
    StorageUnavailable,
    TaskNotFound,
)
from asyncsvc.execution.call import Execution
from asyncsvc.execution.outcome import (
    Completed,
    Deferred,
    Dropped,
    Failed,
    Outcome,
    Retried,
    Stopped,
    Waiting,
)
from asyncsvc.journal.journal import Change, Journal, PersistedValue
from asyncsvc.scheduling.cache import Answer
from asyncsvc.scheduling.scheduler import Scheduler, text_so_far
from asyncsvc.tasks.state import FINISHED, Cause, Draft, EventType, State, Task, status

log = logging.getLogger(__name__)

STORAGE_PAUSE_S = 0.5
"""Between two tries to write while the disk refuses writes."""


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
            text = "task %s goes on after attempt %d at model %s: %s"
            fields = {"task_id": task.id, "attempt": task.starts, "model": task.name}
            code = outcome.error.code
            log.debug(text, task.id, task.starts, task.name, code, extra=fields | {"code": code})
        elif isinstance(outcome, Stopped | Waiting):
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
        facts: dict[str, Any] = {"latency": latency} | call.usage
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
            case Waiting(approval=approval, error=error):
                drafts += [approval, status(Cause.PAUSED, state, error=error, **facts)]
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
