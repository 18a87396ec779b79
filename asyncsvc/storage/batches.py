"""Batches of lines that become tasks: the tables `batches` and `batch_lines`.

Owns their statements. Promises that a batch's state, its lines and the pieces of its files are
written together with the tasks that they are about. Never decides what a batch does next.
"""

import sqlite3
from dataclasses import asdict
from typing import Any

import orjson

from asyncsvc.storage.connection import Read
from asyncsvc.storage.protocol import (
    ACTIVE,
    Batch,
    BatchAdded,
    BatchChanged,
    BatchRemoved,
    Line,
    loads,
)
from asyncsvc.storage.statements import write_row

_ACTIVE = ", ".join(f"'{state}'" for state in ACTIVE)


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

    async def page(self, before: int | None, limit: int) -> list[Batch]:
        sql = "SELECT n, state, job FROM batches WHERE n < ? ORDER BY n DESC LIMIT ?"
        return [_batch(row) for row in await self._read(sql, (before or 1 << 62, limit))]

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
