"""Webhook deliveries of finished tasks: the table `callbacks`.

Owns its statements. Promises that a delivery is owed in the very transaction that ends the task,
that what was tried for one end never counts for another, and that a task which begins anew owes
nothing for its earlier end. Never delivers.
"""

import sqlite3
from collections.abc import Collection

import orjson

from asyncsvc.storage.connection import Read
from asyncsvc.storage.entries import DeliveriesBounded, DeliveriesShifted, Delivery, Owed, Tried
from asyncsvc.storage.statements import write_row
from asyncsvc.tasks.state import Task

_SIZE = (
    "COALESCE((SELECT length(body) + rest FROM bodies "
    "WHERE bodies.task_n = callbacks.task_n), 0) + "
    "COALESCE((SELECT length(CAST(result AS BLOB)) + rest FROM results "
    "WHERE results.task_n = callbacks.task_n), 0)"
)


@write_row.register
def _(row: DeliveriesShifted, connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE callbacks SET next_at = next_at + ?1, set_at = set_at + ?1 WHERE state = 'pending'",
        (row.by,),
    )


@write_row.register
def _(row: DeliveriesBounded, connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE callbacks SET next_at = ?1 + next_at - set_at, set_at = ?1 "
        "WHERE state = 'pending' AND set_at > ?1",
        (row.now,),
    )


class SQLiteDeliveries:
    """`DeliveryReads` from SQLite."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def due(
        self, now: int, busy: Collection[int], shut: Collection[str], limit: int
    ) -> list[Owed]:
        rows = await self._read(
            f"SELECT task_n, tasks.id, seq, host, callbacks.attempts, {_SIZE} FROM callbacks "
            "JOIN tasks ON tasks.n = task_n "
            "WHERE callbacks.state = 'pending' AND next_at <= ? "
            "AND task_n NOT IN (SELECT value FROM json_each(?)) "
            "AND host NOT IN (SELECT value FROM json_each(?)) ORDER BY next_at, task_n LIMIT ?",
            (now, orjson.dumps(list(busy)).decode(), orjson.dumps(list(shut)).decode(), limit),
        )
        return [Owed(*row) for row in rows]

    async def next_due(self, after: int) -> int | None:
        sql = "SELECT MIN(next_at) FROM callbacks WHERE state = 'pending' AND next_at > ?"
        at: int | None = (await self._read(sql, (after,)))[0][0]
        return at

    async def still_pending(self, task_n: int, seq: int) -> bool:
        sql = "SELECT 1 FROM callbacks WHERE task_n = ? AND seq = ? AND state = 'pending'"
        return bool(await self._read(sql, (task_n, seq)))

    async def pending(self) -> int:
        sql = "SELECT COUNT(*) FROM callbacks WHERE state = 'pending'"
        return int((await self._read(sql))[0][0])

    async def last_try(self, task: Task) -> Tried:
        rows = await self._read(
            "SELECT task_n, seq, state, attempts, last_status, last_error, next_at FROM callbacks "
            "WHERE task_n = ?",
            (task.n,),
        )
        if not rows or not task.finished:
            return Tried(task.n, 0, Delivery.WAITING, 0, None, None, None)
        return Tried(*rows[0])
