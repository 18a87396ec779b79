"""Batches of lines that become tasks: how far each has come.

Owns the tables `batches` and `batch_lines` and their statements, and the record of a batch.
Promises that a batch's state, its lines and the pieces of its files are written together with the
tasks that they are about. Never decides what a batch does next.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import orjson

from asyncsvc.storage.database import Store
from asyncsvc.storage.files import statement
from asyncsvc.storage.refusals import loads
from asyncsvc.storage.statements import Beside

VALIDATING, RUNNING, CANCELLING = "validating", "in_progress", "cancelling"
EXPIRING = "expiring"
"""Shown as in_progress: its time is over, and what has not begun never will."""
ACTIVE = (VALIDATING, RUNNING, CANCELLING, EXPIRING)


class Line(NamedTuple):
    """A line that is a task; `form` is how its answer is wanted."""

    number: int
    custom_id: str
    task_id: str
    form: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. Times are ms; `times` says when it entered a state; `offset` and `line` say how
    far its input was read, `written` how long its output and its errors are so far."""

    id: str
    n: int
    state: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    owner: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] | None = None
    offset: int = 0
    line: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    written: tuple[int, int] = (0, 0)
    files: tuple[str, str] = ("", "")
    """The ids of its output file and of its error file, which are there once they are not empty."""
    times: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


def begun(batch: Batch) -> Beside:
    """A new one; the database gives it its number."""
    job = _job(batch)

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO batches (id, state, job) VALUES (?, ?, ?)",
            (batch.id, batch.state, job),
        )

    return Beside(write)


def moved(batch: Batch, taken: Sequence[Line] = (), given: Sequence[Line] = ()) -> Beside:
    """As it is now. Lines `taken` have become tasks, lines `given` are in a file."""
    job = _job(batch)

    def write(connection: sqlite3.Connection) -> None:
        sql = "UPDATE batches SET state = ?, job = ? WHERE n = ?"
        connection.execute(sql, (batch.state, job, batch.n))
        connection.executemany(
            "INSERT OR REPLACE INTO batch_lines VALUES (?, ?, ?, ?, ?)",
            [(batch.n, *line) for line in taken],
        )
        connection.executemany(
            "DELETE FROM batch_lines WHERE batch_n = ? AND line = ?",
            [(batch.n, line.number) for line in given],
        )

    return Beside(write)


async def find(store: Store, batch_id: str) -> Batch | None:
    rows = await store.read("SELECT n, state, job FROM batches WHERE id = ?", (batch_id,))
    return _batch(rows[0]) if rows else None


async def active(store: Store) -> list[Batch]:
    """Those that are not finished, oldest first."""
    places = ", ".join("?" * len(ACTIVE))
    sql = f"SELECT n, state, job FROM batches WHERE state IN ({places}) ORDER BY n"
    return [_batch(row) for row in await store.read(sql, ACTIVE)]


async def page(store: Store, before: int | None, limit: int) -> list[Batch]:
    """Newest first; `before` is the number of the last one seen."""
    sql = "SELECT n, state, job FROM batches WHERE n < ? ORDER BY n DESC LIMIT ?"
    return [_batch(row) for row in await store.read(sql, (before or 1 << 62, limit))]


async def lines(store: Store, n: int) -> list[Line]:
    """Those whose answer is not in a file yet."""
    sql = "SELECT line, custom_id, task_id, form FROM batch_lines WHERE batch_n = ? ORDER BY line"
    return [Line(*row) for row in await store.read(sql, (n,))]


async def old(store: Store, before: int) -> list[int]:
    """Those that are finished and have begun before that."""
    places = ", ".join("?" * len(ACTIVE))
    sql = f"SELECT n FROM batches WHERE state NOT IN ({places}) "
    sql += "AND json_extract(job, '$.created_at') < ? LIMIT 100"
    return [row[0] for row in await store.read(sql, (*ACTIVE, before))]


def forgotten(n: int) -> Beside:
    """It is gone; its files go by themselves."""
    return statement("DELETE FROM batches WHERE n = ?", n, durable=False)


def _job(one: Batch) -> str:
    return orjson.dumps({k: v for k, v in asdict(one).items() if k not in ("n", "state")}).decode()


def _batch(row: Any) -> Batch:
    job = loads(row[2])
    pairs = {name: tuple(job[name]) for name in ("written", "files")}
    return Batch(**(job | pairs), n=row[0], state=row[1])
