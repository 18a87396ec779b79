"""Slow reads: queries that go over many rows, on connections of their own.

Owns the number of such reads at once, how many may wait for their turn and how long, and the time
limit of each. Promises that they never hold up any other read or a commit, and that one which is
not wanted any more is stopped. Never knows what is read.
"""

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from functools import partial
from threading import Event
from typing import Any

from asyncsvc.errors import ReadTooSlow
from asyncsvc.storage.connection import Reader

AT_ONCE = 1 if (os.cpu_count() or 1) <= 2 else 2
"""Reads at once, each a thread that keeps a processor busy: one is left for the event loop."""
WAITING_MOST = 32
WAIT_S = 5.0
"""How long a read may wait for its turn."""
LIMIT_S = 10.0
"""How long a read may take; a client that waits longer is better served by a narrower filter."""
STEPS = 10_000
"""Steps of SQLite's machine between two looks whether to stop: less than a millisecond."""


class SlowReads:
    """Runs a slow query: call it with SQL and values. Not `limited`: without a time limit, and
    in line however long that is, for a read that is one of many of a long answer. `what` they are
    in error messages."""

    def __init__(
        self,
        what: str,
        readers: Sequence[Reader],
        wait_s: float = WAIT_S,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._what = what
        self._idle: asyncio.Queue[Reader] = asyncio.Queue()
        for reader in readers:
            self._idle.put_nowait(reader)
        self._waiting = 0
        self._wait_s = wait_s
        self._limit_s = limit_s

    async def __call__(
        self, sql: str, values: Sequence[Any] = (), limited: bool = True
    ) -> list[Any]:
        """All rows. Raises ReadTooSlow and what sqlite3 raises."""
        reader, stop = await self._turn(limited), Event()
        done = reader.run(partial(_read, sql=sql, values=values, stop=stop))
        limit = self._limit_s if limited else None
        timer = limit and asyncio.get_running_loop().call_later(limit, stop.set)

        def over(done: "asyncio.Future[list[Any]]") -> None:
            if not done.cancelled():
                done.exception()  # that of a read which is not wanted any more is not to be logged
            if timer:
                timer.cancel()
            self._idle.put_nowait(reader)

        done.add_done_callback(over)
        try:
            # A cancelled caller must not make the reader idle before it is.
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            stop.set()
            raise
        except sqlite3.OperationalError as error:
            if not stop.is_set():
                raise
            raise ReadTooSlow(
                f"{self._what} are stopped after {limit:g} s, and this one goes over too many "
                "tasks; add status or session_id, or begin behind a cursor"
            ) from error

    async def _turn(self, limited: bool) -> Reader:
        """A reader, first come, first served."""
        if not limited:
            return await self._idle.get()
        if self._waiting >= WAITING_MOST:
            raise self._full()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._idle.get()
        except TimeoutError:
            raise self._full() from None
        finally:
            self._waiting -= 1

    def _full(self) -> ReadTooSlow:
        return ReadTooSlow(f"too many {self._what} are under way; ask again")


def _read(
    connection: sqlite3.Connection, sql: str, values: Sequence[Any], stop: Event
) -> list[Any]:
    """All rows, unless `stop` is set before or meanwhile: then SQLite raises OperationalError."""
    connection.set_progress_handler(stop.is_set, STEPS)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.set_progress_handler(None, 0)
