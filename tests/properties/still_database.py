"""A database without threads: the same statements, in the loop, in an order that never varies.

Owns how long a statement takes, in turns of the loop, and what a power cut leaves of the file.
Promises that a story which is played twice runs the same way twice: without that nothing can be
shrunk. The SQLite underneath is the real one.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from asyncsvc.storage.connection import Work, WorkerThread, Writer

T = TypeVar("T")
PARTS = ("", "-wal")
"""Of a database: what holds its content."""


class LoopWorker(WorkerThread):
    """Calls the functions that a worker thread would call, in the loop."""

    turns = 1

    def __init__(self, name: str) -> None:
        """No thread is started."""

    def submit(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        running = asyncio.get_running_loop()
        done: asyncio.Future[T] = running.create_future()
        running.call_soon(self._run, done, function)
        return done

    def stop(self) -> None:
        """There is no thread to end."""

    def _run(self, done: "asyncio.Future[Any]", function: Callable[[], Any]) -> None:
        try:
            result, error = function(), None
        except Exception as found:
            result, error = None, found
        self._deliver(self.turns, done, result, error)

    def _deliver(
        self, turns: int, done: "asyncio.Future[Any]", result: Any, error: Exception | None
    ) -> None:
        """Done, but nothing knows of it yet: a crash may come in between."""
        if turns:
            done.get_loop().call_soon(self._deliver, turns - 1, done, result, error)
        elif not done.done() and error is not None:
            done.set_exception(error)
        elif not done.done():
            done.set_result(result)


class Disk:
    """Copies of the database as a crash would leave it."""

    def __init__(self, watch_syncs: bool) -> None:
        self._watch = watch_syncs
        self._synced: dict[Path, dict[str, bytes]] = {}
        """The files as they were synced last, where more has been written since."""

    def before(self, path: Path, durable: bool) -> None:
        """A transaction begins."""
        if self._watch and not durable:
            self._synced.setdefault(path, _content(path))

    def after(self, path: Path, durable: bool) -> None:
        if durable:
            self._synced.pop(path, None)

    def copy(self, source: Path, target: Path, power: bool) -> None:
        """`power`: what was written and not synced is gone."""
        if power and source in self._synced:
            for part, content in self._synced[source].items():
                Path(f"{target}{part}").write_bytes(content)
            return
        for part in PARTS:
            if (found := Path(f"{source}{part}")).exists():
                shutil.copyfile(found, f"{target}{part}")


def _content(path: Path) -> dict[str, bytes]:
    files = {part: Path(f"{path}{part}") for part in PARTS}
    return {part: file.read_bytes() for part, file in files.items() if file.exists()}


@contextmanager
def still(turns: int, disk: Disk) -> Iterator[None]:
    """Within it each statement is done a turn of the loop after it was asked for, and that is
    known `turns` later."""

    class Worker(LoopWorker):
        pass

    Worker.turns = turns
    plain = Writer.write

    def write(
        self: Writer, connection: sqlite3.Connection, work: Work, durable: bool, alone: bool
    ) -> None:
        path = _path(connection)
        disk.before(path, durable)
        plain(self, connection, work, durable, alone)
        disk.after(path, durable)

    with (
        patch("asyncsvc.storage.connection.WorkerThread", Worker),
        patch.object(Writer, "write", write),
    ):
        yield


def _path(connection: sqlite3.Connection) -> Path:
    row = connection.execute("PRAGMA database_list").fetchone()
    return Path(row[2])
