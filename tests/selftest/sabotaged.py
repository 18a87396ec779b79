"""The command line with a service that breaks its promises: a script, started in place of it.

Each fault happens in one life of the service, so that the rest of a run goes on:

- in the first, the tenth task and all that comes after it is acknowledged and never stored;
- in the third, three tasks that had ended begin again;
- in all, the last event of each page of the feed is sent twice, and the limit of the model
  `limited` is taken for a larger one.
"""

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, closing
from pathlib import Path

if __name__ == "__main__":
    # Python has put this file's folder there.
    sys.path[0] = str(Path(__file__).parents[2])

from asyncsvc.cli import main
from asyncsvc.journal.subscriptions import Feed
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit, Event

STORED = 9
"""Tasks before the first that is acknowledged too early."""


def count_life(folder: Path) -> int:
    """The number of this life of the service, from 1."""
    file = folder / "lives"
    with file.open("a", encoding="ascii") as lives:
        lives.write(".")
    return len(file.read_text(encoding="ascii"))


def acknowledge_early() -> None:
    real, created = Database.commit, 0

    def never(connection: sqlite3.Connection) -> None:
        threading.Event().wait()

    def commit(self: Database, commit: Commit) -> Awaitable[None]:
        nonlocal created
        before, created = created, created + len(commit.created)
        if created <= STORED:
            return real(self, commit)
        if before <= STORED:
            self.writer.run(never)
        writing.append(asyncio.ensure_future(real(self, commit)))
        early: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        early.set_result(None)
        return early

    writing: list[asyncio.Future[None]] = []
    setattr(Database, "commit", commit)  # noqa: B010


def begin_again(database: Path) -> None:
    sql = "UPDATE tasks SET state = 'pending', finished_at = NULL WHERE id IN "
    sql += "(SELECT id FROM tasks WHERE state = 'completed' LIMIT 3)"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql)


def send_twice() -> None:
    real = Feed.follow

    async def follow(self: Feed, after_id: int) -> AsyncGenerator[list[Event]]:
        async with aclosing(real(self, after_id)) as pages:
            async for page in pages:
                yield [*page, page[-1]]

    setattr(Feed, "follow", follow)  # noqa: B010


def sabotage(argv: list[str], faults: Sequence[str]) -> None:
    folder = Path(argv[argv.index("--settings") + 1]).parent
    life = count_life(folder)
    if "early" in faults and life == 1:
        acknowledge_early()
    if "again" in faults and life == 3:
        begin_again(folder / "asyncsvc.db")
    if "twice" in faults:
        send_twice()
    if "limit" in faults:
        os.environ["ASYNCSVC_MODELS__LIMITED__RPM"] = "1000"


if __name__ == "__main__":
    named = sys.argv.pop(1).split(",")
    if sys.argv[1] == "serve":
        sabotage(sys.argv, named)
    main()
