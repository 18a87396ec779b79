"""Running one task once: from a permit to an outcome to the record of it.

Owns the runs under way. Promises that the start of a call is on the disk before the call;
that only the executor writes the event that ends a running task; that whoever stops a run
says why, so the reason is never guessed from a CancelledError; that no error of a run, ours
included, leaves a task without a next step. Never chooses a task or a model.
"""

import asyncio
import logging
from typing import Any

import orjson

from asyncsvc.clock import rfc3339
from asyncsvc.engine.outcome import (
    Completed,
    Deferred,
    Dropped,
    Failed,
    Outcome,
    Retried,
    Stopped,
    after_fault,
)
from asyncsvc.engine.run import Run
from asyncsvc.engine.tape import Tape
from asyncsvc.engine.waiting import WaitingRoom
from asyncsvc.errors import (
    IllegalTransition,
    InternalError,
    ProviderError,
    StorageUnavailable,
    TaskNotFound,
    TaskTimeout,
)
from asyncsvc.providers.client import Client
from asyncsvc.providers.gate import Permit
from asyncsvc.providers.tokens import estimated_usage
from asyncsvc.providers.upstream import Upstream
from asyncsvc.settings import Settings
from asyncsvc.tasks.journal import Change, Journal
from asyncsvc.tasks.submission import last_user_text
from asyncsvc.tasks.task import FINISHED, Cause, Draft, EventType, State, Task, status

log = logging.getLogger(__name__)

STORAGE_PAUSE_S = 0.5


class Executor:
    """`run` for workers; `stop` for whoever wants a run to end."""

    def __init__(
        self, journal: Journal, client: Client, waiting: WaitingRoom, settings: Settings
    ) -> None:
        self.runs: dict[str, Run] = {}
        """The runs under way, by task."""
        self._stopping = False
        self._journal = journal
        self._client = client
        self._waiting = waiting
        self._settings = settings

    async def run(
        self, task_id: str, upstream: Upstream, permit: Permit, route: dict[str, Any]
    ) -> None:
        """Run the task if it is still pending and record how that ended; `route`: why there."""
        task = self._journal.live.get(task_id)
        if task is None or task.state is not State.PENDING or task_id in self.runs:
            return
        if self._stopping:
            return  # the service was told to stop: the next process takes it up
        now, deadline = asyncio.get_running_loop().time(), self._waiting.begin(task)
        tape = Tape(self._journal, task_id)
        run = Run(task, upstream, permit, tape, upstream.model_id, now, deadline, route)
        self.runs[task_id] = run
        try:
            outcome = await self._outcome(run)
            self._report(run, outcome)
            permit.release()  # the connection is closed: the next call need not wait for the disk
            await self._record(run, outcome)
        finally:
            del self.runs[task_id]
            run.over.set()

    async def stop(self, task_id: str, cause: Cause) -> bool:
        """End a run and wait until that is recorded; False where there is none."""
        run = self.runs.get(task_id)
        if run is None:
            return False
        if run.stop is None and run.scope is not None:
            run.stop = cause
            run.scope.cancel()
        await run.over.wait()
        return True

    async def interrupt_all(self) -> None:
        """Send every task that runs back to where it can be taken up again; start no more."""
        self._stopping = True
        await asyncio.gather(
            *(self.stop(task_id, Cause.INTERRUPTED) for task_id in list(self.runs))
        )

    async def abandoned(self, task_id: str) -> None:
        """A worker died over the task: that is a fault of ours, so it is tried again."""
        while (task := self._journal.live.get(task_id)) is not None and task_id not in self.runs:
            try:
                drafts = self._abandonment(task)
                result = await self._waiting.said(task) if _ends(drafts) else None
                change = Change(task_id, drafts, result=result, source=task.state)
                self._settle((await self._journal.append(change))[0], None)
                return
            except (IllegalTransition, TaskNotFound):
                return
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)

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

    # The pipeline ---------------------------------------------------------------------------

    async def _outcome(self, run: Run) -> Outcome:
        """Run the attempt in a task of its own, so that it can be cut without the worker."""
        run.scope = asyncio.create_task(self._attempt(run), name=f"run {run.task.id}")
        try:
            await asyncio.wait({run.scope})
        except asyncio.CancelledError:
            run.scope.cancel()
            await asyncio.wait({run.scope})
            raise
        if run.scope.cancelled():
            return Stopped(run.stop or Cause.INTERRUPTED)
        return run.scope.result()

    async def _attempt(self, run: Run) -> Outcome:
        """Everything between the permit and the outcome; raises only CancelledError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(run.deadline):
                return await self._perform(run)
        except (IllegalTransition, TaskNotFound) as reason:
            return Dropped(reason)
        except TimeoutError:
            error: ProviderError = TaskTimeout(
                f"the task took longer than {self._waiting.limit_s(run.task):g} s"
            )
        except ProviderError as fault:
            error = fault
        except StorageUnavailable:
            # What was heard cannot be kept; when the disk is back, it is asked for again. The
            # pause keeps a full disk from turning this into a spin.
            await asyncio.sleep(STORAGE_PAUSE_S)
            return Stopped(Cause.INTERRUPTED)
        except Exception as fault:
            log.exception("a fault of ours while running task %s", run.task.id)
            error = InternalError(f"a fault of ours: {type(fault).__name__}")
        return after_fault(
            error,
            run.task,
            run.upstream,
            run.model_id,
            begun=run.begun,
            left_s=run.deadline - loop.time(),
            retry=self._settings.retry,
            elsewhere=lambda: self._waiting.bar(run.task, run.upstream, error),
        )

    async def _perform(self, run: Run) -> Completed:
        body = orjson.loads(await self._journal.store.body(run.task.request.n))
        run.start = self._journal.append(
            Change(
                run.task.id,
                [status(Cause.STARTED, State.PENDING), run.attempt()],
                call=run.upstream.gate.name if run.upstream.settings.rpm else None,
                source=State.PENDING,
            )
        )
        await asyncio.shield(run.start)
        run.started = asyncio.get_running_loop().time()
        run.permit.sent()
        if run.task.request.type == "embedding":
            return await self._embed(run, body)
        return await self._chat(run, body)

    async def _chat(self, run: Run, body: dict[str, Any]) -> Completed:
        messages = body.get("messages") or [{"role": "user", "content": body["content"]}]
        answer = await self._client.chat(run.upstream, messages, body["params"], run)
        usage = answer.usage or estimated_usage(last_user_text(messages), run.tape.text)
        return Completed(run.tape.text, usage, list(answer.tool_calls.values()))

    async def _embed(self, run: Run, body: dict[str, Any]) -> Completed:
        texts = body["input"]
        found = await self._client.embed(run.upstream, texts, body["params"], run.head)
        asked = texts if isinstance(texts, str) else "".join(texts)
        usage = found.usage or estimated_usage(asked, "")
        return Completed(orjson.dumps(found.vectors).decode(), usage, [])

    # Reporting and recording ------------------------------------------------------------------

    def _report(self, run: Run, outcome: Outcome) -> None:
        """Tell the gate how the call went."""
        gate = run.upstream.gate
        if isinstance(outcome, Completed):
            gate.succeeded(asyncio.get_running_loop().time() - run.started)
        elif isinstance(outcome, Failed | Retried | Deferred):
            gate.failed(outcome.error)
            if isinstance(outcome, Retried) and outcome.error.trips:
                self._waiting.bar(run.task, run.upstream, outcome.error)

    async def _record(self, run: Run, outcome: Outcome) -> None:
        """Write the outcome, however long the disk takes to come back."""
        if isinstance(outcome, Dropped):
            return
        while True:
            try:
                await run.settled()
                change = self._closing(run, outcome, await self._text(run))
                task = (await self._journal.append(change))[0]
            except StorageUnavailable:
                if self._journal.closing:
                    return  # the next process finds it running and takes it up again
                await asyncio.sleep(STORAGE_PAUSE_S)
                continue
            except (IllegalTransition, TaskNotFound):
                if run.task.id not in self._journal.live:
                    return  # whoever ended it has seen to the rest
                task = self._journal.live[run.task.id]
            self._settle(task, outcome)
            return

    async def _text(self, run: Run) -> str | None:
        """What the task has said: in this attempt, or in the one before if this never began."""
        if self._journal.live.get(run.task.id, run.task).state is State.RUNNING:
            return run.tape.text or None
        return await self._waiting.said(run.task)

    def _closing(self, run: Run, outcome: Outcome, text: str | None) -> Change:
        state = self._journal.live.get(run.task.id, run.task).state
        latency = round(asyncio.get_running_loop().time() - run.started, 3)
        drafts = run.tape.rest() if state is State.RUNNING else []
        facts: dict[str, Any] = {"latency": latency}
        match outcome:
            case Completed(usage=usage, tool_calls=calls):
                drafts += [Draft(EventType.TOOL_CALL, call) for call in calls]
                facts |= {"usage": usage, "model": run.model_id, "name": run.upstream.name}
                drafts.append(status(Cause.COMPLETED, state, error=None, **facts))
            case Failed(error=error):
                drafts.append(status(Cause.FAILED, state, error=error.as_dict(), **facts))
            case Retried(error=error, delay_s=delay):
                if state is State.PENDING:  # a fault before the start costs an attempt too
                    drafts.append(status(Cause.STARTED, state))
                drafts += self._retry_drafts(error, run.task.attempts + 1, delay)
            case Deferred(error=error):
                drafts.append(self._why(error, run.task.attempts + 1, None))
                drafts.append(status(Cause.DEFERRED, state))
            case Stopped(cause=cause):
                drafts.append(status(cause, state, **facts))
            case Dropped():
                raise AssertionError("a dropped run has nothing to record")
        result = outcome.result or None if isinstance(outcome, Completed) else text
        return Change(run.task.id, drafts, result=result if _ends(drafts) else None)

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

    def _settle(self, task: Task, outcome: Outcome | None) -> None:
        """The record is on the disk: let the task wait where it belongs, or be done."""
        if task.finished:
            self._waiting.done(task)
            return
        if isinstance(outcome, Retried | Deferred):
            self._waiting.blame(task, outcome.error)
        elif isinstance(outcome, Stopped):
            self._waiting.forgive(task)
        delay = outcome.delay_s if isinstance(outcome, Retried) else None
        self._waiting.admit(task, delay)


def _ends(drafts: list[Draft]) -> bool:
    return drafts[-1].data["status"] in FINISHED
