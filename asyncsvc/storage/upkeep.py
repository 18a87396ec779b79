"""Upkeep of the database: its files' state, and the removal of what is old in small steps.

Owns the SQL that removes finished tasks, stale values and the write-ahead log's length.
Promises that a step touches a bounded number of rows and bytes, and that a task goes from
sight at once and wholly: its events, of which there may be many, are removed afterwards, and a
crash in between leaves nothing that a client can see. Never decides what is old enough, never
runs by itself: the journal calls it between two commits.

Free pages are used again, and most of them are given back to the disk bit by bit: as many as a
file may have in use again soon stay in it. A file of an older version, which cannot give any back,
is written anew by `backup` and `restore`.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from asyncsvc.storage.connection import Read, Writer
from asyncsvc.storage.lock import OpenedFiles
from asyncsvc.storage.migrations import length
from asyncsvc.storage.refusals import Refusals
from asyncsvc.storage.room import DiskRoom
from asyncsvc.storage.statements import delete_tasks

T = TypeVar("T")
Execute = Callable[[str], Awaitable[Any]]
"""Runs a statement on one connection."""

TASKS_AT_ONCE = 50
EVENTS_AT_ONCE = 500
BYTES_AT_ONCE = 4 * 1024 * 1024
"""Of bodies and long results: a task of 10 MB goes alone."""
KEPT_AT_ONCE = 200
SHRINK_PAGES = 64
"""Pages moved and cut off in one step: a quarter of a megabyte, some milliseconds."""
SPARE_PAGES, SPARE_SHARE = 256, 16
"""Free pages that stay in the file: a megabyte, or one part in so many where that is more."""
WAL_BYTES = 16 * 1024 * 1024
"""A longer log is cut when all of it has been copied."""
CUT_WAIT_MS = 20
IDLE_WITHIN_S = 1.0
"""How long the connections are waited for that are to free their caches."""


class SQLiteUpkeep:
    """`Upkeep` of a SQLite file."""

    def __init__(
        self,
        path: Path,
        writer: Writer,
        read: Read,
        connections: Sequence[Execute],
        opened: OpenedFiles,
        refusals: Refusals,
    ) -> None:
        self.room = DiskRoom(path)
        self.fault = opened.fault
        self.check = opened.check
        self.note = refusals.note
        self._path = path
        self._writer = writer
        self._read = read
        self._connections = connections
        self._releasing: asyncio.Future[list[object]] | None = None
        self._opened = opened
        self._refusals = refusals

    @property
    def damage(self) -> str | None:
        return self._refusals.damage

    async def forget_calls(self, before: int) -> None:
        with suppress(sqlite3.Error):  # they cost only room
            await self._writer.execute("DELETE FROM calls WHERE at < ?", (before,))

    async def purge(self, before: int) -> int:
        return await self.run(partial(purge, before=before))

    async def forget(self, kind: str, before: int) -> int:
        return await self.run(partial(forget, kind=kind, before=before))

    async def look_at_pages(self) -> None:
        rows = await self._read(
            "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
        )
        self.room.free_pages = int(rows[0][0])

    async def release_memory(self) -> None:
        if self._releasing is None or self._releasing.done():
            done = [execute("PRAGMA shrink_memory") for execute in self._connections]
            self._releasing = asyncio.gather(*done, return_exceptions=True)
        await asyncio.wait({self._releasing}, timeout=IDLE_WITHIN_S)

    async def shrink(self) -> int:
        return await self.run(partial(shrink, expect=self._opened.expect))

    async def shorten_log(self) -> bool:
        return await self.run(partial(shorten_log, path=self._path, settled=self._opened.settled))

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Small work on the write connection, without fsync."""
        try:
            return await self._writer.relaxed(work)
        except sqlite3.Error as error:
            raise self._refusals.of_write(error) from error


def purge(db: sqlite3.Connection, before: int) -> int:
    """One step: remove some of what finished before that time (ms). How many rows went; 0 when
    nothing is left to do."""
    db.execute("BEGIN IMMEDIATE")
    count = _events(db)
    if count < EVENTS_AT_ONCE:
        count += _tasks(db, before)
    db.execute("COMMIT")
    return count


def _events(db: sqlite3.Connection) -> int:
    cursor = db.execute(
        "DELETE FROM events WHERE id IN (SELECT events.id FROM purged "
        "JOIN events ON events.task_n = purged.task_n LIMIT ?)",
        (EVENTS_AT_ONCE,),
    )
    if cursor.rowcount < EVENTS_AT_ONCE:
        db.execute("DELETE FROM purged")  # of all of them nothing is left
    return cursor.rowcount


def _tasks(db: sqlite3.Connection, before: int) -> int:
    rows = db.execute(
        "SELECT n, COALESCE((SELECT LENGTH(body) + rest FROM bodies WHERE task_n = n), 0) + "
        "COALESCE((SELECT rest FROM results WHERE task_n = n), 0) FROM tasks "
        "WHERE finished_at IS NOT NULL AND finished_at < ? ORDER BY finished_at LIMIT ?",
        (before, TASKS_AT_ONCE),
    )
    doomed: list[tuple[int]] = []
    size = 0
    for n, bytes_of_body in rows:
        size += bytes_of_body
        if doomed and size > BYTES_AT_ONCE:
            break
        doomed.append((n,))
    if doomed:
        db.executemany("INSERT INTO purged VALUES (?)", doomed)
        delete_tasks(db, doomed)
    return len(doomed)


def forget(db: sqlite3.Connection, kind: str, before: int) -> int:
    """One step: drop some of the values of that kind that are older than `before` (ms)."""
    cursor = db.execute(
        "DELETE FROM kept WHERE kind = ?1 AND key IN "
        "(SELECT key FROM kept WHERE kind = ?1 AND at < ?2 LIMIT ?3)",
        (kind, before, KEPT_AT_ONCE),
    )
    return cursor.rowcount


def shrink(db: sqlite3.Connection, expect: Callable[[int], None]) -> int:
    """One step: cut free pages off the file's end, after others have taken their place. The file
    is shorter at the next checkpoint; `expect` is given the least bytes that it may have then."""
    pages, free, size, mode = db.execute(
        "SELECT page_count, freelist_count, page_size, auto_vacuum FROM pragma_page_count, "
        "pragma_freelist_count, pragma_page_size, pragma_auto_vacuum"
    ).fetchone()
    spare = max(SPARE_PAGES, pages // SPARE_SHARE)
    if not mode or free <= spare:
        return 0
    count = min(SHRINK_PAGES, int(free - spare))
    expect((pages - 2 * count) * size)  # pages that say where others lie go as well
    # Each page is a step of the statement, and `execute` makes one step where no column comes.
    db.executescript(f"PRAGMA incremental_vacuum({count})")
    return count


def shorten_log(db: sqlite3.Connection, path: Path, settled: Callable[[int], None]) -> bool:
    """Copy the log into the database, and cut it where it is long and no reader uses it.

    Waits for no reader: one that is in the middle of something makes this another time's work.
    """
    busy, in_log, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if not busy and copied == in_log:
        settled(length(db))
    log = path.with_name(f"{path.name}-wal")
    if busy or copied < in_log or not log.exists() or log.stat().st_size <= WAL_BYTES:
        return False
    timeout_ms = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute(f"PRAGMA busy_timeout={CUT_WAIT_MS}")
    try:
        (blocked, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout={timeout_ms}")
    return not blocked
