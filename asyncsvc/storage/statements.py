"""The statements of one commit.

Owns the writing of a commit's entries. Promises that a commit of new tasks alone is one
statement. Never begins or ends a transaction.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache, partial, singledispatch
from itertools import chain
from typing import Any

import orjson

from asyncsvc.errors import StaleLease
from asyncsvc.net.egress import host_of
from asyncsvc.storage.columns import (
    INSERT_RARE,
    INSERT_TASK,
    INSERT_USUAL,
    NOTHING_RARE,
    UPDATE_TASK,
    changing_row,
    rare_row,
    task_row,
    usual_row,
)
from asyncsvc.storage.entries import (
    BodyPart,
    BodyPartsRemoved,
    CallsBounded,
    Commit,
    KeyUsed,
    ResponseRequest,
    ResultPart,
    Row,
)
from asyncsvc.tasks.state import EventType, State
from asyncsvc.tasks.submission import PREVIEW_CHARS

ROWS_MOST = 64
"""Rows a statement. Each number of rows is a statement of its own that stays prepared: three tables
and the view in two widths make 320 of them at most. 64 new tasks are 2,600 values, of at most
32,766."""
LARGE = 16 * 1024
"""A text beyond it is written by a statement that lets go of it: see `insert_large`."""
WAITING = frozenset({State.PENDING, State.SCHEDULED})


@singledispatch
def write_row(row: Row, connection: sqlite3.Connection) -> None:
    """Write an entry about something else than tasks. The module of its table registers how."""
    raise TypeError(f"no statement writes a {type(row).__name__}")


@write_row.register
def _(row: ResponseRequest, connection: sqlite3.Connection) -> None:
    sql = "INSERT OR REPLACE INTO responses SELECT n, ? FROM tasks WHERE id = ? AND ?"
    insert_large(connection, sql, (orjson.dumps(row.request), row.task_id))


@write_row.register
def _(row: ResultPart, connection: sqlite3.Connection) -> None:
    # Of two ends of a task at once the first one counts, and its parts stay.
    unfinished = "FROM tasks WHERE n = ? AND finished_at IS NULL"
    if row.first:
        sql = f"DELETE FROM result_parts WHERE task_n = (SELECT n {unfinished})"
        connection.execute(sql, (row.task_n,))
    sql = f"INSERT INTO result_parts (at, part, task_n) SELECT ?, ?, n {unfinished} AND ?"
    insert_large(connection, sql, (row.at, row.part, row.task_n))


@write_row.register
def _(row: BodyPart, connection: sqlite3.Connection) -> None:
    sql = "INSERT INTO body_parts (task_id, at, part) SELECT ?, ?, ? WHERE ?"
    insert_large(connection, sql, (row.task_id, row.at, row.part))


@write_row.register
def _(row: BodyPartsRemoved, connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM body_parts WHERE task_id = ?1 AND ?1 NOT IN (SELECT id FROM tasks)",
        (row.task_id,),
    )


@write_row.register
def _(row: KeyUsed, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO idempotency (key, fingerprint, made, answer) VALUES (?, ?, ?, ?)",
        (row.key, row.fingerprint, row.made, orjson.dumps(row.made).decode()),
    )


@write_row.register
def _(row: CallsBounded, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE calls SET at = ?1 WHERE at > ?1", (row.now,))


def only_new_tasks(commit: Commit) -> bool:
    """Whether the commit is nothing but new tasks, each with its first event, few and small enough
    for one statement."""
    created, events = commit.created, commit.events
    if len(created) != len(events) or len(created) > ROWS_MOST:
        return False
    if commit.changed or commit.renewed or commit.results or commit.deleted or commit.body_rests:
        return False
    if commit.calls or commit.keys or commit.values or commit.rows or commit.tried:
        return False
    return all(
        task.n == event.task_n
        and event.seq == task.version == 1
        and event.type == EventType.STATUS
        and task.state in WAITING
        and len(body) <= LARGE
        for (task, body), event in zip(created, events, strict=True)
    )


def new_tasks(commit: Commit) -> Callable[[sqlite3.Connection], None]:
    """The writing of `only_new_tasks` as one statement, which is a transaction of its own.

    Each statement gives the interpreter's lock away several times, and the writer's thread waits
    for the busy loop each time that it wants it back; and it holds the lock for each value that
    it is given. So the rows are made here and not there, and hold only what
    differs from the constants.
    """
    rows = [
        (*usual_row(task), body, event.id, event.text)
        for (task, body), event in zip(commit.created, commit.events, strict=True)
    ]
    rare = [rare_row(task) for task, _ in commit.created]
    if not any(rare):
        return partial(_insert, into=INSERT_USUAL, rows=rows)
    rows = [(*row, *(more or NOTHING_RARE)) for row, more in zip(rows, rare, strict=True)]
    return partial(_insert, into=INSERT_RARE, rows=rows)


def write(connection: sqlite3.Connection, commit: Commit) -> None:
    """All entries, within the open transaction. Raises StaleLease and what sqlite3 raises."""
    _write_tasks(connection, commit)
    if commit.results:
        _write_results(connection, commit)
    if commit.calls:
        sql = "INSERT INTO calls (gate, at, tokens) VALUES (?, ?, ?)"
        connection.executemany(sql, commit.calls)
    if commit.keys:
        columns = "key, fingerprint, task_n, last_n, answer"
        sql = f"INSERT INTO idempotency ({columns}) VALUES (?, ?, ?, ?, ?)"
        connection.executemany(sql, commit.keys)
    _write_callbacks(connection, commit)
    for row in commit.rows:
        write_row(row, connection)
    if commit.deleted:
        gone = [(n,) for n in commit.deleted]
        delete_tasks(connection, gone)
        connection.executemany("DELETE FROM events WHERE task_n = ?", gone)
    if commit.values:
        _write_values(connection, commit)


def _write_tasks(connection: sqlite3.Connection, commit: Commit) -> None:
    if commit.created:
        _insert(connection, INSERT_TASK, [task_row(task) for task, _ in commit.created])
        rests = commit.body_rests
        bodies = [(task.n, rests.get(task.n, 0), body) for task, body in commit.created]
        _insert_texts(connection, "INSERT INTO bodies (task_n, rest, body)", bodies)
    if commit.changed:
        rows = [
            (*changing_row(task), task.n, before.version, before.epoch)
            for before, task in commit.changed
        ]
        if connection.executemany(UPDATE_TASK, rows).rowcount != len(rows):
            for before, _ in commit.changed:
                _check_epoch(connection, before.n, before.epoch)
            raise sqlite3.IntegrityError("a task has changed behind the journal's back")
    for task in commit.renewed:
        _check_epoch(connection, task.n, task.epoch)
        connection.execute(
            "UPDATE tasks SET lease_until = ? WHERE n = ?", (task.lease_until, task.n)
        )
    if commit.events:
        events = [(e.id, e.task_n, e.seq, e.type, e.ts, e.text) for e in commit.events]
        _insert_texts(connection, "INSERT INTO events", events)


def _check_epoch(connection: sqlite3.Connection, n: int, epoch: int) -> None:
    """Raises StaleLease where the database holds a later run of the task."""
    row = connection.execute("SELECT state, epoch FROM tasks WHERE n = ?", (n,)).fetchone()
    if row is not None and row[1] != epoch:
        raise StaleLease(row[0])


def delete_tasks(connection: sqlite3.Connection, gone: Sequence[tuple[int]]) -> None:
    """Delete the tasks of these numbers, with all that belongs to them but their events."""
    connection.executemany(
        "DELETE FROM body_parts WHERE task_id = "
        "(SELECT id FROM tasks JOIN bodies ON task_n = n WHERE n = ? AND rest > 0)",
        gone,
    )
    connection.executemany("DELETE FROM tasks WHERE n = ?", gone)


def _write_results(connection: sqlite3.Connection, commit: Commit) -> None:
    results = commit.results
    gone = [(n,) for n, text in results.items() if text is None]
    written = [(n, text, commit.rests.get(n, 0)) for n, text in results.items() if text is not None]
    for table in ("results", "result_parts"):
        connection.executemany(f"DELETE FROM {table} WHERE task_n = ?", gone)
    for row in written:
        insert_large(connection, "INSERT OR REPLACE INTO results SELECT ?, ?, ? WHERE ?", row)
    previews = [((text or "")[:PREVIEW_CHARS] or None, n) for n, text in results.items()]
    connection.executemany("UPDATE tasks SET result_preview = ? WHERE n = ?", previews)


def _write_callbacks(connection: sqlite3.Connection, commit: Commit) -> None:
    """Ends owe deliveries, a task that begins anew owes none, tries are recorded."""
    at = commit.at
    ended = [task for task, _ in commit.created if task.finished and task.request.callback_url]
    for before, task in commit.changed:
        if task.request.callback_url is None:
            continue
        if task.finished:
            ended.append(task)
        elif before.finished:
            connection.execute("DELETE FROM callbacks WHERE task_n = ?", (task.n,))
    if ended:
        connection.executemany(
            "INSERT OR REPLACE INTO callbacks (task_n, seq, host, state, attempts, next_at, "
            "set_at) VALUES (?, ?, ?, 'pending', 0, ?, ?)",
            [(one.n, one.seq, host_of(one.request.callback_url or ""), at, at) for one in ended],
        )
    if commit.tried:
        connection.executemany(
            "UPDATE callbacks SET state = ?3, attempts = ?4, last_status = ?5, "
            "last_error = ?6, next_at = ?7, set_at = ?8 WHERE task_n = ?1 AND seq = ?2",
            [(*one, at) for one in commit.tried],
        )


def _write_values(connection: sqlite3.Connection, commit: Commit) -> None:
    values = commit.values.items()
    for name, value in values:
        if value is not None:
            sql = "INSERT OR REPLACE INTO kept SELECT ?, ?, ?, ? WHERE ?"
            insert_large(connection, sql, (*name, commit.at, value))
    dropped = [name for name, value in values if value is None]
    connection.executemany("DELETE FROM kept WHERE kind = ? AND key = ?", dropped)


def _insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Many rows a statement: row by row, the interpreter's lock is given away and taken back for
    each, and a busy loop makes the thread wait for it every time."""
    for start in range(0, len(rows), ROWS_MOST):
        some = rows[start : start + ROWS_MOST]
        sql = f"{into} VALUES {_places(len(some[0]), len(some))}"
        # Not `execute`, which gives the lock away once more to ask for the last row's id.
        connection.executemany(sql, (list(chain.from_iterable(some)),))


def _insert_texts(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Rows whose last value is a text, which may be large."""
    large = [row for row in rows if len(row[-1]) > LARGE]
    for row in large:
        insert_large(connection, f"{into} SELECT {', '.join('?' * len(row))} WHERE ?", row)
    _insert(connection, into, [row for row in rows if len(row[-1]) <= LARGE] if large else rows)


def insert_large(connection: sqlite3.Connection, sql: str, row: Sequence[Any]) -> None:
    """Write a row that may have large values; the last parameter of the statement is a condition.

    A statement stays prepared, and with it a copy of what it was given last: one for each number
    of rows, these copies were most of the memory after a load of large answers. Used once more for
    no row, it holds nothing.
    """
    connection.executemany(sql, ((*row, True),))
    if any(isinstance(value, str | bytes) and len(value) > LARGE for value in row):
        connection.executemany(sql, ((*(None for _ in row), False),))


@cache
def _places(width: int, count: int) -> str:
    """The placeholders of so many rows."""
    return ", ".join([f"({', '.join('?' * width)})"] * count)
