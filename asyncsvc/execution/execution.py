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
from asyncsvc.execution.call import Member, Run
from asyncsvc.execution.chunk_writer import Tape
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
from asyncsvc.execution.recovery import Aftermath
from asyncsvc.execution.request import ask
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.limits.permit import Permit
from asyncsvc.providers.client import Client
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.waiting import WaitingRoom
from asyncsvc.storage.refusals import loads
from asyncsvc.tasks.state import Cause, State, Task, status

log = logging.getLogger(__name__)


class Executor:
    """`run` for workers; `stop` for whoever wants a task's run to end."""

    def __init__(
        self, journal: Journal, client: Client, waiting: WaitingRoom, settings: Settings
    ) -> None:
        self.runs: dict[str, Member] = {}
        """The runs under way, by task."""
        self._stopping = False
        self._journal = journal
        self._client = client
        self._waiting = waiting
        self._settings = settings
        self._aftermath = Aftermath(journal, client)
        self._recorder = Recorder(journal, waiting, settings)
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
        sharing = self._waiting.depart(task, lambda late: self._board(run, late))
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
            for other in run.members.keys() - {task_id}:
                self._later(self.abandoned(other))
            raise
        finally:
            run.over = True
            for member in list(run.members.values()):
                self._off(member)
            self._waiting.land(task)

    async def stop(self, task_id: str, cause: Cause) -> Task | None:
        """End a task's run and wait until that is recorded; the task as the record left it, None
        where there is no run or it left none. Raises StorageUnavailable where the disk refuses:
        the call is cut all the same."""
        member = self.runs.get(task_id)
        if member is None:
            return None
        self._leave(member, Stopped(cause))
        await member.recorded()
        return member.closed

    def cut(self, run: Run, error: ProviderError) -> None:
        """End a call, for all who share it, as if it had ended with that."""
        for member in list(run.members.values()):
            self._leave(member, self._after_fault(member, error))

    async def interrupt_all(self) -> None:
        """Send every task that runs back to where it can be taken up again; start no more."""
        self._stopping = True
        members = list(self.runs.values())
        for member in members:
            self._leave(member, Stopped(Cause.INTERRUPTED))
        await asyncio.gather(*(member.over.wait() for member in members))

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
        tape, deadline = Tape(self._journal, task.id), self._waiting.begin(task)
        member = Member(run, task, tape, loop.time(), deadline)
        member.alarm = loop.call_at(deadline, self.time_is_up, member)
        self.runs[task.id] = run.members[task.id] = member
        if run.starting:
            self._start(member, None)
            self._later(self._join(member))
        self._waiting.cache.shared += task.id != run.lead.id
        return True

    async def _join(self, member: Member) -> None:
        """See a latecomer aboard: its start is its own, and fails for it alone."""
        assert member.start is not None
        try:
            await asyncio.shield(member.start)
        except (IllegalTransition, TaskNotFound) as reason:
            self._leave(member, Dropped(reason))
        except StorageUnavailable:
            await asyncio.sleep(STORAGE_PAUSE_S)
            self._leave(member, Stopped(Cause.INTERRUPTED))

    def _leave(self, member: Member, outcome: Outcome) -> None:
        """It ends for this task; the call goes on while there are others."""
        run = member.run
        if member.outcome is not None or run.over or run.scope is None or run.scope.done():
            return
        member.outcome, member.left = outcome, asyncio.get_running_loop().time()
        if len(run.members) > 1:
            del run.members[member.task.id]
            self._later(self._record(member, outcome))
        else:
            run.over = True
            run.scope.cancel()

    def time_is_up(self, member: Member) -> None:
        """The task's time is at its end."""
        error = self._waiting.allowances.over(member.task, member.run.begun)
        outcome = Failed(error) if error.slow_down else self._after_fault(member, error)
        self._leave(member, outcome)

    def _off(self, member: Member) -> None:
        """The task's run is over."""
        if member.alarm is not None:
            member.alarm.cancel()
        for aboard in (self.runs, member.run.members):
            if aboard.get(member.task.id) is member:  # it may have come aboard anew
                del aboard[member.task.id]
        member.ended()

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
        await self._aftermath.prepare(run)
        run.permit.confirm()  # nothing is written yet: best to know it now
        await self._begin(run)
        run.permit.confirm()
        run.started = asyncio.get_running_loop().time()
        run.permit.sent()
        run.alive()
        self._waiting.cache.misses += self._waiting.cache.key(run.lead) is not None
        return await self._aftermath.call(run, lambda: ask(self._client, self._journal, run, body))

    async def _begin(self, run: Run) -> None:
        """Write the starts of all who are aboard. The call counts once, in the lead's."""
        run.starting = True
        call = run.upstream.gate.name if run.upstream.settings.counted else None
        members = list(run.members.values())
        for member in members:
            self._start(member, call if member is members[0] else None)
        starts = [asyncio.shield(m.start) for m in members if m.start is not None]
        found = await asyncio.gather(*starts, return_exceptions=True)
        for member, result in zip(members, found, strict=True):
            if isinstance(result, IllegalTransition | TaskNotFound) and len(run.members) > 1:
                self._leave(member, Dropped(result))
            elif isinstance(result, BaseException) and member.outcome is None:
                raise result
        if call is not None and isinstance(found[0], BaseException):
            counted = next(iter(run.members))  # the lead is gone, and its record with it
            tokens = run.lead.request.tokens
            await asyncio.shield(
                self._journal.append(Change(counted, [], call=call, tokens=tokens))
            )

    def _start(self, member: Member, call: str | None) -> None:
        drafts = [status(Cause.STARTED, State.PENDING), member.run.attempt(member.task)]
        tokens = member.task.request.tokens
        change = Change(member.task.id, drafts, call=call, tokens=tokens, source=State.PENDING)
        member.begin(self._journal.append(change))

    # Recording --------------------------------------------------------------------------------

    async def _record_all(self, run: Run, ending: Outcome | ProviderError) -> None:
        """Each has its own outcome; those tried again as often as each other come together."""
        delays: dict[int, float] = {}
        steps: list[Coroutine[Any, Any, None]] = []
        for member in run.members.values():
            outcome = member.outcome or ending
            if isinstance(outcome, ProviderError):
                outcome = self._after_fault(member, outcome)
            if isinstance(outcome, Retried):
                if outcome.error.trips or isinstance(outcome.error, EmptyAnswer | Unexplained):
                    self._waiting.bar(member.task, run.upstream, outcome.error)
                delay = delays.setdefault(member.task.tries, outcome.delay_s)
                if delay < member.deadline - asyncio.get_running_loop().time():
                    outcome = replace(outcome, delay_s=delay)
            steps.append(self._record(member, outcome, not steps))
        for died in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(died, BaseException):
                raise died

    async def _record(self, member: Member, outcome: Outcome, keep: bool = False) -> None:
        task = member.closed = await self._recorder.write(member, outcome, keep)
        self._off(member)
        if task is not None:
            self._recorder.settle(task, outcome)

    def _after_fault(self, member: Member, error: ProviderError) -> Outcome:
        run, left_s = member.run, member.deadline - asyncio.get_running_loop().time()
        return after_fault(
            error,
            member.task,
            run.upstream,
            run.model_id,
            begun=run.begun,
            left_s=left_s,
            retry=self._settings.retry,
            elsewhere=lambda: self._waiting.bar(member.task, run.upstream, error),
        )
