"""SQLite connections that work in a thread of their own: one writes, some read.

Owns the thread, its queue, and the beginning and the end of a transaction. Promises that work is
done in the order in which it was handed over; that a transaction is committed when `transact`
returns and rolled back when it raises; that a durable one is acknowledged only while `guard` and
`guard_committed` raise nothing. Never knows what is written.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, Self, TypeVar

from asyncsvc.storage.schema import UNTRUSTED

T = TypeVar("T")
Guard = Callable[[], None]
Work = Callable[[sqlite3.Connection], None]
_Item = tuple["asyncio.Future[Any]", Callable[[], Any]]


class Read(Protocol):
    """Runs a query on a read connection; its rows. Raises StorageUnavailable."""

    async def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[Any]: ...


class WorkerThread:
    """A thread that calls functions one after another, in the order of their submission."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """Queue a function; the future has what it returns or raises. Cancelling the future does
        not stop the function."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((done, function))
        return done

    def stop(self) -> None:
        """End the thread after the functions that are queued."""
        self._queue.put(None)

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            done, function = item
            try:
                tell = partial(_resolve, done, function())
            except BaseException as error:
                tell = partial(_reject, done, error)
            with suppress(RuntimeError):  # the loop is closed: nothing waits any more
                done.get_loop().call_soon_threadsafe(tell)
            del item, done, function, tell  # or the last result lives until the next call


def _resolve(done: "asyncio.Future[T]", result: T) -> None:
    if not done.done():
        done.set_result(result)


def _reject(done: "asyncio.Future[Any]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


class Connection:
    """A SQLite connection in autocommit mode, used in its own thread only."""

    def __init__(self, thread: WorkerThread, connection: sqlite3.Connection) -> None:
        self._thread = thread
        self._connection = connection
        self._closed = False

    @classmethod
    async def open(cls, path: Path, cached_statements: int) -> Self:
        """Connect to the database at `path`. Raises sqlite3.Error."""
        thread = WorkerThread(f"{cls.__name__} of {path.name}")
        connect = partial(
            sqlite3.connect, path, isolation_level=None, cached_statements=cached_statements
        )
        try:
            return cls(thread, await thread.submit(connect))
        except BaseException:
            thread.stop()
            raise

    async def close(self) -> None:
        """Close the connection after the work that is queued; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        closing = self._thread.submit(self._connection.close)
        self._thread.stop()
        await closing

    def run(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Call `work` with the connection, in its thread, which has it when this returns.

        Raises sqlite3.ProgrammingError at once where the connection is closed.
        """
        if self._closed:
            raise sqlite3.ProgrammingError("the connection is closed")
        return self._thread.submit(partial(work, self._connection))

    def execute(self, sql: str, values: Sequence[Any] = ()) -> "asyncio.Future[list[Any]]":
        """All rows of one statement."""
        return self.run(lambda connection: connection.execute(sql, values).fetchall())


READ_PRAGMAS = (*UNTRUSTED, "query_only=1", "wal_autocheckpoint=0", "busy_timeout=5000")
READER_STATEMENTS = 64


class Reader(Connection):
    """A connection that only reads."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncGenerator[Self]:
        """Connect to the database at `path` for as long as the block lasts. Raises sqlite3.Error.

        The log is opened at once: a log which was removed would be made anew by the first read,
        and the two would not agree.
        """
        reader = await cls.open(path, READER_STATEMENTS)
        try:
            for pragma in READ_PRAGMAS:
                await reader.execute(f"PRAGMA {pragma}")
            await reader.execute("SELECT COUNT(*) FROM sqlite_schema")
            yield reader
        finally:
            await reader.close()


class Writer(Connection):
    """The connection that writes: a whole transaction is one visit to its thread.

    Statement by statement, each would be a way to the thread and back, and a busy loop makes
    every way wait.
    """

    def __init__(self, thread: WorkerThread, connection: sqlite3.Connection) -> None:
        super().__init__(thread, connection)
        self._full = True
        self.guard: Guard = _nothing
        """Called before a durable commit, in the connection's thread; what it raises undoes it."""
        self.guard_committed: Guard = _nothing
        """Called behind one: what it raises is raised instead of an acknowledgement."""

    def transact(self, work: Work, durable: bool, alone: bool = False) -> "asyncio.Future[None]":
        """Do the work in a transaction; synced to the disk where it is `durable`.

        `alone`: it is a single statement, and so a transaction by itself. Raises what sqlite3
        raises, after which nothing is changed.
        """
        return self.run(partial(self.write, work=work, durable=durable, alone=alone))

    def relaxed(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Do work that begins and ends its own transactions and needs no fsync. A transaction
        that is open where the work raises is rolled back."""

        def relaxed(connection: sqlite3.Connection) -> T:
            self._sync(connection, False)
            try:
                return work(connection)
            except BaseException:
                _roll_back(connection)
                raise

        return self.run(relaxed)

    def write(self, connection: sqlite3.Connection, work: Work, durable: bool, alone: bool) -> None:
        """Do a transaction here and now; `transact` calls it in the connection's thread."""
        self._sync(connection, durable)
        if alone:
            if durable:
                self.guard()
            work(connection)
        else:
            self._write_between(connection, work, durable)
        if durable:
            self.guard_committed()

    def _write_between(self, connection: sqlite3.Connection, work: Work, durable: bool) -> None:
        """Do the work between BEGIN and COMMIT."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            work(connection)
            if durable:
                self.guard()
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _sync(self, connection: sqlite3.Connection, full: bool) -> None:
        """Whether the next commit is synced to the disk before it returns."""
        if full != self._full:
            connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            self._full = full


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _nothing() -> None:
    """No guard."""
