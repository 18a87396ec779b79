"""The audit of a database: tasks and events as they stand in the file, for a check from outside.

Owns queries that use nothing of the code that wrote the file but how a long result is put together,
so that a fault there is not read over by the same fault here. Looks only at copies or at files that
no service has open. Never writes, but for `write_settings`, which opens the database as the service
does.
"""

import shutil
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from asyncsvc.storage.columns import BODY, RESULT
from asyncsvc.storage.migrations import connected

UNREADABLE = sqlite3.Error
"""What reading raises where the file is no whole database."""
SYNCHRONOUS = ("off", "normal", "full", "extra")


@dataclass(frozen=True, slots=True)
class Finished:
    """What must never change again once a task has ended."""

    state: str
    starts: int
    version: int
    finished_at: int
    events: int
    last_seq: int
    result: str | None


@dataclass(slots=True)
class Life:
    """One task with all its events, as (id, seq, type, data)."""

    task_id: str
    state: str
    attempts: int
    starts: int
    error: dict[str, Any] | None
    content: str
    result: str | None
    events: list[tuple[int, int, str, dict[str, Any]]]

    @property
    def marker(self) -> str:
        """The text between [[id: and ]]."""
        return self.content.partition("[[id:")[2].partition("]]")[0]

    @property
    def text(self) -> str:
        """All chunks since the last attempt."""
        parts: list[str] = []
        for _, _, kind, data in self.events:
            if kind == "attempt":
                parts.clear()
            elif kind == "chunk":
                parts.append(data["text"])
        return "".join(parts)

    def causes(self, *causes: str) -> int:
        """How many of its changes of state had one of these causes."""
        return sum(kind == "status" and data["cause"] in causes for _, _, kind, data in self.events)


def copy(database: Path, into: Path) -> Path:
    """The database and its log as a dead process has left them, untouched by opening them."""
    into.mkdir(exist_ok=True)
    target = into / database.name
    for suffix in ("", "-wal"):
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copyfile(source, target.with_name(target.name + suffix))
        else:
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    target.with_name(target.name + "-shm").unlink(missing_ok=True)
    return target


def integrity(database: Path) -> str:
    """`ok`, or what SQLite finds wrong."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("PRAGMA integrity_check").fetchall()
        foreign = connection.execute("PRAGMA foreign_key_check").fetchall()
    return "; ".join([str(row[0]) for row in rows] + [f"foreign key: {row}" for row in foreign])


async def write_settings(database: Path) -> dict[str, str]:
    """The settings of SQLite under which the service's own connection makes a durable commit, read
    back inside one. Raises StartError."""
    found: dict[str, str] = {}

    def read(connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        flush = connection.execute("PRAGMA fullfsync").fetchone()[0]
        found.update(journal_mode=mode, synchronous=SYNCHRONOUS[level], fullfsync=str(flush))

    writer = await connected(database)
    try:
        await writer.transact(read, durable=True)
    finally:
        await writer.close()
    return found


def known(database: Path) -> set[str]:
    """The ids of all tasks."""
    with closing(sqlite3.connect(database)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM tasks")}


def finished(database: Path) -> dict[str, Finished]:
    """All tasks that have ended, by id."""
    sql = (
        "SELECT id, state, starts, version, finished_at, "
        "(SELECT COUNT(*) FROM events WHERE task_n = n), "
        "(SELECT MAX(seq) FROM events WHERE task_n = n), "
        f"(SELECT {RESULT} FROM results WHERE task_n = n) FROM tasks WHERE finished_at IS NOT NULL"
    )
    with closing(sqlite3.connect(database)) as connection:
        return {row[0]: Finished(*row[1:]) for row in connection.execute(sql)}


def lives(database: Path) -> list[Life]:
    """Every task with every event."""
    with closing(sqlite3.connect(database)) as connection:
        events = defaultdict(list)
        for n, *event, data in connection.execute(
            "SELECT task_n, id, seq, type, data FROM events ORDER BY task_n, seq"
        ):
            events[n].append((*event, orjson.loads(data)))
        rows = connection.execute(
            f"SELECT tasks.n, id, state, attempts, starts, error, {BODY}, {RESULT} FROM tasks "
            "JOIN bodies ON bodies.task_n = tasks.n LEFT JOIN results ON results.task_n = tasks.n"
        )
        return [
            Life(
                row[1], row[2], row[3], row[4], row[5] and orjson.loads(row[5]),
                orjson.loads(row[6]).get("content", ""), row[7], events[row[0]],
            )
            for row in rows
        ]  # fmt: skip
