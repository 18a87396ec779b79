"""Requests of /v1/responses, each stored beside its task for as long as the task is.

Owns the table `responses`. Promises that it is written in the transaction that makes the task,
and goes with it. Never interprets what was asked.
"""

import sqlite3
from typing import Any

import orjson

from asyncsvc.storage.database import Store
from asyncsvc.storage.refusals import loads
from asyncsvc.storage.statements import Beside


def asking(task_id: str, request: dict[str, Any]) -> Beside:
    """To be appended with the task's new task."""
    text = orjson.dumps(request)

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO responses SELECT n, ? FROM tasks WHERE id = ?", (text, task_id)
        )

    return Beside(write)


async def asked(store: Store, task_id: str) -> dict[str, Any] | None:
    """The request, or None: the task was asked for through another door, or is not there."""
    rows = await store.read(
        "SELECT request FROM responses WHERE task_n = (SELECT n FROM tasks WHERE id = ?)",
        (task_id,),
    )
    found: dict[str, Any] | None = loads(rows[0][0]) if rows else None
    return found
