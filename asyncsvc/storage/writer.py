"""The write connection: a whole transaction in one visit to its thread.

Owns the beginning and the end of a transaction. Promises that it is committed when `transact`
returns and rolled back when it raises; that a durable one is acknowledged only while `guard` and
`guard_committed` raise nothing. Never knows what is written.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import aiosqlite

Guard = Callable[[], None]
Work = Callable[[sqlite3.Connection], None]


class Writer(aiosqlite.Connection):
    """A connection of aiosqlite that can do several statements in one go.

    By its own methods each statement is a way to the thread and back, and a busy loop makes
    every way wait.
    """

    @classmethod
    async def connect(cls, path: Path) -> Self:
        """Open it in autocommit mode: transactions are begun by hand."""

        def connector() -> sqlite3.Connection:
            return sqlite3.connect(path, isolation_level=None, cached_statements=512)

        connection = cls(connector, 64)
        await connection
        return connection

    def __init__(self, connector: Callable[[], sqlite3.Connection], chunk: int) -> None:
        super().__init__(connector, chunk)
        self._full = True
        self.guard: Guard = _nothing
        """Called before a durable commit, in the connection's thread; what it raises undoes it."""
        self.guard_committed: Guard = _nothing
        """Called behind one: what it raises is raised instead of an acknowledgement."""

    def transact(self, work: Work, durable: bool, alone: bool = False) -> "asyncio.Future[None]":
        """Do the work in a transaction; synced to the disk where it is `durable`.

        The thread has it when this returns. `alone`: it is a single statement, and so a
        transaction by itself. Raises what sqlite3 raises, after which nothing is changed.
        """
        if self._connection is None:
            raise sqlite3.ProgrammingError("the connection is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # As aiosqlite does it, but for a coroutine that would begin only when it is awaited.
        self._tx.put_nowait((done, partial(self._transact, work, durable, alone)))
        return done

    async def relax(self) -> None:
        """No fsync for what follows, until the next durable transaction."""
        if self._full:
            await self.execute("PRAGMA synchronous=NORMAL")
            self._full = False

    def _transact(self, work: Work, durable: bool, alone: bool) -> None:
        """In the connection's thread."""
        connection = self._conn
        if durable != self._full:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._full = durable
        if alone:
            if durable:
                self.guard()
            work(connection)
        else:
            self._whole(connection, work, durable)
        if durable:
            self.guard_committed()

    def _whole(self, connection: sqlite3.Connection, work: Work, durable: bool) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            work(connection)
            if durable:
                self.guard()
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise


def _nothing() -> None:
    """No guard."""
