"""The audit of a database: what must hold whatever happened to the process.

Owns the queries of the crash benchmark. Promises to look only at copies or at files that no
service has open. Never writes to the database that it audits.
"""

import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

MOST_FAULTS_SHOWN = 5


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
        "(SELECT result FROM results WHERE task_n = n) FROM tasks WHERE finished_at IS NOT NULL"
    )
    with closing(sqlite3.connect(database)) as connection:
        return {row[0]: Finished(*row[1:]) for row in connection.execute(sql)}


def changed(before: Mapping[str, Finished], after: Mapping[str, Finished]) -> list[str]:
    """Tasks that had ended and are not as they were."""
    return [
        f"{task_id} had ended as {was} and is now {after.get(task_id)}"
        for task_id, was in before.items()
        if after.get(task_id) != was
    ]


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


def lives(database: Path) -> list[Life]:
    """Every task with every event."""
    with closing(sqlite3.connect(database)) as connection:
        events = defaultdict(list)
        for n, *event, data in connection.execute(
            "SELECT task_n, id, seq, type, data FROM events ORDER BY task_n, seq"
        ):
            events[n].append((*event, orjson.loads(data)))
        rows = connection.execute(
            "SELECT tasks.n, id, state, attempts, starts, error, body, result FROM tasks "
            "JOIN bodies ON bodies.task_n = tasks.n LEFT JOIN results ON results.task_n = tasks.n"
        )
        return [
            Life(
                row[1], row[2], row[3], row[4], row[5] and orjson.loads(row[5]),
                orjson.loads(row[6]).get("content", ""), row[7], events[row[0]],
            )
            for row in rows
        ]  # fmt: skip


def inspect(life: Life, most_attempts: int) -> list[str]:
    """What is wrong with one task that has ended, seen by itself."""
    wrong = []
    ids = [event[0] for event in life.events]
    if [event[1] for event in life.events] != list(range(1, len(life.events) + 1)):
        wrong.append(f"seq has gaps: {[event[1] for event in life.events]}")
    if any(late <= early for early, late in pairwise(ids)):
        wrong.append(f"ids do not grow: {ids}")
    if life.text != (life.result or ""):
        found = f"its chunks give {life.text!r}, its result is {life.result!r}"
        wrong.append(f"{life.state} by {life.events[-1][3]}: {found}")
    if life.attempts > most_attempts:
        wrong.append(f"{life.attempts} attempts, allowed are {most_attempts}")
    if life.causes("completed") > 1:
        wrong.append("it was completed more than once")
    if life.starts != sum(kind == "attempt" for _, _, kind, _ in life.events):
        wrong.append(f"{life.starts} starts are not its attempt events")
    used = life.causes("started") - life.causes("interrupted", "deferred")
    if life.attempts != used:
        wrong.append(f"{life.attempts} attempts are counted, its events say {used}")
    return [f"{life.task_id} ({life.marker}): {fault}" for fault in wrong]


def against_calls(life: Life, calls: list[dict[str, Any]]) -> list[str]:
    """What is wrong with one task, held against the provider's record of its calls."""
    wrong = []
    accepted = [call for call in calls if call["outcome"] != "rejected"]
    if len(calls) > life.starts:
        wrong.append(f"{len(calls)} calls were made for {life.starts} starts")
    if life.state == "completed":
        if not accepted or accepted[-1]["text"] != life.result:
            sent = accepted[-1]["text"] if accepted else None
            wrong.append(f"its result is {life.result!r}, the provider's last text {sent!r}")
        elif accepted[-1]["outcome"] != "completed":
            wrong.append(f"its last call ended as {accepted[-1]['outcome']}")
    return [f"{life.task_id} ({life.marker}): {fault}" for fault in wrong]


def shortened(faults: Iterable[str], what: str) -> list[str]:
    """The first few of many, with their number."""
    all_ = list(faults)
    if not all_:
        return []
    shown = [f"{what}: {fault[:600]}" for fault in all_[:MOST_FAULTS_SHOWN]]
    return [f"{what}: {len(all_)} in all", *shown]
