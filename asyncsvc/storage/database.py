"""The store in one SQLite file: one writer, a few readers, and readers of their own for long texts
and for slow queries.

Owns the connections, the schema, the numbers of events and the reads of tasks and events.
Promises that `commit` is all or nothing and, where `durable`, on the disk when it returns, in the
file that the next process opens; that a task's row changes only from the version and the epoch
that the caller saw (a task ends once). Never decides what may happen to a task, never checkpoints
or writes from a second connection (SQLite before 3.51.3 can corrupt a WAL that way).
"""

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import aiosqlite

from asyncsvc import memory
from asyncsvc.errors import StorageUnavailable
from asyncsvc.loop_turns import LoopTurns
from asyncsvc.storage import own_files
from asyncsvc.storage.columns import (
    BODY,
    CREATE_NEW_TASKS,
    RESULT,
    SELECT_TASK,
    TASK_COLUMNS,
    task_of,
)
from asyncsvc.storage.connection import READ_PRAGMAS, Reader, Writer
from asyncsvc.storage.entries import Commit, EventRow, loads
from asyncsvc.storage.files import SQLiteBatches, SQLiteFiles
from asyncsvc.storage.lock import DatabaseLock, FileLock, OpenedFiles
from asyncsvc.storage.migrations import connected, length, look_at, unusable
from asyncsvc.storage.protocol import (
    PAGE,
    BatchReads,
    DeliveryReads,
    FileReads,
    TextReads,
    Upkeep,
    WaitReads,
)
from asyncsvc.storage.refusals import Refusals
from asyncsvc.storage.slow_reads import AT_ONCE, SlowReads
from asyncsvc.storage.statements import new_tasks, only_new_tasks, write
from asyncsvc.storage.texts import SQLiteTexts
from asyncsvc.storage.upkeep import Execute, SQLiteUpkeep
from asyncsvc.storage.waits import SQLiteWaits
from asyncsvc.storage.webhooks import SQLiteDeliveries
from asyncsvc.tasks.state import UNFINISHED, Task

VERSION = sqlite3.sqlite_version
READERS = 2
DELETE_LEFT_PARTS = (
    "DELETE FROM body_parts WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE id = task_id)"
)
"""Parts of bodies whose task was never stored: the process ended in between."""
READER_STATEMENTS = 256
EXPORTED_TASKS = 200
EXPORTED_BYTES = 4 << 20
"""Texts of one read of an export, unless one task alone has more."""

DATA = EventRow._fields.index("data")
INDEXED = (("state",), ("session_id",), ("owner",), ("id",))
"""Filters with an index of their own, which lists the newest tasks at once. Any other may have to
look at all tasks for one that fits."""

LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""SQLite's lower() knows A to Z only: Python's own would look for an ä in what still has its Ä."""
_LAST_SEQ = "COALESCE((SELECT MAX(seq) FROM events WHERE task_n = tasks.n), 0)"
_UNFINISHED = ", ".join(f"'{state.value}'" for state in sorted(UNFINISHED))
_FILTERS = {
    "error_code": "(tasks.state = 'paused' AND json_extract(tasks.error, '$.code') = ?)",
    # Looks through the index of ids, which is a twentieth of the rows.
    "id_ends": "tasks.n IN (SELECT n FROM tasks WHERE substr(id, -length(?)) = ?)",
}
"""Filters that are no column, with the value once for each place."""


class Database:
    """`Store` in SQLite. Open it with `await Database.open(path, stack)`."""

    def __init__(
        self,
        path: Path,
        writer: Writer,
        readers: Sequence[aiosqlite.Connection],
        aside: Sequence[Reader],
        opened: OpenedFiles,
    ) -> None:
        self.path = path
        self.node = ""
        self.refusals = Refusals(path)
        self.files: FileReads = SQLiteFiles(self._read)
        self.batches: BatchReads = SQLiteBatches(self._read)
        self.deliveries: DeliveryReads = SQLiteDeliveries(self._read)
        connections: list[Execute] = [reader.execute_fetchall for reader in readers]
        connections += [connection.execute for connection in (writer, *aside)]
        self.upkeep: Upkeep = SQLiteUpkeep(
            path, writer, self._read, connections, opened, self.refusals
        )
        self.searches = SlowReads("searches", aside[:AT_ONCE])
        self.scans = SlowReads("counts and filters", aside[AT_ONCE : 2 * AT_ONCE])
        self._texts = SQLiteTexts(aside[2 * AT_ONCE :], self.refusals)
        self.texts: TextReads = self._texts
        self.waits: WaitReads = SQLiteWaits(self._scan)
        self.writer = writer
        self.readers = cycle(readers)
        self._event_id = 0
        self._turns = LoopTurns()
        """Of the rows that become tasks."""

    @classmethod
    async def open(cls, path: Path, stack: AsyncExitStack) -> Self:
        """Lock, open, check and migrate. Raises StartError with what to do about it."""
        lock = stack.enter_context(FileLock(path))
        look_at(path)
        opened = OpenedFiles(path, lock, stack.enter_context(DatabaseLock(path)))
        connections = AsyncExitStack()
        stack.push_async_callback(_closed, connections, opened)
        writer = await connected(path)
        connections.push_async_callback(writer.close)
        own_files.close_to_others(path)  # now it is known to be ours
        try:
            for statement in (*CREATE_NEW_TASKS, DELETE_LEFT_PARTS):
                await writer.execute(statement)
            enter = connections.enter_async_context
            readers = [await enter(_reader(path)) for _ in range(READERS)]
            aside = [await enter(Reader.opened(path)) for _ in range(2 * AT_ONCE + READERS)]
        except sqlite3.Error as error:
            raise unusable(path, error) from None
        own_files.check(path)
        opened.remember()
        opened.settled(await writer.run(length))
        writer.guard, writer.guard_committed = opened.check, opened.check_committed
        store = cls(path, writer, readers, aside, opened)
        store.node = loads(await store.persisted_value("node", "id") or '""')
        _, store._event_id = await store.counters()
        return store

    def commit(self, commit: Commit) -> Awaitable[None]:
        for event in commit.events:
            self._event_id += 1
            event.id = self._event_id
        alone = bool(commit.created) and only_new_tasks(commit)
        work = new_tasks(commit) if alone else partial(write, commit=commit)
        return self._committed(self.writer.transact(work, commit.durable, alone), commit)

    async def _committed(self, writing: Awaitable[None], commit: Commit) -> None:
        try:
            await writing
        except BaseException as error:
            self._event_id -= len(commit.events)  # the numbers of a refused commit are given again
            if isinstance(error, sqlite3.Error | OverflowError | UnicodeEncodeError):
                raise self.refusals.of_write(error) from error
            if isinstance(error, MemoryError):
                raise StorageUnavailable("there is no memory left for this write") from None
            raise

    async def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows of a query, on a read connection."""
        return await self._rows(next(self.readers).execute_fetchall(sql, values))

    async def _search(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Rows of a query that looks into the texts of tasks. Raises ReadTooSlow."""
        return await self._rows(self.searches(sql, values))

    async def _scan(self, sql: str, values: Sequence[Any] = (), limited: bool = True) -> list[Any]:
        """Rows of a query that may go over all tasks. Raises ReadTooSlow where it is `limited`."""
        return await self._rows(self.scans(sql, values, limited))

    async def _rows(self, reading: Awaitable[Iterable[Any]]) -> list[Any]:
        try:
            return list(await reading)
        except sqlite3.Error as error:
            raise self.refusals.of_read(error) from error
        except (OverflowError, UnicodeEncodeError):
            return []  # a value that SQLite cannot hold is in no row

    async def task(self, task_id: str) -> Task | None:
        rows = await self._read(f"{SELECT_TASK}, {_LAST_SEQ} FROM tasks WHERE id = ?", (task_id,))
        return task_of(rows[0], rows[0][-1]) if rows else None

    async def known(self, ids: Collection[str]) -> set[str]:
        marks = ", ".join("?" * len(ids))
        rows = await self._read(f"SELECT id FROM tasks WHERE id IN ({marks})", list(ids))
        return {row[0] for row in rows}

    async def unfinished(self) -> list[Task]:
        rows = await self._read(
            f"{SELECT_TASK}, {_LAST_SEQ} FROM tasks WHERE state IN ({_UNFINISHED}) ORDER BY n"
        )
        return [task_of(row, row[-1]) for row in rows]

    async def body(self, n: int) -> bytes:
        rows = await self._read(
            "SELECT body, 0 AS at FROM bodies WHERE task_n = ?1 UNION ALL "
            "SELECT part, at FROM body_parts WHERE task_id = "
            "(SELECT id FROM tasks JOIN bodies ON task_n = n WHERE n = ?1 AND rest > 0) "
            "ORDER BY at",
            (n,),
        )
        found = b"".join([row[0] for row in rows]) or b"{}"
        memory.expect(len(found))
        return found

    async def result(self, n: int) -> str | None:
        rows = await self._read(
            "SELECT result, 0 AS at FROM results WHERE task_n = ?1 UNION ALL "
            "SELECT part, at FROM result_parts WHERE task_n = ?1 AND "
            "(SELECT rest > 0 FROM results WHERE task_n = ?1) ORDER BY at",
            (n,),
        )
        found = "".join([row[0] for row in rows]) if rows else None
        memory.expect(len(found or ""))
        return found

    async def since_attempt(self, n: int, kind: str = "chunk") -> list[str]:
        rows = await self._read(
            "SELECT data FROM events WHERE task_n = ?1 AND type = ?2 AND seq > COALESCE("
            "(SELECT MAX(seq) FROM events WHERE task_n = ?1 AND type IN ('attempt', 'step')), 0) "
            "ORDER BY seq",
            (n, kind),
        )
        return [row[0] for row in rows]

    async def events(self, n: int, after: int, limit: int = PAGE) -> list[EventRow]:
        rows = await self._texts.page(
            "SELECT id, task_n, seq, type, ts, data FROM events "
            "WHERE task_n = ? AND seq > ? ORDER BY seq LIMIT ?",
            (n, after, limit),
            DATA,
        )
        return [EventRow(*row) for row in rows]

    async def feed(
        self, after_id: int, limit: int = PAGE
    ) -> list[tuple[EventRow, str, str | None]]:
        rows = await self._texts.page(
            "SELECT events.id, task_n, seq, events.type, ts, data, tasks.id, owner "
            "FROM events JOIN tasks ON tasks.n = task_n "
            "WHERE events.id > ? ORDER BY events.id LIMIT ?",
            (after_id, limit),
            DATA,
        )
        return [(EventRow(*row[:6]), row[6], row[7]) for row in rows]

    async def counters(self) -> tuple[int, int]:
        rows = await self._read(
            "SELECT MAX((SELECT COALESCE(MAX(n), 0) FROM tasks), "
            "(SELECT COALESCE(MAX(task_n), 0) FROM purged), "
            "(SELECT COALESCE(MAX(last_n), 0) FROM idempotency)), "
            "COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
        )
        return rows[0][0], rows[0][1]

    async def calls_since(self, at: int) -> list[tuple[str, int, int]]:
        rows = await self._read(
            "SELECT gate, at, tokens FROM calls WHERE at >= ? ORDER BY at", (at,)
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def first_answer(self, key: str) -> tuple[str, str] | None:
        rows = await self._read("SELECT fingerprint, answer FROM idempotency WHERE key = ?", (key,))
        return (rows[0][0], rows[0][1]) if rows else None

    async def page(
        self,
        where: dict[str, Any],
        model: str | None,
        text: str | None,
        before: int | None,
        limit: int,
        ended: bool = False,
    ) -> list[tuple[Task, str | None]]:
        clauses, values = ["tasks.finished_at IS NOT NULL"] if ended else [], list[Any]()
        for column, value in where.items():
            clauses.append(_clause(column, value))
            several = isinstance(value, tuple)
            values += list(value) if several else [value] * clauses[-1].count("?")
        if model:
            clauses.append("(name = ? OR model = ? OR (name IS NULL AND wanted_model = ?))")
            values += [model] * 3
        if text:
            clauses.append("(instr(lower(preview), ?) OR instr(lower(result_preview), ?))")
            values += [text.translate(LOWER)] * 2
        if before is not None:
            clauses.append("tasks.n < ?")
            values.append(before)
        sql = f"{SELECT_TASK}, result_preview FROM tasks"
        sql += f" WHERE {' AND '.join(clauses)}" if clauses else ""
        searches = text or "id_ends" in where
        indexed = goes_by_index(where, model, ended)
        read = self._search if searches else self._read if indexed else self._scan
        order = "tasks.finished_at DESC, tasks.n DESC" if ended else "tasks.n DESC"
        rows = await read(f"{sql} ORDER BY {order} LIMIT ?", [*values, limit])
        width = len(TASK_COLUMNS)
        return await self._turns.of_each(lambda row: (task_of(row, 0), row[width]), rows)

    async def counts(self, owner: str | None) -> list[tuple[str | None, str, int]]:
        of_owner, values = ("", ()) if owner is None else ("WHERE owner = ?", (owner,))
        sql = f"SELECT name, state, COUNT(*) FROM tasks {of_owner} GROUP BY name, state"
        rows = await self._scan(sql, values)
        return [(row[0], row[1], row[2]) for row in rows]

    async def persisted_values(self, kind: str) -> list[tuple[str, int, str]]:
        sql = "SELECT key, at, value FROM kept WHERE kind = ? ORDER BY at, key"
        return [(row[0], row[1], row[2]) for row in await self._read(sql, (kind,))]

    async def persisted_value(self, kind: str, key: str) -> str | None:
        sql = "SELECT value FROM kept WHERE kind = ? AND key = ?"
        rows = await self._read(sql, (kind, key))
        return str(rows[0][0]) if rows else None

    async def exported(
        self, after: int, state: str | None, owner: str | None
    ) -> list[tuple[Task, bytes, str | None, list[tuple[str, str]]]]:
        unlimited = partial(self._scan, limited=False)
        where = "AND state = ?2" if state else "AND ?2 IS NULL"
        where += " AND ?3 IS NULL" if owner is None else " AND owner = ?3"
        sizes = await unlimited(
            "SELECT n, LENGTH(body) + bodies.rest + COALESCE(LENGTH(result) + results.rest, 0) "
            "FROM tasks "
            "JOIN bodies ON bodies.task_n = n LEFT JOIN results ON results.task_n = n "
            f"WHERE n > ?1 {where} ORDER BY n LIMIT {EXPORTED_TASKS}",
            (after, state, owner),
        )
        last, held = after, 0
        for n, size in sizes:
            if last > after and held + size > EXPORTED_BYTES:
                break
            last, held = n, held + size
        rows = await unlimited(
            f"{SELECT_TASK}, {BODY}, {RESULT} FROM tasks JOIN bodies ON bodies.task_n = n "
            f"LEFT JOIN results ON results.task_n = n WHERE n > ?1 {where} AND n <= ?4 ORDER BY n",
            (after, state, owner, last),
        )
        if sizes and not rows:  # all of them were deleted meanwhile
            return await self.exported(last, state, owner)
        events: dict[int, list[tuple[str, str]]] = {}
        for n, kind, data in await unlimited(
            "SELECT task_n, type, data FROM events WHERE task_n > ? AND task_n <= ? "
            "AND type IN ('attempt', 'tool_call', 'message') ORDER BY task_n, seq",
            (after, last),
        ):
            events.setdefault(n, []).append((kind, data))
        width = len(TASK_COLUMNS)
        tasks = [(task_of(row, 0), row[width], row[width + 1]) for row in rows]
        return [(*found, events.get(found[0].n, [])) for found in tasks]

    async def response_request(self, task_id: str) -> dict[str, Any] | None:
        rows = await self._read(
            "SELECT request FROM responses WHERE task_n = (SELECT n FROM tasks WHERE id = ?)",
            (task_id,),
        )
        found: dict[str, Any] | None = loads(rows[0][0]) if rows else None
        return found


def goes_by_index(where: Mapping[str, Any], model: str | None, ended: bool) -> bool:
    """Whether a page with these filters is read by an index, and does not go over all tasks."""
    if model or not where:
        return not model
    ((column, value), *more) = where.items()
    return (column,) in INDEXED and not (more or ended or isinstance(value, tuple))


def _clause(column: str, value: Any) -> str:
    """The condition of a filter; a tuple has several values, of which any fits."""
    if isinstance(value, tuple):
        return f"tasks.{column} IN ({', '.join('?' * len(value))})"
    return _FILTERS.get(column, f"tasks.{column} = ?")


@asynccontextmanager
async def _reader(path: Path) -> AsyncGenerator[aiosqlite.Connection]:
    """A read connection that has the log open already: a log which was removed would be made
    anew by the first read, and the two would not agree."""
    async with aiosqlite.connect(
        path, isolation_level=None, cached_statements=READER_STATEMENTS
    ) as reader:
        for pragma in READ_PRAGMAS:
            await reader.execute_fetchall(f"PRAGMA {pragma}")
        await reader.execute_fetchall("SELECT COUNT(*) FROM sqlite_schema")
        yield reader


async def _closed(connections: AsyncExitStack, opened: OpenedFiles) -> None:
    with opened.sheltered():
        await connections.aclose()
