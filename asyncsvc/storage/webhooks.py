"""Webhook deliveries of finished tasks: the rows of the table `callbacks`.

Owns the SQL of that table. Promises that a delivery is owed in the very transaction that ends
the task, that what was tried for one end never counts for another, and that a task which
begins anew owes nothing for its earlier end. Never delivers, never opens a connection: the
store writes and reads.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import orjson

from asyncsvc.net.egress import host_of
from asyncsvc.tasks.state import Task

_SIZE = (
    "COALESCE((SELECT length(body) FROM bodies WHERE bodies.task_n = callbacks.task_n), 0) + "
    "COALESCE((SELECT length(CAST(result AS BLOB)) FROM results "
    "WHERE results.task_n = callbacks.task_n), 0)"
)


class Delivery(StrEnum):
    """How far a callback has come."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Tried(NamedTuple):
    """What came of one try; `seq` is that of the closing event it delivered, `next_at` in ms."""

    task_n: int
    seq: int
    state: Delivery
    attempts: int
    last_status: int | None
    last_error: str | None
    next_at: int | None


class Owed(NamedTuple):
    """A delivery whose time has come; `size` is about how many bytes it will send."""

    task_n: int
    task_id: str
    seq: int
    host: str
    attempts: int
    size: int


class Reads(Protocol):
    """What is needed of the store."""

    async def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]: ...


@dataclass(slots=True)
class CallbackWrites:
    """What one transaction changes in the table."""

    owed: list[tuple[int, int, str, int, int]] = field(default_factory=list)
    withdrawn: list[tuple[int]] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    tried_at: int = 0
    """When it was decided how long each waits for its next try."""

    def note(self, task: Task, before: Task | None, at: int) -> None:
        """A task has changed: with its end it owes a delivery, with a /retry no longer."""
        url, n = task.request.callback_url, task.n
        if url is None:
            return
        if task.finished:
            self.owed.append((n, task.seq, host_of(url), at, at))
        elif before is not None and before.finished:
            self.withdrawn.append((n,))

    def write(self, many: Callable[[str, Any], object]) -> None:
        if self.withdrawn:
            many("DELETE FROM callbacks WHERE task_n = ?", self.withdrawn)
        if self.owed:
            many(
                "INSERT OR REPLACE INTO callbacks (task_n, seq, host, state, attempts, next_at, "
                "set_at) VALUES (?, ?, ?, 'pending', 0, ?, ?)",
                self.owed,
            )
        if self.tried:
            many(
                "UPDATE callbacks SET state = ?3, attempts = ?4, last_status = ?5, "
                "last_error = ?6, next_at = ?7, set_at = ?8 WHERE task_n = ?1 AND seq = ?2",
                [(*one, self.tried_at) for one in self.tried],
            )


async def due(
    store: Reads, now: int, busy: Collection[int], shut: Collection[str], limit: int
) -> list[Owed]:
    """Whose time has come, the longest due first; not the tasks `busy`, not to the hosts `shut`."""
    rows = await store.read(
        f"SELECT task_n, tasks.id, seq, host, callbacks.attempts, {_SIZE} FROM callbacks "
        "JOIN tasks ON tasks.n = task_n "
        "WHERE callbacks.state = 'pending' AND next_at <= ? "
        "AND task_n NOT IN (SELECT value FROM json_each(?)) "
        "AND host NOT IN (SELECT value FROM json_each(?)) ORDER BY next_at, task_n LIMIT ?",
        (now, orjson.dumps(list(busy)).decode(), orjson.dumps(list(shut)).decode(), limit),
    )
    return [Owed(*row) for row in rows]


async def next_due(store: Reads, after: int) -> int | None:
    """When the next delivery becomes due that is not yet; ms."""
    rows = await store.read(
        "SELECT MIN(next_at) FROM callbacks WHERE state = 'pending' AND next_at > ?", (after,)
    )
    at: int | None = rows[0][0]
    return at


async def still_pending(store: Reads, task_n: int, seq: int) -> bool:
    """Whether this end is still to be delivered: no /retry has begun the task anew."""
    rows = await store.read(
        "SELECT 1 FROM callbacks WHERE task_n = ? AND seq = ? AND state = 'pending'", (task_n, seq)
    )
    return bool(rows)


async def pending(store: Reads) -> int:
    """How many deliveries are still owed."""
    rows = await store.read("SELECT COUNT(*) FROM callbacks WHERE state = 'pending'")
    return int(rows[0][0])


async def last_try(store: Reads, task: Task) -> Tried:
    """How the task's callback stands."""
    rows = await store.read(
        "SELECT task_n, seq, state, attempts, last_status, last_error, next_at FROM callbacks "
        "WHERE task_n = ?",
        (task.n,),
    )
    if not rows or not task.finished:
        return Tried(task.n, 0, Delivery.WAITING, 0, None, None, None)
    return Tried(*rows[0])
