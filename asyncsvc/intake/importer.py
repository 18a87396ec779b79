"""Tasks that come from another database, or back from a file.

Owns what becomes of each: a finished one is stored as it was, an unfinished one is queued
again, a paused one stays paused. Promises that ids are kept, that a task whose id is known
here is left alone, and that all of one call are taken or none. Never reads a file.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain

import orjson

from asyncsvc.clock import from_rfc3339
from asyncsvc.errors import InvalidRequest
from asyncsvc.intake.intake import Intake
from asyncsvc.intake.staging import Staging
from asyncsvc.journal.journal import Arrival, Change, Journal, NewTask
from asyncsvc.journal.transaction import Entry
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.scheduling.steps import shielded
from asyncsvc.storage.entries import loads
from asyncsvc.storage.export import Record
from asyncsvc.tasks.state import Cause, State, status
from asyncsvc.tools.task_workspaces import ArchiveRefused, TaskWorkspaces


@dataclass(frozen=True, slots=True)
class Taken:
    """How many were stored as finished, queued again, and known already."""

    finished: int
    queued: int
    skipped: int


class Importer:
    """`take` some records at once."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        intake: Intake,
        workspaces: TaskWorkspaces,
        staging: Staging,
    ) -> None:
        self._workspaces = workspaces
        self.staging = staging
        """Takes the workspaces that come before their tasks."""
        self._journal = journal
        self._scheduler = scheduler
        self._intake = intake
        self._turns = LoopTurns()
        self._turn = asyncio.Lock()
        """One call at a time: between the look and the write no other may bring the same id."""

    async def take(self, records: Sequence[Record]) -> Taken:
        """All or none. Raises RequestError or StorageUnavailable."""
        return await shielded(self._take(records))

    async def _take(self, records: Sequence[Record]) -> Taken:
        async with self._turn:
            ids = {record.task_id for record in records}
            known = await self._journal.store.known(ids)
            new = {r.task_id: r for r in reversed(records) if r.task_id not in known}
            chosen = [new[i] for i in dict.fromkeys(r.task_id for r in records) if i in new]
            queued = [record for record in chosen if not record.finished]
            found = await self._turns.of_each(self._entries, chosen)
            entries = list(chain.from_iterable(found))
            with self._intake.room(len(queued)):
                async with self._unpacked(chosen):
                    tasks = await self._journal.append(*entries) if entries else []
            await self.staging.discard(ids)
            for task in {task.id: task for task in tasks if not task.finished}.values():
                self._scheduler.enqueue(task)
            return Taken(len(chosen) - len(queued), len(queued), len(records) - len(chosen))

    @asynccontextmanager
    async def _unpacked(self, chosen: Sequence[Record]) -> AsyncGenerator[None]:
        """The workspaces of finished agents, made before these are stored; removed again where the
        block fails. Raises InvalidRequest."""
        made: list[str] = []
        try:
            for record in chosen:
                if record.workspace is None or not record.finished:
                    continue
                made.append(record.task_id)
                with await self.staging.whole(record.task_id, record.workspace) as archive:
                    await self._workspaces.unpack(record.task_id, archive)
            yield
        except BaseException as error:
            for task_id in made:
                with suppress(OSError):
                    await self._workspaces.remove(task_id)
            if isinstance(error, ArchiveRefused):
                raise InvalidRequest(
                    f"the workspace of task {made[-1]} is refused: {error}", param="workspace"
                ) from None
            raise

    def _entries(self, record: Record) -> list[Entry]:
        new_task = self._intake.new_task(record.submission, record.owner)
        now = self._journal.now()
        created = min(from_rfc3339(record.created_at), now)
        request = replace(new_task.request, id=record.task_id, created_at=created)
        if record.finished:
            body = new_task.body
            if (origin := record.forked_from) is not None:
                body = orjson.dumps(loads(body) | {"forked_from": origin.model_dump()})
            return [Arrival(record.task(request, now), record.life(now), body, record.text)]
        entries: list[Entry] = [NewTask(request, new_task.body)]
        if record.status is State.PAUSED:
            entries.append(Change(request.id, [status(Cause.PAUSED, State.PENDING)]))
        return entries
