"""Slow reads: queries that go over many rows, on connections of their own.

Owns the number of such reads at once, how many may wait for their turn and how long, and the time
limit of each. Promises that they never hold up any other read or a commit, and that one which is
not wanted any more is stopped. Never knows what is read.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any

from asyncsvc.errors import ReadTooSlow
from asyncsvc.storage.connection import Reader

AT_ONCE = 2
"""Reads at once, each a thread that keeps a processor busy."""
WAITING_MOST = 32
WAIT_S = 5.0
"""How long a read may wait for its turn."""
LIMIT_S = 5.0
"""How long a read may take. A search that finds nothing takes a second for about 700,000 tasks
(SQLite 3.40.1, a virtual machine of 2 cores)."""


class SlowReads:
    """Runs a slow query: call it with SQL and values. Not `limited`: without a time limit and at
    the end of any queue, for a read that is one of many of a long answer."""

    def __init__(
        self, readers: Sequence[Reader], wait_s: float = WAIT_S, limit_s: float = LIMIT_S
    ) -> None:
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
        reader = await self._turn(limited)
        done = reader.execute(sql, values)
        limit = self._limit_s if limited else None
        timer = limit and asyncio.get_running_loop().call_later(limit, reader.interrupt)

        def over(_: "asyncio.Future[list[Any]]") -> None:
            if timer:
                timer.cancel()
            self._idle.put_nowait(reader)

        done.add_done_callback(over)
        try:
            # A cancelled caller must not make the reader idle before it is.
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            reader.interrupt()
            raise
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise
            raise ReadTooSlow(
                f"the search was stopped after {limit:g} s: it goes over too many tasks; add "
                "status or session_id, or begin behind a cursor"
            ) from None

    async def _turn(self, limited: bool) -> Reader:
        """A reader, first come, first served."""
        if not limited:
            return await self._idle.get()
        if self._waiting >= WAITING_MOST:
            raise _full()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._idle.get()
        except TimeoutError:
            raise _full() from None
        finally:
            self._waiting -= 1


def _full() -> ReadTooSlow:
    return ReadTooSlow(f"{AT_ONCE} searches are under way and too many wait; try again")
