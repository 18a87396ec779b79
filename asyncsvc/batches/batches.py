"""Batches: a file's lines become tasks a few at a time, their answers lines of another file.

Owns the batches under way, and one loop over all of them. Promises that the lines which wait never
fill more than a part of the queue, and that a batch goes on wherever an earlier process has left
it. Never knows what a line means: the endpoints know that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from asyncsvc.access import SERVICE, Caller
from asyncsvc.batches.files import PREFIX as FILE
from asyncsvc.batches.files import Files
from asyncsvc.batches.lines import BatchEndpoint
from asyncsvc.batches.steps import DAY_MS, REST_S, Steps, Work
from asyncsvc.clock import new_id
from asyncsvc.config.settings import Settings
from asyncsvc.errors import Conflict, InvalidRequest, NotFound, QueueFull, StorageUnavailable
from asyncsvc.intake.admission import Key, Keys, fingerprint
from asyncsvc.journal.journal import Journal
from asyncsvc.scheduling.steps import shielded
from asyncsvc.storage.entries import (
    ACTIVE,
    CANCELLING,
    VALIDATING,
    Batch,
    BatchAdded,
    BatchChanged,
    BatchRemoved,
)

log = logging.getLogger(__name__)

PREFIX = "batch_"
PURPOSE = "batch"
"""Of a file that can be a batch's input."""
WINDOW = 500
"""Lines that may be tasks at once, of all batches; never more than a quarter of the queue."""
POLL_S = 0.25
ACTIVE_MOST = 100


class Batches:
    """`create`, `get`, `page` and `cancel` for clients; `begin` and `close` the work."""

    def __init__(
        self,
        journal: Journal,
        of_files: Files,
        settings: Settings,
        keys: Keys,
        steps: Callable[[Mapping[str, BatchEndpoint]], Steps],
    ) -> None:
        self._journal = journal
        self.files = of_files
        self._settings = settings
        self._keys = keys
        self._make_steps = steps
        self._works: dict[str, Work] = {}
        self._turn = asyncio.Lock()
        self._refusal = ""
        """Why the last step waits, as it was logged."""
        self._news = asyncio.Event()
        self._chores: list[asyncio.Task[None]] = []

    def begin(self, endpoints: Mapping[str, BatchEndpoint]) -> None:
        """Work until `close`."""
        self._chores = [
            asyncio.create_task(one) for one in (self._run(endpoints), self.files.run())
        ]

    async def close(self) -> None:
        """Stop between two steps, or in one: it is written or not, never half."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    # What a client can do ---------------------------------------------------------------------

    async def create(
        self,
        endpoint: str,
        input_file_id: str,
        metadata: dict[str, str] | None,
        headers: dict[str, str],
        caller: Caller,
        key: str | None = None,
    ) -> Batch:
        """Durable when it returns; with a known Idempotency-Key the batch that it has made.

        Raises RequestError, StorageUnavailable.
        """
        wanted = Batch(
            id="",
            n=0,
            state=VALIDATING,
            endpoint=endpoint,
            input_file_id=input_file_id,
            created_at=0,
            expires_at=0,
            owner=caller.owner,
            headers=headers,
            metadata=metadata,
        )
        return await shielded(self._create(caller, wanted, key))

    async def _create(self, caller: Caller, wanted: Batch, key: str | None) -> Batch:
        if key is None:
            return await self._begin(caller, wanted)
        asked = (wanted.endpoint, wanted.input_file_id, wanted.metadata, wanted.headers)
        one = Key.of(wanted.owner, key, fingerprint("batch", *asked))
        async with self._keys.once(one) as made:
            first = None if made is None else await self._journal.store.batches.find(made)
            return first or await self._begin(caller, wanted, one)

    async def _begin(self, caller: Caller, wanted: Batch, key: Key | None = None) -> Batch:
        found = await self.files.get(caller, wanted.input_file_id)
        if found.purpose != PURPOSE:
            raise InvalidRequest(
                f"input_file_id: the file {found.id} has the purpose {found.purpose}; the input of "
                f"a batch is a file that was uploaded with the purpose {PURPOSE}",
                param="input_file_id",
            )
        if len(self._works) >= ACTIVE_MOST:
            raise QueueFull(f"{ACTIVE_MOST} batches are under way", retry_after=60.0)
        now = self._journal.now()
        batch = replace(
            wanted,
            id=PREFIX + new_id(now),
            created_at=now,
            expires_at=now + DAY_MS,
            files=(FILE + new_id(now), FILE + new_id(now)),
        )
        beside = [] if key is None else [key.made(batch.id)]
        async with self._turn:
            await self._journal.append(BatchAdded(batch), *beside)
            made = await self.get(SERVICE, batch.id)
            self._works[batch.id] = Work(made)
        self._news.set()
        return made

    async def get(self, caller: Caller, batch_id: str) -> Batch:
        """The batch, for a caller who may see it. Raises NotFound."""
        found = await self._journal.store.batches.find(batch_id)
        if found is None or not caller.sees(found.owner):
            raise NotFound(f"there is no batch {batch_id[:80]!r}", param="batch_id")
        return found

    async def page(self, caller: Caller, after: str | None, limit: int) -> list[Batch]:
        """The caller's batches, newest first, `after` the batch of that id. Raises
        InvalidRequest."""
        before = None
        if after is not None:
            last = await self._journal.store.batches.find(after)
            if last is None or not caller.sees(last.owner):
                raise InvalidRequest(
                    f"after: {after[:80]!r} is not one of our cursors: there is no such batch",
                    param="after",
                )
            before = last.n
        return await self._journal.store.batches.page(caller.only, before, limit)

    async def cancel(self, caller: Caller, batch_id: str) -> Batch:
        """Its tasks are cancelled and its files finished after this returns."""
        async with self._turn:
            batch = await self.get(caller, batch_id)
            if batch.state in (CANCELLING, "cancelled"):
                return batch
            work = self._works.get(batch_id)
            if work is None or batch.state not in ACTIVE:
                raise Conflict("illegal_transition", f"a batch that is {batch.state} has ended")
            ending = work.batch.entered(CANCELLING, self._journal.now())
            await self._journal.append(BatchChanged(ending))
            work.batch = ending
        self._news.set()
        return work.batch

    # The loop ---------------------------------------------------------------------------------

    async def _run(self, endpoints: Mapping[str, BatchEndpoint]) -> None:
        """Ends when it is cancelled; raises nothing."""
        steps = self._make_steps(endpoints)
        opened = False
        while True:
            if not opened and not (opened := await self._patiently(self._open())):
                await asyncio.sleep(REST_S)
                continue
            self._news.clear()
            busy = False
            for work in list(self._works.values()):
                async with self._turn:
                    busy |= await self._patiently(steps.advance(work, self._share()))
                    if work.batch.state not in ACTIVE:
                        del self._works[work.batch.id]
            if busy:
                await asyncio.sleep(0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S if self._works else None):
                    await self._news.wait()

    async def _patiently(self, step: Awaitable[bool]) -> bool:
        """What the disk refuses is tried again; a fault of ours must not end all batches."""
        try:
            done = await step
            self._refusal = ""
            return done
        except StorageUnavailable as error:
            if str(error) != self._refusal:  # once, however often it is tried again
                log.warning("batches wait: %s", error)
            self._refusal = str(error)
        except Exception:
            log.exception("a fault of ours while a batch was under way")
            await asyncio.sleep(REST_S)
        return False

    async def _open(self) -> bool:
        """Take up what earlier processes have left."""
        stored = self._journal.store.batches
        keep_ms = round(self._settings.storage.retention_days * DAY_MS)
        before = self._journal.now() - keep_ms - DAY_MS
        for n in await stored.old(before) if keep_ms else ():
            await self._journal.append(BatchRemoved(n))
        for batch in await stored.active():
            waiting = {line.number: line for line in await stored.lines(batch.n)}
            self._works[batch.id] = Work(batch, waiting)
        return True

    def _share(self) -> int:
        """Lines of one batch that may be tasks at once."""
        most = min(WINDOW, self._settings.queue.max_length // 4)
        return max(1, most // max(1, len(self._works)))
