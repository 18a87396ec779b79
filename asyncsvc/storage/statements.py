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

from asyncsvc.storage.columns import (
    INSERT_TASK,
    TASK_COLUMNS,
    UPDATE_TASK,
    EventRow,
    dumps,
    life_row,
    request_row,
)
from asyncsvc.storage.webhooks import CallbackWrites
from asyncsvc.tasks.state import EventType, State, Task

ROWS_MOST = 64
"""Rows a statement. Each number of rows is a statement of its own that stays prepared: three tables
and the view in two widths make 320 of them at most. 64 new tasks are 2,600 values, of at most
32,766."""
UNBEGUN = frozenset({State.PENDING, State.SCHEDULED})

_USUAL = (
    "n", "id", "type", "lane", "priority", "wanted_model", "owner", "preview", "decision", "need",
    "created_at", "tokens", "state", "queued_at", "updated_at",
)  # fmt: skip
_RARE = (
    "session_id", "run_at", "timeout_s", "max_retries", "retry_unsafe", "cache", "cache_key",
    "user_metadata", "schedule_id", "callback_url", "next_run_at", "delayed",
)  # fmt: skip
"""Nothing of it is asked for by most tasks: then it is not handed over at all."""
_UNBORN = {"attempts": 0, "forgiven": 0, "starts": 0, "version": 1, "cached": 0}
"""What every new task has; all that is named nowhere here is NULL."""
_OF_EVENT = ("body", "event_id", "event_data")


def _new(column: str) -> str:
    if column == "retry_unsafe":
        return "COALESCE(NEW.retry_unsafe, 0)"
    if column in _USUAL or column in _RARE:
        return f"NEW.{column}"
    return str(_UNBORN.get(column, "NULL"))


_BIRTH = (*_USUAL, *_OF_EVENT, *_RARE)
PREPARED = (
    f"CREATE TEMP VIEW births ({', '.join(_BIRTH)}) AS SELECT {', '.join(['NULL'] * len(_BIRTH))}",
    f"""CREATE TEMP TRIGGER birth INSTEAD OF INSERT ON births BEGIN
    {INSERT_TASK} VALUES ({", ".join(_new(column) for column in TASK_COLUMNS)});
    INSERT INTO bodies (task_n, body) VALUES (NEW.n, NEW.body);
    INSERT INTO events VALUES
        (NEW.event_id, NEW.n, 1, '{EventType.STATUS}', NEW.updated_at, NEW.event_data);
    END""",
)
"""What `new_tasks` needs on its connection."""
_PLAIN, _WHOLE = (
    f"INSERT INTO births ({', '.join(columns)})" for columns in (_USUAL + _OF_EVENT, _BIRTH)
)


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
    keys: list[tuple[str, str, int, int, str]] = field(default_factory=list)
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
        return all(_is_birth(born[i][0], event) for i, event in enumerate(events))


def _is_birth(task: Task, event: EventRow) -> bool:
    first = task.n == event.task_n and event.seq == task.version == 1
    return first and event.type == EventType.STATUS and task.state in UNBEGUN


def new_tasks(batch: Batch) -> Callable[[sqlite3.Connection], None]:
    """What is `only_births`, as one statement, which is a transaction of its own.

    Each statement gives the interpreter's lock away several times, and the writer's thread waits
    for the busy loop each time that it wants it back; and it holds the lock for each value that
    it is given. So the rows are made here and not there, and hold what must be said only.
    """
    rows = [
        (*_usual(task), body, event.id, event.data)
        for (task, body), event in zip(batch.born, batch.events, strict=True)
    ]
    rare = [_rare(task) for task, _ in batch.born]
    if any(rare):
        nothing = (None,) * len(_RARE)
        rows = [(*row, *(more or nothing)) for row, more in zip(rows, rare, strict=True)]
        return partial(_insert, into=_WHOLE, rows=rows)
    return partial(_insert, into=_PLAIN, rows=rows)


def _usual(task: Task) -> tuple[Any, ...]:
    """The values of _USUAL."""
    request = task.request
    return (
        task.n, request.id, request.type, request.lane, request.priority, request.model,
        request.owner, request.preview, dumps(request.route), request.need, request.created_at,
        request.tokens, task.state.value, task.queued_at, task.updated_at,
    )  # fmt: skip


def _rare(task: Task) -> tuple[Any, ...]:
    """The values of _RARE; empty where there is none."""
    one = task.request
    found = (
        one.session_id, one.run_at, one.timeout_s, one.max_retries, int(one.retry_unsafe) or None,
        None if one.cache is None else int(one.cache), one.cache_key, dumps(one.user_metadata),
        one.schedule_id, one.callback_url, task.next_run_at, int(one.delayed) or None,
    )  # fmt: skip
    return () if found.count(None) == len(found) else found


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
        columns = "key, fingerprint, task_n, last_n, answer"
        many(f"INSERT INTO idempotency ({columns}) VALUES (?, ?, ?, ?, ?)", batch.keys)
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
