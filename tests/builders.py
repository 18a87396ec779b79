"""What the tests of tasks, store and journal build again and again."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from asyncsvc.clock import Now
from asyncsvc.errors import StorageUnavailable
from asyncsvc.journal.journal import Change, Journal, NewTask
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit, Event
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Cause, Draft, EventType, Request, State, status

AT = 1_800_000_000_000
"""Where the clocks of these tests begin, in ms."""


def ticking() -> Now:
    """A clock that goes on by a millisecond whenever it is looked at."""
    return itertools.count(AT).__next__


@asynccontextmanager
async def store_at(path: Path) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        yield await Database.open(path, stack)


@asynccontextmanager
async def journal_at(path: Path, now: Now | None = None) -> AsyncIterator[Journal]:
    async with store_at(path) as store, Journal(store, now or ticking()) as journal:
        yield journal


def new_task(task_id: str = "t1", body: bytes = b"{}", **fields: Any) -> NewTask:
    return NewTask(replace(Request(task_id, created_at=AT), **fields), body)


def moved(task_id: str, source: State, cause: Cause, **facts: Any) -> Change:
    return Change(task_id, [status(cause, source, **facts)])


def attempt(name: str = "m") -> Draft:
    return Draft(EventType.ATTEMPT, {"name": name, "model": f"{name}-model", "route": {"why": 1}})


def begun(task_id: str = "t1", name: str = "m") -> Change:
    return Change(task_id, [status(Cause.STARTED, State.PENDING), attempt(name)])


def chunk(text: str) -> Draft:
    return Draft(EventType.CHUNK, {"text": text})


def streamed(task_id: str, *texts: str) -> Change:
    return Change(task_id, [chunk(text) for text in texts])


def ended(task_id: str = "t1", result: str = "done", **facts: Any) -> Change:
    return Change(task_id, [status(Cause.COMPLETED, State.RUNNING, **facts)], result=result)


async def live_through(journal: Journal, task_id: str = "t1", *texts: str) -> None:
    """A whole life: submitted, started, some text, completed. `len(texts) + 4` events."""
    await journal.append(new_task(task_id))
    await journal.append(begun(task_id))
    for text in texts:
        await journal.append(streamed(task_id, text))
    await journal.append(ended(task_id, "".join(texts)))


async def gathered(pages: AsyncGenerator[list[Event]], most: int | None = None) -> list[Event]:
    """What a follower is given until it ends, or until it has `most` events."""
    found: list[Event] = []
    async with asyncio.timeout(20):
        if most != 0:
            async for page in pages:
                found += page
                if most is not None and len(found) >= most:
                    break
        await pages.aclose()
    return found


def data_of(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(event.wire)["data"]
    return data


def rows(store: Store, sql: str, *values: Any) -> list[Any]:
    """The rows of a query on the database file, read beside the service."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


class Commits:
    """Stands before the commits of a store: counts them, holds them up, refuses them."""

    def __init__(self, store: Store) -> None:
        self.batches: list[Commit] = []
        self.began = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.refusal: Exception | None = None
        self._taken = 0
        self._commit = store.commit
        store.commit = self._stand_before  # type: ignore[method-assign]

    def refuse(self, after: int = 0) -> None:
        """Refuse all commits but the next `after`."""
        self.refusal = StorageUnavailable("the disk is full")
        self._taken = len(self.batches) + after

    async def _stand_before(self, batch: Commit) -> None:
        self.batches.append(batch)
        self.began.set()
        await self.free.wait()
        if self.refusal is not None and len(self.batches) > self._taken:
            raise self.refusal
        await self._commit(batch)
