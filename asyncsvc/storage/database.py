"""The database: one SQLite file, one writer, a few readers.

Owns the connections, the schema and every SQL statement on tasks and events. Promises that
`commit` is all or nothing and, where `durable`, on the disk when it returns, in the file that the
next process opens; that a task's row changes only from the version that the caller saw (a task
ends once). Never decides what may happen to a task, never checkpoints or writes from a second
connection (SQLite before 3.51.3 can corrupt a WAL that way).
"""

import sqlite3
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite

from asyncsvc import memory
from asyncsvc.errors import StorageUnavailable
from asyncsvc.storage.columns import CREATE_NEW_TASKS, SELECT_TASK, TASK_COLUMNS, EventRow, task_of
from asyncsvc.storage.connection import Writer
from asyncsvc.storage.lock import DatabaseLock, FileLock
from asyncsvc.storage.migrations import connected, look_at, unusable
from asyncsvc.storage.opened_files import OpenedFiles
from asyncsvc.storage.refusals import Refusals
from asyncsvc.storage.statements import Batch, new_tasks, write
from asyncsvc.tasks.state import UNFINISHED, Task

T = TypeVar("T")

READERS = 2
READER_STATEMENTS = 256
PAGE = 500
PAGE_BYTES = 256 * 1024
"""Events read at once, and the characters of their data; a single event may be longer. Bounds
what one follower can hold in memory."""

DATA = EventRow._fields.index("data")

_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""SQLite's lower() knows A to Z only: Python's own would look for an ä in what still has its Ä."""
PROBE = ("probe", "disk", 0, "0")
"""Something to write where all that matters is whether it can be written."""
_LAST_SEQ = "COALESCE((SELECT MAX(seq) FROM events WHERE task_n = tasks.n), 0)"
_UNFINISHED = ", ".join(f"'{state.value}'" for state in sorted(UNFINISHED))


class Store:
    """Open with `async with Store.open(path)`."""

    def __init__(
        self,
        path: Path,
        writer: Writer,
        readers: Sequence[aiosqlite.Connection],
        files: OpenedFiles,
    ) -> None:
        self.path = path
        self.files = files
        self.refusals = Refusals(path)
        self._writer = writer
        self._readers = cycle(readers)

    @classmethod
    async def open(cls, path: Path, stack: AsyncExitStack) -> Self:
        """Lock, open, check and migrate. Raises StartError with what to do about it."""
        lock = stack.enter_context(FileLock(path))
        look_at(path)
        files = OpenedFiles(path, lock, stack.enter_context(DatabaseLock(path)))
        connections = AsyncExitStack()
        stack.push_async_callback(_closed, connections, files)
        writer = await connected(path)
        connections.push_async_callback(writer.close)
        try:
            for statement in CREATE_NEW_TASKS:
                await writer.execute(statement)
            readers = [await connections.enter_async_context(_reader(path)) for _ in range(READERS)]
        except sqlite3.Error as error:
            raise unusable(path, error) from None
        files.remember()
        writer.guard, writer.guard_committed = files.check, files.check_committed
        return cls(path, writer, readers, files)

    # Writing ------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> Awaitable[None]:
        """Write it all or nothing: begun when this returns, done when it was awaited.

        Raises StorageUnavailable, after which nothing is changed.
        """
        alone = batch.only_new_tasks
        work = new_tasks(batch) if alone else partial(write, batch=batch)
        return self._committed(self._writer.transact(work, batch.durable, alone))

    async def _committed(self, writing: Awaitable[None]) -> None:
        try:
            await writing
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            raise self.refusals.of_write(error) from error
        except MemoryError:
            raise StorageUnavailable("there is no memory left for this write") from None

    async def forget_calls(self, before: int) -> None:
        """Drop the starts that no window reaches back to. Call it from the writing task only."""
        with suppress(sqlite3.Error):
            await self._writer.execute("DELETE FROM calls WHERE at < ?", (before,))

    async def chore(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Small work on the write connection, without fsync. From the writing task only."""
        try:
            return await self._writer.relaxed(work)
        except sqlite3.Error as error:
            raise self.refusals.of_write(error) from error

    # Reading ------------------------------------------------------------------------------

    async def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows of a query, on a read connection."""
        try:
            return list(await next(self._readers).execute_fetchall(sql, values))
        except sqlite3.Error as error:
            raise self.refusals.of_read(error) from error
        except (OverflowError, UnicodeEncodeError):
            return []  # a value that SQLite cannot hold is in no row

    async def task(self, task_id: str) -> Task | None:
        rows = await self.read(f"{SELECT_TASK}, {_LAST_SEQ} FROM tasks WHERE id = ?", (task_id,))
        return task_of(rows[0], rows[0][-1]) if rows else None

    async def known(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are tasks, finished or not."""
        marks = ", ".join("?" * len(ids))
        rows = await self.read(f"SELECT id FROM tasks WHERE id IN ({marks})", list(ids))
        return {row[0] for row in rows}

    async def unfinished(self) -> list[Task]:
        """All tasks that are not finished, in order of arrival."""
        rows = await self.read(
            f"{SELECT_TASK}, {_LAST_SEQ} FROM tasks WHERE state IN ({_UNFINISHED}) ORDER BY n"
        )
        return [task_of(row, row[-1]) for row in rows]

    async def body(self, n: int) -> bytes:
        """What was asked, as JSON. Raises MemoryError where there is none to read it with."""
        rows = await self.read("SELECT body FROM bodies WHERE task_n = ?", (n,))
        found = bytes(rows[0][0]) if rows else b"{}"
        memory.expect(len(found))
        return found

    async def result(self, n: int) -> str | None:
        """What was answered. Raises MemoryError where there is none to show it with."""
        rows = await self.read("SELECT result FROM results WHERE task_n = ?", (n,))
        found = str(rows[0][0]) if rows else None
        memory.expect(len(found or ""))
        return found

    async def text_so_far(self, n: int, kind: str = "chunk") -> list[str]:
        """The data of the chunk events since the last attempt, each JSON; or those of another
        kind."""
        rows = await self.read(
            "SELECT data FROM events WHERE task_n = ?1 AND type = ?2 AND seq > COALESCE("
            "(SELECT MAX(seq) FROM events WHERE task_n = ?1 AND type = 'attempt'), 0) ORDER BY seq",
            (n, kind),
        )
        return [row[0] for row in rows]

    async def ends(self, n: int) -> list[str]:
        """The data of the status events since the last attempt, each JSON: how that ended."""
        rows = await self.read(
            "SELECT data FROM events WHERE task_n = ?1 AND type = 'status' AND seq > COALESCE("
            "(SELECT MAX(seq) FROM events WHERE task_n = ?1 AND type = 'attempt'), 0) ORDER BY seq",
            (n,),
        )
        return [row[0] for row in rows]

    async def events(self, n: int, after: int, limit: int = PAGE) -> list[EventRow]:
        """A task's events with a seq above `after`, in order."""
        rows = await self.read(
            "SELECT id, task_n, seq, type, ts, data FROM events "
            "WHERE task_n = ? AND seq > ? ORDER BY seq LIMIT ?",
            (n, after, limit),
        )
        return [EventRow(*row) for row in _within(rows)]

    async def feed(self, after_id: int, limit: int = PAGE) -> list[tuple[EventRow, str]]:
        """All tasks' events with an id above `after_id`, in order, each with its task's id."""
        rows = await self.read(
            "SELECT events.id, task_n, seq, events.type, ts, data, tasks.id FROM events "
            "JOIN tasks ON tasks.n = task_n WHERE events.id > ? ORDER BY events.id LIMIT ?",
            (after_id, limit),
        )
        return [(EventRow(*row[:6]), row[6]) for row in _within(rows)]

    async def counters(self) -> tuple[int, int]:
        """The highest task number and event id ever used."""
        rows = await self.read(
            "SELECT MAX((SELECT COALESCE(MAX(n), 0) FROM tasks), "
            "(SELECT COALESCE(MAX(task_n), 0) FROM purged), "
            "(SELECT COALESCE(MAX(last_n), 0) FROM idempotency)), "
            "COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
        )
        return rows[0][0], rows[0][1]

    async def calls_since(self, at: int) -> list[tuple[str, int, int]]:
        """(gate, ms, tokens) of the calls upstream since then, oldest first."""
        rows = await self.read(
            "SELECT gate, at, tokens FROM calls WHERE at >= ? ORDER BY at", (at,)
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def first_answer(self, key: str) -> tuple[str, str] | None:
        """(fingerprint, answer as JSON) that an idempotency key had."""
        rows = await self.read("SELECT fingerprint, answer FROM idempotency WHERE key = ?", (key,))
        return (rows[0][0], rows[0][1]) if rows else None

    async def page(
        self,
        where: dict[str, Any],
        model: str | None,
        text: str | None,
        before: int | None,
        limit: int,
    ) -> list[tuple[Task, str | None]]:
        """Tasks newest first with their result previews. `where` maps columns to values;
        `model` is the one that serves or is wanted; `text` is looked for in the previews, A to
        Z in either case; `before` is the n of the last one seen."""
        clauses = [f"tasks.{column} = ?" for column in where]
        values = list(where.values())
        if model:
            clauses.append("(name = ? OR model = ? OR (name IS NULL AND wanted_model = ?))")
            values += [model] * 3
        if text:
            clauses.append("(instr(lower(preview), ?) OR instr(lower(result_preview), ?))")
            values += [text.translate(_LOWER)] * 2
        if before is not None:
            clauses.append("tasks.n < ?")
            values.append(before)
        sql = f"{SELECT_TASK}, result_preview FROM tasks"
        sql += f" WHERE {' AND '.join(clauses)}" if clauses else ""
        rows = await self.read(f"{sql} ORDER BY tasks.n DESC LIMIT ?", [*values, limit])
        width = len(TASK_COLUMNS)
        return [(task_of(row, 0), row[width]) for row in rows]

    async def counts(self) -> list[tuple[str | None, str, int]]:
        """(name of the model, state, how many)."""
        rows = await self.read("SELECT name, state, COUNT(*) FROM tasks GROUP BY name, state")
        return [(row[0], row[1], row[2]) for row in rows]

    async def persisted_values(self, kind: str) -> list[tuple[str, int, str]]:
        """(key, ms when it was written, JSON text) of all values of a kind, oldest first."""
        sql = "SELECT key, at, value FROM kept WHERE kind = ? ORDER BY at, key"
        return [(row[0], row[1], row[2]) for row in await self.read(sql, (kind,))]

    async def persisted_value(self, kind: str, key: str) -> str | None:
        """The JSON text of one value; None where there is none."""
        sql = "SELECT value FROM kept WHERE kind = ? AND key = ?"
        rows = await self.read(sql, (kind, key))
        return str(rows[0][0]) if rows else None


@asynccontextmanager
async def _reader(path: Path) -> AsyncGenerator[aiosqlite.Connection]:
    """A read connection that has the log open already: a log which was removed would be made
    anew by the first read, and the two would not agree."""
    async with aiosqlite.connect(
        path, isolation_level=None, cached_statements=READER_STATEMENTS
    ) as reader:
        for pragma in ("query_only=1", "wal_autocheckpoint=0", "busy_timeout=5000"):
            await reader.execute_fetchall(f"PRAGMA {pragma}")
        await reader.execute_fetchall("SELECT COUNT(*) FROM sqlite_schema")
        yield reader


async def _closed(connections: AsyncExitStack, files: OpenedFiles) -> None:
    with files.sheltered():
        await connections.aclose()


def _within(rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Rows of events up to `PAGE_BYTES`; the first one in any case."""
    size = 0
    for row in rows:
        size += len(row[DATA])
        if size > PAGE_BYTES and size > len(row[DATA]):
            return
        yield row
