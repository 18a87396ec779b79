"""Files in pieces, in the same database as everything else.

Owns the tables `files` and `pieces` and their statements. Promises that a file is seen only when
it is whole, and that no statement touches more than a few pieces: no commit is held up long
because of a large file. Never holds more than a piece in memory.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from asyncsvc.storage.database import Store
from asyncsvc.storage.statements import Beside

PIECE = 256 * 1024
"""Bytes of an uploaded piece; those of an output are as large as they come."""
GONE_AT_ONCE = 8
"""Pieces deleted in one transaction: two megabytes, some milliseconds."""
OPEN, GROWING, READY, GONE = "open", "growing", "ready", "gone"
_COLUMNS = "n, id, filename, purpose, state, bytes, created_at, expires_at"


@dataclass(frozen=True, slots=True)
class File:
    """Times are ms since the epoch."""

    n: int
    id: str
    filename: str
    purpose: str
    state: str
    bytes: int
    created_at: int
    expires_at: int | None


def statement(sql: str, *values: Any, durable: bool = True) -> Beside:
    """One statement, to be appended."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(sql, values)

    return Beside(write, durable)


def opened(file_id: str, filename: str, purpose: str, state: str, at: int) -> Beside:
    """A new file without a byte."""
    return statement(
        "INSERT OR IGNORE INTO files (id, filename, purpose, state, bytes, created_at) "
        "VALUES (?, ?, ?, ?, 0, ?)",
        file_id, filename, purpose, state, at,
    )  # fmt: skip


def added(file_id: str, at: int, data: bytes, durable: bool = True) -> Beside:
    """A piece at that offset, which must be the file's length so far."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO pieces SELECT n, ?, ? FROM files WHERE id = ?",
            (at, data, file_id),
        )
        connection.execute("UPDATE files SET bytes = ? WHERE id = ?", (at + len(data), file_id))

    return Beside(write, durable)


def ready(file_id: str, expires_at: int | None) -> Beside:
    """It is whole: from now on it is seen."""
    sql = "UPDATE files SET state = 'ready', expires_at = ? WHERE id = ? AND state <> 'gone'"
    return statement(sql, expires_at, file_id)


def gone(file_id: str) -> Beside:
    """It is not seen any more; `emptied` takes its pieces away."""
    return statement("UPDATE files SET state = 'gone' WHERE id = ?", file_id)


def emptied(n: int) -> Beside:
    """Some pieces of a file that is gone, or, where there are none left, the file."""

    def write(connection: sqlite3.Connection) -> None:
        cut = "SELECT at FROM pieces WHERE file_n = ?1 ORDER BY at DESC LIMIT ?2"
        sql = f"DELETE FROM pieces WHERE file_n = ?1 AND at IN ({cut})"
        if not connection.execute(sql, (n, GONE_AT_ONCE)).rowcount:
            connection.execute("DELETE FROM files WHERE n = ?", (n,))

    return Beside(write, durable=False)


async def expiring(store: Store) -> bool:
    """Whether any will go by itself."""
    sql = "SELECT EXISTS (SELECT 1 FROM files WHERE expires_at IS NOT NULL)"
    return bool((await store.read(sql))[0][0])


async def overdue(store: Store, at: int) -> list[str]:
    """Those that have expired."""
    sql = "SELECT id FROM files WHERE expires_at < ? AND state = 'ready' LIMIT 100"
    return [row[0] for row in await store.read(sql, (at,))]


async def cut_off(store: Store) -> list[str]:
    """Uploads of an earlier process, which never become whole. To be asked before the first."""
    return [row[0] for row in await store.read("SELECT id FROM files WHERE state = 'open'")]


async def file(store: Store, file_id: str, at: int) -> File | None:
    """A file that is whole and has not expired."""
    sql = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND state = 'ready'"
    rows = [File(*row) for row in await store.read(sql, (file_id,))]
    return rows[0] if rows and (rows[0].expires_at or at) >= at else None


async def page(
    store: Store, purpose: str | None, after: float | None, oldest: bool, limit: int, at: int
) -> list[File]:
    """Files that are whole, by age; `after` is the `place` of the last one seen."""
    clauses, values = ["state = 'ready'", "COALESCE(expires_at, ?) >= ?"], [at, at]
    given: list[Any] = [*values]
    if purpose is not None:
        clauses.append("purpose = ?")
        given.append(purpose)
    if after is not None:
        clauses.append(f"n {'>' if oldest else '<'} ?")
        given.append(after)
    order = "ASC" if oldest else "DESC"
    sql = f"SELECT {_COLUMNS} FROM files WHERE {' AND '.join(clauses)} ORDER BY n {order} LIMIT ?"
    return [File(*row) for row in await store.read(sql, (*given, limit))]


async def place(store: Store, file_id: str) -> int | None:
    """Where a file is in the order of age, also while it is being taken away."""
    rows = await store.read("SELECT n FROM files WHERE id = ?", (file_id,))
    return int(rows[0][0]) if rows else None


async def place_at(store: Store, at: int) -> float:
    """Where a file of that time was: behind those that are not younger."""
    rows = await store.read("SELECT COALESCE(MAX(n), 0) FROM files WHERE created_at <= ?", (at,))
    return float(rows[0][0]) + 0.5


async def piece(store: Store, n: int, offset: int) -> bytes:
    """What the piece that holds this offset has from there on; empty behind the end."""
    sql = "SELECT at, data FROM pieces WHERE file_n = ? AND at <= ? ORDER BY at DESC LIMIT 1"
    rows = await store.read(sql, (n, offset))
    return bytes(rows[0][1])[offset - rows[0][0] :] if rows else b""


async def dead(store: Store, busy: Iterable[int]) -> list[int]:
    """Files that are gone and still have to be taken away, but for those in `busy`."""
    sql = (
        "SELECT n FROM files WHERE state = 'gone' "
        "AND n NOT IN (SELECT value FROM json_each(?)) LIMIT 8"
    )
    return [row[0] for row in await store.read(sql, (orjson.dumps(list(busy)).decode(),))]
