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
from asyncsvc.storage.room import MB

SWEEP_S = 60.0
PREFIX = "file-"
PIECE = 256 * 1024
"""Bytes of an uploaded piece; those of an output are as large as they come."""
COST = 2
"""A piece is written to the log first, then to its place."""
QUOTA_EVERY = 16
"""Pieces of an upload between two looks at what its owner's files hold together."""


class Upload:
    """One file coming in: `write` what comes, then `finish`, or `abandon`."""

    def __init__(self, files: "Files", journal: Journal, file_id: str, owner: str | None) -> None:
        self.id = file_id
        self.owner = owner
        self.size = 0
        self._files = files
        self._journal = journal
        self._room = journal.store.upkeep.room
        self._most = files.largest
        self._pieces = 0
        self._stored = 0
        self._held = bytearray()

    async def write(self, data: bytes) -> None:
        """Raises TaskTooLarge, StorageUnavailable, NoRoom."""
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
        await self._files.check_quota(self.owner, 0)
        await self._journal.append(FileReady(self.id, expires_at), *beside)

    async def abandon(self) -> None:
        """It will never be whole."""
        with suppress(StorageUnavailable):
            await self._journal.append(FileRemoved(self.id))

    async def _flush(self) -> None:
        data = bytes(self._held[:PIECE])
        if self._pieces % QUOTA_EVERY == 0:
            await self._files.check_quota(self.owner, len(data))
        self._pieces += 1
        async with self._room.taking(COST * len(data)):
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

    @property
    def largest(self) -> int:
        """Bytes of the largest file."""
        return self._storage.max_file_bytes

    async def check_quota(self, owner: str | None, more: int) -> None:
        """Raises TaskTooLarge where the owner's files and `more` bytes would be beyond the
        quota."""
        most = self._storage.max_files_mb * MB
        if most and (held := await self.store.held(owner)) + more > most:
            raise TaskTooLarge(
                f"your files hold {held / MB:.1f} MB, and with this one more than the "
                f"{most // MB} MB of storage.max_files_mb; delete some first",
                param="file",
            )

    async def upload(self, filename: str, purpose: str, owner: str | None) -> Upload:
        """Begin one. Raises StorageUnavailable, NoRoom, TaskTooLarge."""
        now = self.now()
        await self.check_quota(owner, 0)
        upload = Upload(self, self._journal, PREFIX + new_id(now), owner)
        async with self._journal.store.upkeep.room.taking(PIECE):
            pass  # or a large body would be received for nothing
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
