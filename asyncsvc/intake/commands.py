"""Commands on tasks and models: cancel, pause, resume, retry and delete a task; pause a model.

Each command is durable when it returns. IllegalTransition means that nothing has changed; a retry
needs room in the queue as a new task does. A paused model keeps its pause over restarts until it
is resumed: calls under way go on, and tasks that wait for it go to another model where another
can serve them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import orjson

from asyncsvc.clock import left_ms
from asyncsvc.errors import IllegalTransition, ModelNotFound
from asyncsvc.execution.execution import Executor
from asyncsvc.intake.decisions import undecided
from asyncsvc.intake.intake import Intake
from asyncsvc.journal.journal import Change, Journal, PersistedValue, Removal
from asyncsvc.providers.registry import Catalogue
from asyncsvc.scheduling.scheduler import Scheduler, text_so_far
from asyncsvc.scheduling.steps import shielded
from asyncsvc.tasks.state import Cause, State, Task, refusal, status, target

log = logging.getLogger(__name__)


class Control:
    """Commands on tasks; each gives the task as it then stands and raises TaskNotFound and
    IllegalTransition."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        executor: Executor,
        intake: Intake,
        remove_workspace: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._intake = intake
        self._journal = journal
        self._scheduler = scheduler
        self._executor = executor
        self._remove_workspace = remove_workspace

    async def cancel(self, task_id: str) -> Task:
        """End a task in any state; a running one closes its upstream request at once."""
        return await shielded(self._end(task_id, Cause.CANCELLED))

    async def pause(self, task_id: str) -> Task:
        """Let a task wait until it is resumed; its text so far stays readable."""
        return await shielded(self._end(task_id, Cause.PAUSED))

    async def resume(self, task_id: str) -> Task:
        """Queue a paused task again, or schedule it where its time has not come. One that waits
        for a person's decision is refused."""
        task = await self._journal.task(task_id)
        if (waiting_for := task.waiting_for) is not None:
            raise undecided(waiting_for)
        request, now = task.request, self._journal.now()
        run_at = request.run_at
        if run_at is not None and request.delayed:
            run_at = now + left_ms(run_at, request.created_at, now)
        later = run_at is not None and run_at > now and task.started_at is None
        cause, facts = (Cause.POSTPONED, {"next_run_at": run_at}) if later else (Cause.RESUMED, {})
        return await shielded(self._queue(task_id, cause, State.PAUSED, **facts))

    async def retry(self, task_id: str) -> Task:
        """Start a finished task anew under the same id. Raises RequestError where no task is
        taken: it is work as any other, and finished ones are many more than the queue holds."""
        return await shielded(self._rerun(task_id))

    async def delete(self, task_id: str) -> None:
        """Remove a finished task with all its events and its workspace."""
        await self._journal.append(Removal(task_id))
        if self._remove_workspace is not None:
            try:
                await self._remove_workspace(task_id)
            except OSError as error:  # the retention tries again
                text = "the workspace of task %s is still there: %s"
                log.warning(text, task_id, error, extra={"task_id": task_id})

    async def _rerun(self, task_id: str) -> Task:
        task = await self._journal.task(task_id)
        target(task.state, Cause.RERUN)  # refuse what can never be before a lack of room
        with self._intake.room(1, task.request.owner):
            return await self._queue(task_id, Cause.RERUN, task.state)

    async def _end(self, task_id: str, cause: Cause) -> Task:
        while True:
            task = await self._journal.task(task_id)
            target(task.state, cause)  # refuse before anything is cut
            stopped = await self._executor.stop(task_id, cause)
            if stopped is not None:
                if stopped.state is target(State.RUNNING, cause):
                    return stopped  # another command may have moved the task on since
                # It ended by itself in the same moment, or it waits for its next try.
                task = await self._journal.task(task_id)
            try:
                task = await self._move(task_id, cause, task.state)
                break
            except IllegalTransition:
                continue  # it moved on in between: judged anew from where it is now
        if task.finished:
            self._scheduler.finish(task)
        else:
            self._scheduler.remove(task)
            self._scheduler.deadlines.drop(task)
        return task

    async def _queue(self, task_id: str, cause: Cause, source: State, **facts: int | None) -> Task:
        """Append the transition, then let the task wait for its turn."""
        try:
            task = await self._move(task_id, cause, source, **facts)
        except IllegalTransition as moved:
            # Another command was faster: the error names the command that was asked for.
            raise refusal(moved.state, cause) from None
        self._scheduler.enqueue(task)
        return task

    async def _move(self, task_id: str, cause: Cause, source: State, **facts: int | None) -> Task:
        draft = status(cause, source, **facts)
        result = None
        if cause is Cause.CANCELLED:  # the text of a paused task, say, stays readable
            result = await text_so_far(self._journal, await self._journal.task(task_id))
        change = Change(task_id, [draft], result=result, source=source)
        return (await self._journal.append(change))[0]


HELD = "held"


class Holds:
    """Models that an operator has paused. `pause` and `resume` may be repeated."""

    def __init__(self, journal: Journal, catalogue: Catalogue, scheduler: Scheduler) -> None:
        self._journal = journal
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._since: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Load the stored pauses; call it before the workers start."""
        for name, _, value in await self._journal.store.persisted_values(HELD):
            self._since[name] = orjson.loads(value)["since"]
            self._set(name)

    def apply(self) -> None:
        """Pause the accounts that a reload of the settings has added."""
        for name in self._since:
            self._set(name)

    def since(self, name: str) -> int | None:
        """When the model was paused, in ms since the epoch; None where it is not."""
        return self._since.get(name)

    async def pause(self, name: str) -> None:
        """Begin no call to the model. Raises ModelNotFound or StorageUnavailable."""
        await shielded(self._hold(name, True))

    async def resume(self, name: str) -> None:
        """Let calls to the model begin again. Raises ModelNotFound or StorageUnavailable."""
        await shielded(self._hold(name, False))

    async def _hold(self, name: str, held: bool) -> None:
        models = self._catalogue.settings.models
        if name not in models:
            known = ", ".join(models) or "none"
            raise ModelNotFound(f"there is no model {name!r}; known: {known}", param="name")
        async with self._turn:
            if held == (name in self._since):
                return
            now = self._journal.now()
            value = orjson.dumps({"since": now}).decode() if held else None
            await self._journal.append(PersistedValue(HELD, name, value, durable=True))
            if held:
                self._since[name] = now
            else:
                del self._since[name]
            self._set(name)
            self._scheduler.match()

    def _set(self, name: str) -> None:
        reason = f"{name} is paused" if name in self._since else None
        gates = [upstream.gate for upstream in self._catalogue.of(name)]
        for gate in gates:  # all at once: a task that leaves the first must not go to the second
            gate.paused, gate.changes = reason, gate.changes + 1
        for gate in gates:
            gate.pause(reason)
