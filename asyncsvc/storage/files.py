"""Files in pieces, and batches of lines that become tasks: the tables `files`, `pieces`,
`batches` and `batch_lines`.

Owns their statements. Promises that a file is seen only when it is whole, that no statement
touches more than a few pieces (no commit is held up long because of a large file), and that a
batch's state, its lines and the pieces of its files are written together with the tasks that they
are about. Never holds more than a piece in memory, never decides what a batch does next.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson

from asyncsvc.storage.connection import Read
from asyncsvc.storage.entries import (
    ACTIVE,
    Batch,
    BatchAdded,
    BatchChanged,
    BatchRemoved,
    File,
    FileAdded,
    FileReady,
    FileRemoved,
    Line,
    PieceAdded,
    PiecesRemoved,
    loads,
)
from asyncsvc.storage.statements import write_row

PAGE_BYTES = 4096
"""The least that a file takes: a page of the database."""
GONE_AT_ONCE = 8
"""Pieces deleted in one transaction: two megabytes, some milliseconds."""
_COLUMNS = "n, id, filename, purpose, state, bytes, created_at, expires_at, owner"
_ACTIVE = ", ".join(f"'{state}'" for state in ACTIVE)


@write_row.register
def _(row: FileAdded, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO files (id, filename, purpose, state, bytes, created_at, owner) "
        "VALUES (?, ?, ?, ?, 0, ?, ?)",
        (row.id, row.filename, row.purpose, row.state, row.at, row.owner),
    )


@write_row.register
def _(row: PieceAdded, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO pieces SELECT n, ?, ? FROM files WHERE id = ?",
        (row.offset, row.data, row.file_id),
    )
    length = row.offset + len(row.data)
    connection.execute("UPDATE files SET bytes = ? WHERE id = ?", (length, row.file_id))


@write_row.register
def _(row: FileReady, connection: sqlite3.Connection) -> None:
    sql = "UPDATE files SET state = 'ready', expires_at = ? WHERE id = ? AND state <> 'gone'"
    connection.execute(sql, (row.expires_at, row.file_id))


@write_row.register
def _(row: FileRemoved, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE files SET state = 'gone' WHERE id = ?", (row.file_id,))


@write_row.register
def _(row: PiecesRemoved, connection: sqlite3.Connection) -> None:
    last = "SELECT at FROM pieces WHERE file_n = ?1 ORDER BY at DESC LIMIT ?2"
    sql = f"DELETE FROM pieces WHERE file_n = ?1 AND at IN ({last})"
    if not connection.execute(sql, (row.file_n, GONE_AT_ONCE)).rowcount:
        connection.execute("DELETE FROM files WHERE n = ?", (row.file_n,))


class SQLiteFiles:
    """`FileReads` from SQLite."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def expiring(self) -> bool:
        sql = "SELECT EXISTS (SELECT 1 FROM files WHERE expires_at IS NOT NULL)"
        return bool((await self._read(sql))[0][0])

    async def overdue(self, at: int) -> list[str]:
        sql = "SELECT id FROM files WHERE expires_at < ? AND state = 'ready' LIMIT 100"
        return [row[0] for row in await self._read(sql, (at,))]

    async def cut_off(self) -> list[str]:
        return [row[0] for row in await self._read("SELECT id FROM files WHERE state = 'open'")]

    async def file(self, file_id: str, at: int) -> File | None:
        sql = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND state = 'ready'"
        rows = [File(*row) for row in await self._read(sql, (file_id,))]
        return rows[0] if rows and (rows[0].expires_at or at) >= at else None

    async def page(
        self,
        owner: str | None,
        purpose: str | None,
        after: float | None,
        oldest_first: bool,
        limit: int,
        at: int,
    ) -> list[File]:
        clauses = ["state = 'ready'", "COALESCE(expires_at, ?) >= ?"]
        values: list[Any] = [at, at]
        if owner is not None:
            clauses.append("owner = ?")
            values.append(owner)
        if purpose is not None:
            clauses.append("purpose = ?")
            values.append(purpose)
        if after is not None:
            clauses.append("n > ?" if oldest_first else "n < ?")
            values.append(after)
        order = "ASC" if oldest_first else "DESC"
        sql = f"SELECT {_COLUMNS} FROM files WHERE {' AND '.join(clauses)} ORDER BY n {order}"
        return [File(*row) for row in await self._read(f"{sql} LIMIT ?", (*values, limit))]

    async def held(self, owner: str | None) -> int:
        whose = "owner IS NULL" if owner is None else "owner = ?2"
        sql = (
            f"SELECT COALESCE(SUM(MAX(bytes, ?1)), 0) FROM files WHERE state <> 'gone' AND {whose}"
        )
        values = (PAGE_BYTES,) if owner is None else (PAGE_BYTES, owner)
        return int((await self._read(f"{sql} AND {whose}", values))[0][0])

    async def position(self, file_id: str, owner: str | None) -> int | None:
        sql = "SELECT n FROM files WHERE id = ?1 AND COALESCE(?2, owner, '') = COALESCE(owner, '')"
        rows = await self._read(sql, (file_id, owner))
        return int(rows[0][0]) if rows else None

    async def position_at(self, at: int) -> float:
        sql = "SELECT COALESCE(MAX(n), 0) FROM files WHERE created_at <= ?"
        return float((await self._read(sql, (at,)))[0][0]) + 0.5

    async def piece(self, n: int, offset: int) -> bytes:
        sql = "SELECT at, data FROM pieces WHERE file_n = ? AND at <= ? ORDER BY at DESC LIMIT 1"
        rows = await self._read(sql, (n, offset))
        return bytes(rows[0][1])[offset - rows[0][0] :] if rows else b""

    async def removed(self, busy: Iterable[int]) -> list[int]:
        sql = (
            "SELECT n FROM files WHERE state = 'gone' "
            "AND n NOT IN (SELECT value FROM json_each(?)) LIMIT 8"
        )
        return [row[0] for row in await self._read(sql, (orjson.dumps(list(busy)).decode(),))]


@write_row.register
def _(row: BatchAdded, connection: sqlite3.Connection) -> None:
    values = (row.batch.id, row.batch.state, _job(row.batch))
    connection.execute("INSERT OR IGNORE INTO batches (id, state, job) VALUES (?, ?, ?)", values)


@write_row.register
def _(row: BatchChanged, connection: sqlite3.Connection) -> None:
    batch = row.batch
    sql = "UPDATE batches SET state = ?, job = ? WHERE n = ?"
    connection.execute(sql, (batch.state, _job(batch), batch.n))
    connection.executemany(
        "INSERT OR REPLACE INTO batch_lines VALUES (?, ?, ?, ?, ?)",
        [(batch.n, *line) for line in row.submitted],
    )
    connection.executemany(
        "DELETE FROM batch_lines WHERE batch_n = ? AND line = ?",
        [(batch.n, line.number) for line in row.answered],
    )


@write_row.register
def _(row: BatchRemoved, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM batches WHERE n = ?", (row.n,))


class SQLiteBatches:
    """`BatchReads` from SQLite."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def find(self, batch_id: str) -> Batch | None:
        rows = await self._read("SELECT n, state, job FROM batches WHERE id = ?", (batch_id,))
        return _batch(rows[0]) if rows else None

    async def active(self) -> list[Batch]:
        sql = f"SELECT n, state, job FROM batches WHERE state IN ({_ACTIVE}) ORDER BY n"
        return [_batch(row) for row in await self._read(sql)]

    async def page(self, owner: str | None, before: int | None, limit: int) -> list[Batch]:
        sql = "SELECT n, state, job FROM batches WHERE n < ?2 "
        sql += "AND ?1 IS NULL " if owner is None else "AND json_extract(job, '$.owner') = ?1 "
        values = (owner, before or 1 << 62, limit)
        return [_batch(row) for row in await self._read(f"{sql} ORDER BY n DESC LIMIT ?3", values)]

    async def lines(self, n: int) -> list[Line]:
        sql = "SELECT line, custom_id, task_id, form FROM batch_lines WHERE batch_n = ?"
        return [Line(*row) for row in await self._read(f"{sql} ORDER BY line", (n,))]

    async def old(self, before: int) -> list[int]:
        sql = f"SELECT n FROM batches WHERE state NOT IN ({_ACTIVE}) "
        sql += "AND json_extract(job, '$.created_at') < ? LIMIT 100"
        return [row[0] for row in await self._read(sql, (before,))]


def _job(batch: Batch) -> str:
    job = {name: value for name, value in asdict(batch).items() if name not in ("n", "state")}
    return orjson.dumps(job).decode()


def _batch(row: Any) -> Batch:
    job = loads(row[2])
    pairs = {name: tuple(job[name]) for name in ("written", "files")}
    return Batch(**(job | pairs), n=row[0], state=row[1])
