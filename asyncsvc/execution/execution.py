"""Running a call once for all tasks that share it: from a permit to the outcome of each.

Owns the calls under way and who is aboard. Promises that the starts are on the disk before the
call; that only the executor ends a running task; that whoever stops a task says why, so the
reason is never guessed from a CancelledError; that a call goes on as long as anybody is aboard
and is cut when the last one leaves; that no error of a run, ours included, leaves a task
without a next step. Never chooses a task or a model.
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
from asyncsvc.execution.call import Participant, Run
from asyncsvc.execution.chunk_writer import ChunkWriter
from asyncsvc.execution.closing import STORAGE_PAUSE_S, Recorder
from asyncsvc.execution.outcome import (
    Completed,
    Dropped,
    Failed,
    Outcome,
    Retried,
    Stopped,
    after_fault,
)
from asyncsvc.execution.recovery import Recovery
from asyncsvc.execution.request import ask
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.limits.permit import Permit
from asyncsvc.providers.client import Client
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.storage.refusals import loads
from asyncsvc.tasks.state import Cause, State, Task, status

log = logging.getLogger(__name__)


class Executor:
    """`run` for workers; `stop` for whoever wants a task's run to end."""

    def __init__(
        self, journal: Journal, client: Client, scheduler: Scheduler, settings: Settings
    ) -> None:
        self.runs: dict[str, Participant] = {}
        """The runs under way, by task."""
        self._stopping = False
        self._journal = journal
        self._client = client
        self._scheduler = scheduler
        self._settings = settings
        self._recovery = Recovery(journal, client)
        self._recorder = Recorder(journal, scheduler, settings)
        self._steps: set[asyncio.Task[None]] = set()

    async def run(
        self, task_id: str, upstream: Upstream, permit: Permit, route: dict[str, Any]
    ) -> None:
        """Run the task if it is still pending, with all that ask for the same, and record how
        that ended for each; `route`: why there."""
        task = self._journal.live.get(task_id)
        if task is None or task.state is not State.PENDING or task_id in self.runs:
            return
        if self._stopping:
            return  # found while the service was told to stop: the next process takes it up
        now = asyncio.get_running_loop().time()
        run = Run(task, upstream, permit, upstream.model_id, now, route)
        sharing = self._scheduler.start_call(task, lambda late: self._board(run, late))
        if not sharing:
            return  # an equal call is under way, and the task waits for it
        for each in sharing:
            self._board(run, each)
        try:
            ending = await run.make(self._attempt(run))
            run.report(ending)
            permit.release()  # the connection is closed: the next call need not wait for the disk
            await self._record_all(run, ending)
        except Exception:
            for other in run.participants.keys() - {task_id}:
                self._later(self.abandoned(other))
            raise
        finally:
            run.over = True
            for participant in list(run.participants.values()):
                self._off(participant)
            self._scheduler.finish_call(task)

    async def stop(self, task_id: str, cause: Cause) -> Task | None:
        """End a task's run and wait until that is recorded; the task as the record left it, None
        where there is no run or it left none. Raises StorageUnavailable where the disk refuses:
        the call is cut all the same."""
        participant = self.runs.get(task_id)
        if participant is None:
            return None
        self._leave(participant, Stopped(cause))
        await participant.recorded()
        return participant.closed

    def cut(self, run: Run, error: ProviderError) -> None:
        """End a call, for all who share it, as if it had ended with that."""
        for participant in list(run.participants.values()):
            self._leave(participant, self._after_fault(participant, error))

    async def interrupt_all(self) -> None:
        """Send every task that runs back to where it can be taken up again; start no more."""
        self._stopping = True
        participants = list(self.runs.values())
        for participant in participants:
            self._leave(participant, Stopped(Cause.INTERRUPTED))
        await asyncio.gather(*(participant.over.wait() for participant in participants))

    async def abandoned(self, task_id: str) -> None:
        """A worker died over the task: see that it is tried again."""
        while (task := self._journal.live.get(task_id)) is not None and task_id not in self.runs:
            try:
                await self._recorder.abandon(task)
                return
            except (IllegalTransition, TaskNotFound):
                return
            except StorageUnavailable:
                await asyncio.sleep(STORAGE_PAUSE_S)

    async def close(self) -> None:
        """End what is still being recorded; a restart finds it."""
        for step in self._steps:
            step.cancel()
        await asyncio.gather(*self._steps, return_exceptions=True)

    # Who is aboard ----------------------------------------------------------------------------

    def _board(self, run: Run, task: Task) -> bool:
        """Let the task take part; False where it is too late."""
        if run.over or self._stopping:
            return False
        loop = asyncio.get_running_loop()
        chunk_writer, deadline = ChunkWriter(self._journal, task.id), self._scheduler.start(task)
        participant = Participant(run, task, chunk_writer, loop.time(), deadline)
        participant.alarm = loop.call_at(deadline, self.time_is_up, participant)
        self.runs[task.id] = run.participants[task.id] = participant
        if run.starting:
            self._start(participant, None)
            self._later(self._join(participant))
        self._scheduler.cache.shared += task.id != run.lead.id
        return True

    async def _join(self, participant: Participant) -> None:
        """See a latecomer aboard: its start is its own, and fails for it alone."""
        assert participant.start is not None
        try:
            await asyncio.shield(participant.start)
        except (IllegalTransition, TaskNotFound) as reason:
            self._leave(participant, Dropped(reason))
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_PAUSE_S)
            self._leave(participant, Stopped(Cause.INTERRUPTED))

    def _leave(self, participant: Participant, outcome: Outcome) -> None:
        """It ends for this task; the call goes on while there are others."""
        run = participant.run
        if participant.outcome is not None or run.over or run.scope is None or run.scope.done():
            return
        participant.outcome, participant.left = outcome, asyncio.get_running_loop().time()
        if len(run.participants) > 1:
            del run.participants[participant.task.id]
            self._later(self._record(participant, outcome))
        else:
            run.over = True
            run.scope.cancel()

    def time_is_up(self, participant: Participant) -> None:
        """The task's time is at its end."""
        error = self._scheduler.deadlines.over(participant.task, participant.run.begun)
        outcome = Failed(error) if error.slow_down else self._after_fault(participant, error)
        self._leave(participant, outcome)

    def _off(self, participant: Participant) -> None:
        """The task's run is over."""
        if participant.alarm is not None:
            participant.alarm.cancel()
        for aboard in (self.runs, participant.run.participants):
            if aboard.get(participant.task.id) is participant:  # it may have come aboard anew
                del aboard[participant.task.id]
        participant.ended()

    def _later(self, step: Coroutine[Any, Any, None]) -> None:
        running = asyncio.ensure_future(step)
        self._steps.add(running)
        running.add_done_callback(self._steps.discard)

    # The pipeline -----------------------------------------------------------------------------

    async def _attempt(self, run: Run) -> Outcome | ProviderError:
        """Everything between the permit and its end; raises only CancelledError."""
        try:
            return await self._perform(run)
        except (IllegalTransition, TaskNotFound) as reason:
            return Dropped(reason)
        except ProviderError as fault:
            return fault.bare()
        except (DatabaseDamaged, MemoryError) as fault:  # as it may be next time: an attempt
            return InternalError(str(fault) or "there was no memory left for this call")
        except StorageUnavailable:
            # What was heard cannot be kept; when the disk is back, it is asked for again. The
            # pause keeps a full disk from turning this into a spin.
            await asyncio.sleep(STORAGE_PAUSE_S)
            return Stopped(Cause.INTERRUPTED)
        except Exception as fault:
            log.exception("a fault of ours while running task %s", run.lead.id)
            return InternalError(f"a fault of ours: {type(fault).__name__}")

    async def _perform(self, run: Run) -> Completed:
        body = loads(await self._journal.store.body(run.lead.n))
        run.warnings = run.upstream.warnings(body["params"])
        await self._recovery.prepare(run)
        run.permit.confirm()  # nothing is written yet: best to know it now
        await self._begin(run)
        run.permit.confirm()
        run.started = asyncio.get_running_loop().time()
        run.permit.sent()
        run.alive()
        self._scheduler.cache.misses += self._scheduler.cache.key(run.lead) is not None
        return await self._recovery.call(run, lambda: ask(self._client, self._journal, run, body))

    async def _begin(self, run: Run) -> None:
        """Write the starts of all who are aboard. The call counts once, in the lead's."""
        run.starting = True
        call = run.upstream.gate.name if run.upstream.settings.counted else None
        participants = list(run.participants.values())
        for participant in participants:
            self._start(participant, call if participant is participants[0] else None)
        starts = [asyncio.shield(m.start) for m in participants if m.start is not None]
        found = await asyncio.gather(*starts, return_exceptions=True)
        for participant, result in zip(participants, found, strict=True):
            if isinstance(result, IllegalTransition | TaskNotFound) and len(run.participants) > 1:
                self._leave(participant, Dropped(result))
            elif isinstance(result, BaseException) and participant.outcome is None:
                raise result
        if call is not None and isinstance(found[0], BaseException):
            counted = next(iter(run.participants))  # the lead is gone, and its record with it
            tokens = run.lead.request.tokens
            await asyncio.shield(
                self._journal.append(Change(counted, [], call=call, tokens=tokens))
            )

    def _start(self, participant: Participant, call: str | None) -> None:
        drafts = [status(Cause.STARTED, State.PENDING), participant.run.attempt(participant.task)]
        tokens = participant.task.request.tokens
        change = Change(participant.task.id, drafts, call=call, tokens=tokens, source=State.PENDING)
        participant.begin(self._journal.append(change))

    # Recording --------------------------------------------------------------------------------

    async def _record_all(self, run: Run, ending: Outcome | ProviderError) -> None:
        """Each has its own outcome; those tried again as often as each other come together."""
        delays: dict[int, float] = {}
        steps: list[Coroutine[Any, Any, None]] = []
        for participant in run.participants.values():
            outcome = participant.outcome or ending
            if isinstance(outcome, ProviderError):
                outcome = self._after_fault(participant, outcome)
            if isinstance(outcome, Retried):
                if outcome.error.trips or isinstance(outcome.error, EmptyAnswer | Unexplained):
                    self._scheduler.exclude(participant.task, run.upstream, outcome.error)
                delay = delays.setdefault(participant.task.tries, outcome.delay_s)
                if delay < participant.deadline - asyncio.get_running_loop().time():
                    outcome = replace(outcome, delay_s=delay)
            steps.append(self._record(participant, outcome, not steps))
        for died in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(died, BaseException):
                raise died

    async def _record(self, participant: Participant, outcome: Outcome, keep: bool = False) -> None:
        task = participant.closed = await self._recorder.write(participant, outcome, keep)
        self._off(participant)
        if task is not None:
            self._recorder.settle(task, outcome)

    def _after_fault(self, participant: Participant, error: ProviderError) -> Outcome:
        run, left_s = participant.run, participant.deadline - asyncio.get_running_loop().time()
        return after_fault(
            error,
            participant.task,
            run.upstream,
            run.model_id,
            begun=run.begun,
            left_s=left_s,
            retry=self._settings.retry,
            elsewhere=lambda: self._scheduler.exclude(participant.task, run.upstream, error),
        )
