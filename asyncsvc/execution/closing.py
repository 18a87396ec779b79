"""The record of a run: from its outcome to the events that are kept, and what follows.

Owns what is written when a task stops running. Promises that it is written however long the
disk takes to come back, text first and closing event last, in one append; that an answer worth
repeating is kept in that same append; that the task then waits where it belongs, or is done.
Never calls anybody, never decides on an outcome.
"""

import asyncio
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
from asyncsvc.execution.call import Participant
from asyncsvc.execution.outcome import (
    Completed,
    Deferred,
    Dropped,
    Failed,
    Outcome,
    Retried,
    Stopped,
)
from asyncsvc.journal.journal import Change, Journal, PersistedValue
from asyncsvc.scheduling.cache import Answer
from asyncsvc.scheduling.waiting import WaitingTasks
from asyncsvc.tasks.state import FINISHED, Cause, Draft, EventType, State, Task, status

STORAGE_PAUSE_S = 0.5


class Recorder:
    """`write` an outcome, then `settle` the task."""

    def __init__(self, journal: Journal, waiting: WaitingTasks, settings: Settings) -> None:
        self._journal = journal
        self._waiting = waiting
        self._settings = settings

    async def write(self, participant: Participant, outcome: Outcome, keep: bool) -> Task | None:
        """The task as it then stands; None where others have seen to it, or will.

        `keep`: of all who share the answer it is this one that writes it into the cache.
        """
        if isinstance(outcome, Dropped):
            return None
        kept = self._kept(participant, outcome) if keep else []
        while True:
            try:
                await participant.settled()
                if isinstance(outcome, Deferred) and self._state(participant) is State.PENDING:
                    return self._journal.live.get(participant.task.id)  # it never began
                change = self._closing(participant, outcome, await self._text(participant))
                task = (await self._journal.append(change, *kept))[0]
            except StorageUnavailable:
                participant.news.set()
                if self._journal.closing:
                    return None  # the next process finds it running and takes it up again
                await asyncio.sleep(STORAGE_PAUSE_S)
                continue
            except (IllegalTransition, TaskNotFound):
                return self._journal.live.get(participant.task.id)
            self._waiting.cache.keep(kept)
            return task

    def settle(self, task: Task, outcome: Outcome | None) -> None:
        """The record is on the disk: let the task wait where it belongs, or be done."""
        if task.finished:
            self._waiting.done(task)
            return
        if isinstance(outcome, Retried | Deferred):
            self._waiting.deadlines.blame(task, outcome.error)
        elif isinstance(outcome, Stopped):
            self._waiting.deadlines.drop(task)  # by no fault of its own
        delay = outcome.delay_s if isinstance(outcome, Retried) else None
        self._waiting.admit(task, delay)

    async def abandon(self, task: Task) -> None:
        """A worker died over the task: that is a fault of ours, so it is tried again."""
        drafts = self._abandonment(task)
        result = await self._waiting.said(task) if _ends(drafts) else None
        change = Change(task.id, drafts, result=result, source=task.state)
        self.settle((await self._journal.append(change))[0], None)

    def _abandonment(self, task: Task) -> list[Draft]:
        """It counts as an attempt, or a task that kills its workers would do so for ever."""
        error = InternalError("a worker died over this task")
        drafts = [] if task.state is State.RUNNING else [status(Cause.STARTED, task.state)]
        allowed = task.request.max_retries
        allowed = self._settings.retry.max_retries if allowed is None else allowed
        if task.tries + len(drafts) > allowed:
            return [*drafts, status(Cause.FAILED, State.RUNNING, error=error.as_dict())]
        attempt = task.attempts + len(drafts)
        return drafts + self._retry_drafts(error, attempt, self._settings.retry.base_s)

    def _kept(self, participant: Participant, outcome: Outcome) -> list[PersistedValue]:
        """What the cache wants written; only whole answers that are nothing but text."""
        cache, run = self._waiting.cache, participant.run
        key = cache.key(participant.task)
        if key is None or not isinstance(outcome, Completed):
            return []
        if outcome.tool_calls or not outcome.result:
            return []
        if not cache.worth(participant.task, run.upstream):
            return []
        facts = _facts(outcome) | {"model": run.model_id, "name": run.upstream.name}
        return cache.entries(key, Answer.of_call(run.heard, outcome.result, facts).text())

    async def _text(self, participant: Participant) -> str | None:
        """What the task has said: in this attempt, or in the one before if this never began."""
        if self._state(participant) is State.RUNNING:
            return participant.chunk_writer.text or None
        return await self._waiting.said(participant.task)

    def _state(self, participant: Participant) -> State:
        return self._journal.live.get(participant.task.id, participant.task).state

    def _closing(self, participant: Participant, outcome: Outcome, text: str | None) -> Change:
        state, run = self._state(participant), participant.run
        now = asyncio.get_running_loop().time()
        latency = round(now - participant.started, 3)
        drafts = participant.chunk_writer.rest() if state is State.RUNNING else []
        facts: dict[str, Any] = {"latency": latency}
        match outcome:
            case Completed():
                facts |= _facts(outcome) | {"model": run.model_id, "name": run.upstream.name}
                drafts.append(status(Cause.COMPLETED, state, error=None, **facts))
            case Failed(error=error):
                drafts.append(status(Cause.FAILED, state, error=error.as_dict(), **facts))
            case Retried(error=error, delay_s=delay):
                if state is State.PENDING:  # a fault before the start costs an attempt too
                    drafts.append(status(Cause.STARTED, state))
                drafts += self._retry_drafts(error, participant.task.attempts + 1, delay)
            case Deferred(error=error):
                drafts.append(self._why(error, participant.task.attempts + 1, None))
                drafts.append(status(Cause.DEFERRED, state))
            case Stopped(cause=cause):
                if run.over:  # else the call goes on for others
                    facts["closed_ms"] = round((now - participant.left) * 1000)
                drafts.append(status(cause, state, **facts))
            case Dropped():
                raise AssertionError("a dropped run has nothing to record")
        result = outcome.result or None if isinstance(outcome, Completed) else text
        return Change(participant.task.id, drafts, result=result if _ends(drafts) else None)

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
