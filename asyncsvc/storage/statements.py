"""The rows of one transaction, and the statements that write them.

Owns the batch and its statements. Promises that a batch says by itself whether it must be
synced. Never begins or ends a transaction.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any

from asyncsvc.storage.columns import (
    INSERT_RARE,
    INSERT_TASK,
    INSERT_USUAL,
    NOTHING_RARE,
    UPDATE_TASK,
    EventRow,
    changing_row,
    rare_row,
    task_row,
    usual_row,
)
from asyncsvc.storage.webhooks import CallbackWrites
from asyncsvc.tasks.state import EventType, State, Task

ROWS_MOST = 64
"""Rows a statement. Each number of rows is a statement of its own that stays prepared: three tables
and the view in two widths make 320 of them at most. 64 new tasks are 2,600 values, of at most
32,766."""
WAITING = frozenset({State.PENDING, State.SCHEDULED})


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

    created: list[tuple[Task, bytes]] = field(default_factory=list)
    changed: list[tuple[Task, int]] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    results: list[tuple[int, str | None, str]] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    keys: list[tuple[str, str, int, int, str]] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    values: list[tuple[str, str, int, str | None]] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)
    callbacks: CallbackWrites = field(default_factory=CallbackWrites)
    acknowledging: bool = False
    """Whether a persisted value must be on the disk before it is acknowledged."""

    @property
    def durable(self) -> bool:
        """Nothing but text needs no fsync: a power cut may cost the tail of a stream, which
        the next attempt voids anyway. Whatever acknowledges, ends or counts is synced; what is
        only persisted for later is not."""
        written = self.created or self.changed or self.results or self.calls or self.keys
        beside = any(entry.durable for entry in self.beside)
        return bool(written or self.deleted or self.acknowledging or beside)

    @property
    def only_new_tasks(self) -> bool:
        """Whether it is nothing but new tasks, each with its first event, in one statement."""
        created, events = self.created, self.events
        if len(created) != len(events) or len(created) > ROWS_MOST:
            return False
        beside = self.changed or self.results or self.calls or self.keys or self.deleted
        callbacks = self.callbacks.owed or self.callbacks.tried
        if beside or self.values or self.beside or callbacks:
            return False
        return all(_is_new_task(created[i][0], event) for i, event in enumerate(events))


def _is_new_task(task: Task, event: EventRow) -> bool:
    first = task.n == event.task_n and event.seq == task.version == 1
    return first and event.type == EventType.STATUS and task.state in WAITING


def new_tasks(batch: Batch) -> Callable[[sqlite3.Connection], None]:
    """What is `only_new_tasks`, as one statement, which is a transaction of its own.

    Each statement gives the interpreter's lock away several times, and the writer's thread waits
    for the busy loop each time that it wants it back; and it holds the lock for each value that
    it is given. So the rows are made here and not there, and hold only what
    differs from the constants.
    """
    rows = [
        (*usual_row(task), body, event.id, event.data)
        for (task, body), event in zip(batch.created, batch.events, strict=True)
    ]
    rare = [rare_row(task) for task, _ in batch.created]
    if not any(rare):
        return partial(_insert, into=INSERT_USUAL, rows=rows)
    rows = [(*row, *(more or NOTHING_RARE)) for row, more in zip(rows, rare, strict=True)]
    return partial(_insert, into=INSERT_RARE, rows=rows)


def write(connection: sqlite3.Connection, batch: Batch) -> None:
    """All of it, within the transaction that is open. Raises what sqlite3 raises."""
    many = connection.executemany
    if batch.created:
        tasks = [task_row(task) for task, _ in batch.created]
        _insert(connection, INSERT_TASK, tasks)
        bodies = [(task.n, body) for task, body in batch.created]
        _insert(connection, "INSERT INTO bodies (task_n, body)", bodies)
    if batch.changed:
        rows = [(*changing_row(task), task.n, was) for task, was in batch.changed]
        if many(UPDATE_TASK, rows).rowcount != len(rows):
            raise sqlite3.IntegrityError("a task has changed behind the journal's back")
    if batch.events:
        _insert(connection, "INSERT INTO events", batch.events)
    if batch.results:
        _write_results(connection, batch.results)
    if batch.calls:
        many("INSERT INTO calls (gate, at, tokens) VALUES (?, ?, ?)", batch.calls)
    if batch.keys:
        columns = "key, fingerprint, task_n, last_n, answer"
        many(f"INSERT INTO idempotency ({columns}) VALUES (?, ?, ?, ?, ?)", batch.keys)
    batch.callbacks.write(many)
    for entry in batch.beside:
        entry.write(connection)
    if batch.deleted:
        gone = [(n,) for n in batch.deleted]
        many("DELETE FROM tasks WHERE n = ?", gone)
        many("DELETE FROM events WHERE task_n = ?", gone)
    if held := [row for row in batch.values if row[3] is not None]:
        many("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", held)
    if dropped := [row[:2] for row in batch.values if row[3] is None]:
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
