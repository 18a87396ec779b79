"""One step of a batch: look at its lines, submit some, write down what has come of others.

Owns what a batch does next. Promises that each step is one transaction of tasks, progress and
pieces of files, so that a process may end between any two of them; that every line is accounted
for, run or not. Never waits for a task.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from asyncsvc.access import SERVICE
from asyncsvc.batches.files import COST, Files
from asyncsvc.batches.lines import (
    Answered,
    BatchEndpoint,
    Failed,
    Inputs,
    Prepared,
    Read,
    fault,
    output_line,
    validated,
)
from asyncsvc.config.settings import Settings
from asyncsvc.errors import AsyncsvcError, NotFound, RequestError
from asyncsvc.intake.commands import Control
from asyncsvc.intake.intake import Intake
from asyncsvc.journal.journal import Journal
from asyncsvc.storage.entries import (
    CANCELLING,
    EXPIRING,
    GROWING,
    RUNNING,
    VALIDATING,
    Batch,
    BatchChanged,
    FileAdded,
    FileReady,
    Line,
    PieceAdded,
    Row,
)

log = logging.getLogger(__name__)

STEP = 50
"""Lines of one transaction."""
REST_S = 1.0
"""After a refusal of the queue."""
REST_MOST_S = 5.0
_FAULT = Failed("internal", "a fault of the service; its log says more")
DAY_MS = 86_400_000
PURPOSE = "batch_output"
_ENDS = {RUNNING: "completed", CANCELLING: "cancelled", EXPIRING: "expired"}
_WHY = {
    CANCELLING: Failed("batch_cancelled", "the batch was cancelled before this line was done"),
    EXPIRING: Failed("batch_expired", "the batch's time was over before this line was done"),
}


@dataclass(slots=True)
class Work:
    """A batch under way. `rest_until` is by the loop's clock."""

    batch: Batch
    waiting: dict[int, Line] = field(default_factory=dict)
    """The lines that are tasks."""
    rest_until: float = 0.0


class Steps:
    """Advances batches by one step at a time."""

    def __init__(
        self,
        journal: Journal,
        intake: Intake,
        control: Control,
        of_files: Files,
        settings: Settings,
        endpoints: Mapping[str, BatchEndpoint],
    ) -> None:
        self._journal = journal
        self._intake = intake
        self._control = control
        self._files = of_files
        self._settings = settings
        self._endpoints = endpoints

    async def advance(self, work: Work, share: int) -> bool:
        """One step; whether there is more to do at once. `share`: lines that may be tasks.

        Raises StorageUnavailable; then it is done again.
        """
        if work.batch.state == VALIDATING:
            await self._validate(work)
            return True
        if work.batch.state == RUNNING and self._journal.now() >= work.batch.expires_at:
            await self._move(work, work.batch.entered(EXPIRING, self._journal.now()))
        if work.batch.state != RUNNING:
            await self._cut(work)
        busy = await self._collect(work)
        if work.batch.line < work.batch.total:
            runs = work.batch.state == RUNNING
            busy |= await (self._take(work, share) if runs else self._refuse(work))
        if work.batch.line >= work.batch.total and not work.waiting:
            await self._finish(work)
        return busy

    async def _validate(self, work: Work) -> None:
        """Look at all lines before the first is run, as OpenAI does."""
        batch = work.batch
        try:
            inputs = await self._inputs(batch)
        except NotFound as gone:
            await self._fail(work, [fault("input_file_deleted", str(gone))])
            return
        total, errors = await validated(inputs, batch.endpoint)
        if errors:
            await self._fail(work, errors)
        else:
            await self._move(
                work, replace(batch, total=total).entered(RUNNING, self._journal.now())
            )

    async def _fail(self, work: Work, errors: list[dict[str, Any]]) -> None:
        batch = replace(work.batch, errors=errors)
        await self._move(work, batch.entered("failed", self._journal.now()))

    async def _take(self, work: Work, share: int) -> bool:
        """Submit the next lines, as far as there is room for them."""
        loop = asyncio.get_running_loop()
        room = share - len(work.waiting)
        if room <= 0 or loop.time() < work.rest_until or self._intake.closed:
            return False
        try:
            lines, offset = await self._read(work, min(room, STEP))
        except NotFound:
            return await self._lose(work)
        endpoint, prepared = self._endpoints[work.batch.endpoint], list[tuple[Read, Prepared]]()
        refused: list[tuple[str, Answered | Failed]] = []
        for line in lines:
            try:
                ready = await endpoint.prepare(line.body, work.batch.headers, work.batch.owner)
                await self._intake.check(ready.submission)
                prepared.append((line, ready))
            except RequestError as error:
                refused.append((line.custom_id, endpoint.refused(error)))
            except Exception:  # one line must not hold up all that follow
                text, fields = "a fault of ours with line %d of %s", {"batch_id": work.batch.id}
                log.exception(text, line.number, work.batch.id, extra=fields)
                refused.append((line.custom_id, _FAULT))
        batch, pieces = self._written(work.batch, [], refused)
        batch = replace(batch, offset=offset, line=batch.line + len(lines))
        try:
            taken = await self._submit(batch, prepared, pieces)
        except RequestError as refusal:  # the queue's, not a line's
            work.rest_until = loop.time() + min(refusal.retry_after or REST_S, REST_MOST_S)
            return False
        work.batch = batch
        work.waiting |= {line.number: line for line in taken}
        return True

    async def _submit(
        self, batch: Batch, prepared: Sequence[tuple[Read, Prepared]], pieces: list[Row]
    ) -> list[Line]:
        """Tasks, progress and refusals in one transaction."""
        taken: list[Line] = []

        def also(ids: Sequence[str]) -> list[Row]:
            beside = []
            for (line, ready), task_id in zip(prepared, ids, strict=True):
                taken.append(Line(line.number, line.custom_id, task_id, ready.form))
                if ready.beside is not None:
                    beside.append(ready.beside(task_id))
            return [*beside, *pieces, BatchChanged(batch, submitted=taken)]

        if prepared:
            wanted = [ready.submission for _, ready in prepared]
            await self._intake.submit_all(wanted, batch.owner, also=also)
        else:
            await self._journal.append(*also(()))
        return taken

    async def _collect(self, work: Work) -> bool:
        """Write the answers of tasks that have ended."""
        live = self._journal.live
        ended = [line for line in work.waiting.values() if line.task_id not in live][:STEP]
        if not ended:
            return False
        endpoint, done = self._endpoints[work.batch.endpoint], list[tuple[str, Answered]]()
        failed: list[tuple[str, Answered | Failed]] = []
        for line in ended:
            answer = await endpoint.answer(line.task_id, line.form)
            if answer.status == 200:
                done.append((line.custom_id, answer))
            elif answer.cancelled and work.batch.state in _WHY:
                failed.append((line.custom_id, _WHY[work.batch.state]))
            else:
                failed.append((line.custom_id, answer))
        batch, pieces = self._written(work.batch, done, failed)
        async with self._journal.store.upkeep.room.taking(_size(pieces)):
            await self._journal.append(*pieces, BatchChanged(batch, answered=ended))
        work.batch = batch
        for line in ended:
            del work.waiting[line.number]
        return True

    async def _refuse(self, work: Work) -> bool:
        """Write an answer for lines that will not be run."""
        try:
            lines, offset = await self._read(work, STEP * 10)
        except NotFound:
            return await self._lose(work)
        why = _WHY[work.batch.state]
        batch, pieces = self._written(work.batch, [], [(line.custom_id, why) for line in lines])
        batch = replace(batch, offset=offset, line=batch.line + len(lines))
        await self._move(work, batch, pieces)
        return True

    async def _cut(self, work: Work) -> None:
        for line in work.waiting.values():
            if line.task_id in self._journal.live:
                with suppress(AsyncsvcError):
                    await self._control.cancel(line.task_id)

    async def _lose(self, work: Work) -> bool:
        """The input was deleted under way: what has begun is finished, the rest cannot be read."""
        error = fault("input_file_deleted", "the input file was deleted")
        error["line"] = work.batch.line + 1
        await self._move(work, replace(work.batch, total=work.batch.line, errors=[error]))
        return True

    async def _finish(self, work: Work) -> None:
        batch, now = work.batch, self._journal.now()
        end = "failed" if batch.errors else _ENDS[batch.state]
        keep_ms = round(self._settings.storage.retention_days * DAY_MS)
        expires = now + keep_ms if keep_ms else None
        pieces = [
            FileReady(file_id, expires)
            for file_id, size in zip(batch.files, batch.written, strict=True)
            if size
        ]
        await self._move(work, batch.entered("finalizing", now).entered(end, now), pieces)
        self._files.swept()

    # What a step is made of -------------------------------------------------------------------

    async def _read(self, work: Work, most: int) -> tuple[list[Read], int]:
        inputs = await self._inputs(work.batch)
        return await inputs.some(work.batch.offset, work.batch.line, most)

    async def _inputs(self, batch: Batch) -> Inputs:
        """The lines of the batch's input file. Raises NotFound."""
        found = await self._files.get(SERVICE, batch.input_file_id)
        return Inputs(self._files.store, found.n, self._settings.queue.max_task_bytes)

    def _written(
        self,
        batch: Batch,
        done: Sequence[tuple[str, Any]],
        failed: Sequence[tuple[str, Any]],
    ) -> tuple[Batch, list[Row]]:
        """The batch with these answers in its files, and what writes them there."""
        pieces, written, now = list[Row](), list(batch.written), self._journal.now()
        for which, (answers, name) in enumerate(((done, "output"), (failed, "errors"))):
            if not answers:
                continue
            data = b"".join(output_line(custom_id, answer) for custom_id, answer in answers)
            file_id, at = batch.files[which], written[which]
            if not at:
                filename = f"{batch.id}_{name}.jsonl"
                pieces.append(FileAdded(file_id, filename, PURPOSE, GROWING, now, batch.owner))
            pieces.append(PieceAdded(file_id, at, data))
            written[which] = at + len(data)
        completed, failures = batch.completed + len(done), batch.failed + len(failed)
        batch = replace(batch, completed=completed, failed=failures)
        return replace(batch, written=(written[0], written[1])), pieces

    async def _move(self, work: Work, batch: Batch, pieces: Sequence[Row] = ()) -> None:
        if size := _size(pieces):
            async with self._journal.store.upkeep.room.taking(size):
                await self._journal.append(*pieces, BatchChanged(batch))
        else:
            await self._journal.append(*pieces, BatchChanged(batch))
        work.batch = batch


def _size(pieces: Sequence[Row]) -> int:
    """Bytes that the pieces may take of the disk, until they are in their place."""
    return COST * sum(len(piece.data) for piece in pieces if isinstance(piece, PieceAdded))
