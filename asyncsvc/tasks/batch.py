"""What one transaction writes, and how.

Owns the batch and its statements. Promises that a batch says by itself whether it must be
synced. Never begins or ends a transaction.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any

from asyncsvc.tasks.callbacks import CallbackWrites
from asyncsvc.tasks.rows import (
    INSERT_TASK,
    TASK_COLUMNS,
    UPDATE_TASK,
    EventRow,
    life_row,
    request_row,
)
from asyncsvc.tasks.task import Task

ROWS_MOST = 64
"""Rows a statement. Each number of rows is a statement of its own that stays prepared: three tables
and the view make 256 of them at most. 64 new tasks are 3,000 values, of at most 32,766."""

_EVENT = [f"event_{name}" for name in EventRow._fields]
_BIRTH = (*TASK_COLUMNS, "body", *_EVENT)


def _new(columns: Sequence[str]) -> str:
    return ", ".join(f"NEW.{name}" for name in columns)


PREPARED = (
    f"CREATE TEMP VIEW births ({', '.join(_BIRTH)}) AS SELECT {', '.join(['NULL'] * len(_BIRTH))}",
    f"""CREATE TEMP TRIGGER birth INSTEAD OF INSERT ON births BEGIN
    {INSERT_TASK} VALUES ({_new(TASK_COLUMNS)});
    INSERT INTO bodies (task_n, body) VALUES (NEW.n, NEW.body);
    INSERT INTO events VALUES ({_new(_EVENT)});
    END""",
)
"""What `births` needs on its connection."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Rows of tables beside those of tasks, in one transaction with whatever is appended with it.

    `write` is called in the writer's thread after the tasks are there. It must not fail for what
    it finds in the tables: that would refuse everything that is committed at the same time.
    """

    write: Callable[[sqlite3.Connection], None]
    durable: bool = True


@dataclass(slots=True)
class Batch:
    """What one transaction writes. Of `changed`, the number is the version before."""

    born: list[tuple[Task, bytes]] = field(default_factory=list)
    changed: list[tuple[Task, int]] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    results: list[tuple[int, str | None, str]] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    keys: list[tuple[str, str, int, str]] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    kept: list[tuple[str, str, int, str | None]] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)
    callbacks: CallbackWrites = field(default_factory=CallbackWrites)
    acknowledging: bool = False
    """Whether something kept must be on the disk before anybody is told."""

    @property
    def durable(self) -> bool:
        """Nothing but text needs no fsync: a power cut may cost the tail of a stream, which
        the next attempt voids anyway. Whatever acknowledges, ends or counts is synced; what is
        only kept for later is not."""
        written = self.born or self.changed or self.results or self.calls or self.keys
        beside = any(entry.durable for entry in self.beside)
        return bool(written or self.deleted or self.acknowledging or beside)

    @property
    def only_births(self) -> bool:
        """Whether it is nothing but new tasks, each with its first event, in one statement."""
        born, events = self.born, self.events
        if len(born) != len(events) or len(born) > ROWS_MOST:
            return False
        beside = self.changed or self.results or self.calls or self.keys or self.deleted
        callbacks = self.callbacks.owed or self.callbacks.tried
        if beside or self.kept or self.beside or callbacks:
            return False
        return all(born[i][0].n == event.task_n for i, event in enumerate(events))


def births(batch: Batch) -> Callable[[sqlite3.Connection], None]:
    """What is `only_births`, as one statement, which is a transaction of its own.

    Each statement gives the interpreter's lock away several times, and the writer's thread waits
    for the busy loop each time that it wants it back. The rows are made here and not there for
    the same reason.
    """
    rows = [
        (*request_row(task), *life_row(task), body, *event)
        for (task, body), event in zip(batch.born, batch.events, strict=True)
    ]
    return partial(_insert, into="INSERT INTO births", rows=rows)


def write(connection: sqlite3.Connection, batch: Batch) -> None:
    """All of it, within the transaction that is open. Raises what sqlite3 raises."""
    many = connection.executemany
    if batch.born:
        tasks = [request_row(task) + life_row(task) for task, _ in batch.born]
        _insert(connection, INSERT_TASK, tasks)
        bodies = [(task.n, body) for task, body in batch.born]
        _insert(connection, "INSERT INTO bodies (task_n, body)", bodies)
    if batch.changed:
        rows = [(*life_row(task), task.n, was) for task, was in batch.changed]
        if many(UPDATE_TASK, rows).rowcount != len(rows):
            raise sqlite3.IntegrityError("a task has changed behind the journal's back")
    if batch.events:
        _insert(connection, "INSERT INTO events", batch.events)
    if batch.results:
        _write_results(connection, batch.results)
    if batch.calls:
        many("INSERT INTO calls (gate, at, tokens) VALUES (?, ?, ?)", batch.calls)
    if batch.keys:
        many("INSERT INTO idempotency VALUES (?, ?, ?, ?)", batch.keys)
    batch.callbacks.write(many)
    for entry in batch.beside:
        entry.write(connection)
    if batch.deleted:
        gone = [(n,) for n in batch.deleted]
        many("DELETE FROM tasks WHERE n = ?", gone)
        many("DELETE FROM events WHERE task_n = ?", gone)
    if held := [row for row in batch.kept if row[3] is not None]:
        many("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", held)
    if dropped := [row[:2] for row in batch.kept if row[3] is None]:
        many("DELETE FROM kept WHERE kind = ? AND key = ?", dropped)


def _insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Many rows a statement: row by row, the interpreter's lock is given away and taken back for
    each, and a busy loop makes the thread wait for it every time."""
    for start in range(0, len(rows), ROWS_MOST):
        some = rows[start : start + ROWS_MOST]
        sql = f"{into} VALUES {_places(len(some[0]), len(some))}"
        # Not `execute`, which gives the lock away once more to ask for the last row's id.
        connection.executemany(sql, (list(chain.from_iterable(some)),))


def _write_results(
    connection: sqlite3.Connection, results: list[tuple[int, str | None, str]]
) -> None:
    """`(n, None, "")` removes a result that a new start has made void."""
    gone = [(n,) for n, text, _ in results if text is None]
    kept = [(n, text) for n, text, _ in results if text is not None]
    connection.executemany("DELETE FROM results WHERE task_n = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", kept)
    previews = [(preview or None, n) for n, _, preview in results]
    connection.executemany("UPDATE tasks SET result_preview = ? WHERE n = ?", previews)


@cache
def _places(width: int, count: int) -> str:
    """The placeholders of so many rows."""
    return ", ".join([f"({', '.join('?' * width)})"] * count)
