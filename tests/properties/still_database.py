"""A database without threads: the same statements, in the loop, in an order that never varies.

Owns how long a statement takes, in turns of the loop, and what a power cut leaves of the file.
Promises that a story which is told twice runs the same way twice: without that nothing can be
shrunk. The SQLite underneath is the real one.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from asyncsvc.storage.writer import Work, Writer

Item = tuple["asyncio.Future[Any] | None", Callable[[], Any]]
PARTS = ("", "-wal")
"""Of a database: what holds its content."""


class _Queue:
    """Stands in for the queue of a connection's thread, and for the thread."""

    turns = 1

    def put_nowait(self, item: Item) -> None:
        future, function = item
        if future is None:
            function()
        else:
            future.get_loop().call_soon(self._run, future, function)

    def _run(self, future: "asyncio.Future[Any]", function: Callable[[], Any]) -> None:
        try:
            result, error = function(), None
        except Exception as found:
            result, error = None, found
        self._deliver(self.turns, future, result, error)

    def _deliver(
        self, turns: int, future: "asyncio.Future[Any]", result: Any, error: Exception | None
    ) -> None:
        """Done, but nobody knows of it yet: a crash may come in between."""
        if turns:
            future.get_loop().call_soon(self._deliver, turns - 1, future, result, error)
        elif not future.done() and error is not None:
            future.set_exception(error)
        elif not future.done():
            future.set_result(result)


class _Thread:
    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        pass


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

    class Queue(_Queue):
        pass

    Queue.turns = turns
    plain = Writer._transact

    def transact(self: Writer, work: Work, durable: bool, alone: bool) -> None:
        path = _path(self._conn)
        disk.before(path, durable)
        plain(self, work, durable, alone)
        disk.after(path, durable)

    with (
        patch("aiosqlite.core.SimpleQueue", Queue),
        patch("aiosqlite.core.Thread", _Thread),
        patch.object(Writer, "_transact", transact),
    ):
        yield


def _path(connection: sqlite3.Connection) -> Path:
    row = connection.execute("PRAGMA database_list").fetchone()
    return Path(row[2])
