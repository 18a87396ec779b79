"""The tasks of a time in the past, read from the file of a database that may be in use.

Nothing is changed, and no service is asked: a rehearsal works beside a running one.
"""

import sqlite3
from pathlib import Path

from asyncsvc.storage.backup import NotACopy, untrusted
from asyncsvc.storage.columns import SELECT_TASK, task_of
from asyncsvc.storage.entries import loads
from asyncsvc.storage.schema import fault, scripts
from asyncsvc.tasks.state import UNFINISHED, Task

TASKS_MOST = 100_000
_UNFINISHED = ", ".join(f"'{state}'" for state in sorted(UNFINISHED))


def past_tasks(path: Path, since: int, most: int = TASKS_MOST) -> list[Task]:
    """The tasks that came, waited or ran after `since` (ms), oldest first; of too many, the newest.
    Raises NotACopy where the file is no database that this program can read."""
    with untrusted(path) as database:
        try:
            _check(database)
            rows = database.execute(
                # One that came since then has ended since then, or is unfinished.
                f"{SELECT_TASK} FROM tasks WHERE finished_at >= ?1 OR state IN ({_UNFINISHED}) "
                "ORDER BY n DESC LIMIT ?2",
                (since, most),
            ).fetchall()
        except sqlite3.Error as error:
            raise NotACopy(str(error)) from None
    return [task_of(row, 0) for row in reversed(rows)]


def learned_limits(path: Path) -> dict[str, dict[str, int]]:
    """What the service has learned of the accounts' limits, by account."""
    with untrusted(path) as database:
        try:
            rows = database.execute("SELECT key, value FROM kept WHERE kind = 'limits'").fetchall()
        except sqlite3.Error as error:
            raise NotACopy(str(error)) from None
    return {key: loads(value) for key, value in rows}


def _check(database: sqlite3.Connection) -> None:
    """Raises NotACopy where the tables are not those of this program."""
    if why := fault(database):
        raise NotACopy(f"it {why}")
    version, newest = database.execute("PRAGMA user_version").fetchone()[0], scripts()[-1][0]
    if version < newest:
        raise NotACopy(
            f"it has schema {version}, and this program reads {newest}; start the service once, "
            "which brings it up to date"
        )
