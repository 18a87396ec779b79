"""Files: how they come in, and how they go.

Owns uploads under way and the removal of what is deleted or has expired. Promises that an upload
holds one piece in memory and waits for the disk with each, that nothing of a file is seen before
it is whole, that an upload which breaks off leaves nothing behind, and that a file which is
deleted while it is downloaded is still sent to its end. Never looks into a file.
"""

import asyncio
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

from asyncsvc.access import SERVICE, Caller
from asyncsvc.clock import new_id, time_of
from asyncsvc.config.settings import Settings
from asyncsvc.errors import InvalidRequest, NotFound, StorageUnavailable, TaskTooLarge
from asyncsvc.intake.admission import Key, Keys
from asyncsvc.journal.journal import Journal
from asyncsvc.scheduling.steps import shielded
from asyncsvc.storage.entries import (
    OPEN,
    File,
    FileAdded,
    FileReady,
    FileRemoved,
    PieceAdded,
    PiecesRemoved,
    Row,
)
from asyncsvc.storage.protocol import FileReads

SWEEP_S = 60.0
PREFIX = "file-"
PIECE = 256 * 1024
"""Bytes of an uploaded piece; those of an output are as large as they come."""


class Upload:
    """One file coming in: `write` what comes, then `finish`, or `abandon`."""

    def __init__(self, journal: Journal, file_id: str, most: int) -> None:
        self.id = file_id
        self.size = 0
        self._journal = journal
        self._most = most
        self._stored = 0
        self._held = bytearray()

    async def write(self, data: bytes) -> None:
        """Raises TaskTooLarge, StorageUnavailable."""
        self.size += len(data)
        if self.size > self._most:
            raise TaskTooLarge(f"the file is larger than {self._most} bytes", param="file")
        self._held += data
        while len(self._held) >= PIECE:
            await self._flush()

    async def finish(self, expires_at: int | None, beside: Sequence[Row] = ()) -> None:
        """It is whole and on the disk when this returns. Raises StorageUnavailable."""
        while self._held:
            await self._flush()
        await self._journal.append(FileReady(self.id, expires_at), *beside)

    async def abandon(self) -> None:
        """It will never be whole."""
        with suppress(StorageUnavailable):
            await self._journal.append(FileRemoved(self.id))

    async def _flush(self) -> None:
        data = bytes(self._held[:PIECE])
        await self._journal.append(PieceAdded(self.id, self._stored, data, durable=False))
        self._stored += len(data)
        del self._held[: len(data)]


class Files:
    """`open` before the first upload; `run` removes what is gone until it is cancelled."""

    def __init__(self, journal: Journal, settings: Settings, keys: Keys) -> None:
        self._journal = journal
        self._keys = keys
        self._storage = settings.storage
        self._gone = asyncio.Event()
        self._readers: Counter[int] = Counter()
        """Downloads under way, by the file's `n`."""

    @property
    def store(self) -> FileReads:
        return self._journal.store.files

    def now(self) -> int:
        return self._journal.now()

    async def upload(self, filename: str, purpose: str, owner: str | None) -> Upload:
        """Begin one. Raises StorageUnavailable."""
        now = self.now()
        upload = Upload(self._journal, PREFIX + new_id(now), self._storage.max_file_bytes)
        await self._journal.append(FileAdded(upload.id, filename, purpose, OPEN, now, owner))
        return upload

    async def take(self, upload: Upload, expires_at: int | None, key: Key | None) -> File:
        """The file of a whole upload, or the one that the key has made before; the upload is
        finished or abandoned. Raises Conflict, StorageUnavailable."""
        return await shielded(self._take(upload, expires_at, key))

    async def _take(self, upload: Upload, expires_at: int | None, key: Key | None) -> File:
        if key is None:
            await upload.finish(expires_at)
            return await self.get(SERVICE, upload.id)
        async with self._keys.once(key) as made:
            first = None if made is None else await self.store.file(made, self.now())
            if first is not None:
                await upload.abandon()
                self.swept()
                return first
            await upload.finish(expires_at, [key.made(upload.id)])
            return await self.get(SERVICE, upload.id)

    async def get(self, caller: Caller, file_id: str) -> File:
        """The file, for a caller who may see it. Raises NotFound."""
        found = await self.store.file(file_id, self.now())
        if found is None or not caller.sees(found.owner):
            raise NotFound(f"there is no file {file_id[:80]!r}", param="file_id")
        return found

    async def place(self, caller: Caller, file_id: str) -> float:
        """Where the caller's list goes on behind that file, though it may be deleted since it was
        listed. Raises InvalidRequest."""
        found: float | None = await self.store.position(file_id, caller.only)
        if found is None and file_id.startswith(PREFIX):
            at = time_of(file_id.removeprefix(PREFIX))
            if at is not None and at <= self.now():
                found = await self.store.position_at(at)
        if found is None:
            raise InvalidRequest(
                f"after: {file_id[:80]!r} is not one of our cursors: there was no such file",
                param="after",
            )
        return found

    async def delete(self, caller: Caller, file_id: str) -> None:
        """It is not seen any more when this returns; its room is given back bit by bit."""
        await self.get(caller, file_id)
        await self._journal.append(FileRemoved(file_id))
        self.swept()

    @contextmanager
    def reading(self, n: int) -> Generator[None]:
        """Keep the content of the file for as long as the block lasts."""
        self._readers[n] += 1
        try:
            yield
        finally:
            self._readers[n] -= 1
            if not self._readers[n]:
                del self._readers[n]
                self.swept()

    def swept(self) -> None:
        """Something is gone, or will go: look soon."""
        self._gone.set()

    async def open(self) -> None:
        """Give up what earlier processes were cut off in."""
        for file_id in await self.store.cut_off():
            await self._journal.append(FileRemoved(file_id))

    async def run(self) -> None:
        """Started with the service, ends when it is cancelled; raises nothing."""
        while True:
            self._gone.clear()
            idle = False
            with suppress(StorageUnavailable):
                await self._sweep()
                idle = not await self.store.expiring()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if idle else SWEEP_S):
                    await self._gone.wait()

    async def _sweep(self) -> None:
        for file_id in await self.store.overdue(self.now()):
            await self._journal.append(FileRemoved(file_id))
        while dead := await self.store.removed(self._readers):
            for n in dead:
                await self._journal.append(PiecesRemoved(n))
