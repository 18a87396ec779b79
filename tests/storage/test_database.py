"""The database file: what is committed is there, what is refused has not happened."""

import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psutil import Process

from asyncsvc.errors import StartError, StorageUnavailable
from asyncsvc.monitoring.process_statistics import give_back
from asyncsvc.storage import upkeep
from asyncsvc.storage.database import READERS
from asyncsvc.storage.database import Database as Store
from asyncsvc.storage.entries import Commit
from asyncsvc.storage.statements import ROWS_MOST, only_new_tasks
from asyncsvc.storage.texts import PAGE_BYTES
from asyncsvc.tasks.state import Request, State, Task
from tests.builders import AT, rows, store_at
from tests.storage.stored import event, listed, stored, task


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with store_at(tmp_path / "x.db") as store:
        yield store


async def page_limit(store: Store, pages: int | None) -> None:
    """Let the file grow by so many pages only; None lifts the limit."""
    rows = await store.writer.execute("PRAGMA page_count")
    most = (1 << 30) if pages is None else rows[0][0] + pages
    await store.writer.execute(f"PRAGMA max_page_count={most}")


async def pragma(store: Store, name: str) -> object:
    rows = await store.writer.execute(f"PRAGMA {name}")
    return rows[0][0]


# Opening ----------------------------------------------------------------------------------


async def test_a_second_instance_is_refused_before_it_touches_anything(tmp_path: Path) -> None:
    async with store_at(tmp_path / "x.db"):
        with pytest.raises(StartError, match="in use by another"):
            async with store_at(tmp_path / "x.db"):
                pass


async def test_a_refused_start_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database at all")
    for _ in range(2):
        with pytest.raises(StartError, match="not a database"):
            async with store_at(path):
                pass


@pytest.mark.parametrize("place", ["", "file/x.db", "/proc/x.db"])
async def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StartError, match=r"storage\.path.*--db FILE"):
        async with store_at(tmp_path / place):
            pass


async def test_readers_cannot_write(store: Store) -> None:
    for _ in range(READERS):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await next(store.readers).execute("INSERT INTO calls VALUES ('gate', 1, 1)")


# Writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "durable"),
    [
        (Commit(events=[event(1, 1)]), False),
        (Commit(created=[(task(2), b"")]), True),
        (Commit(changed=[(task(1), replace(task(1), version=2))]), True),
        (Commit(results={1: "x"}), True),
        (Commit(calls=[("gate", 1, 7)]), True),
        (Commit(keys=[("key", "print", 1, 1, "{}")]), True),
        (Commit(deleted=[1]), True),
    ],
)
async def test_all_but_text_is_synced(store: Store, batch: Commit, durable: bool) -> None:
    normal, full = 1, 2
    await stored(store, task(1))
    assert await pragma(store, "synchronous") == full
    await store.commit(batch)
    assert batch.durable is durable
    assert await pragma(store, "synchronous") == (full if durable else normal)
    await store.commit(Commit(calls=[("gate", 2, 7)]))
    assert await pragma(store, "synchronous") == full


def newborn(*tasks: Task) -> Commit:
    """Nothing but new tasks, each with its first event."""
    batch = Commit(created=[(one, b"body of %d" % one.n) for one in tasks])
    batch.events = [event(one.n, 1, "status", '{"status":"pending"}') for one in tasks]
    assert only_new_tasks(batch)
    return batch


async def contents(store: Store) -> dict[str, list[Any]]:
    tables = ("tasks", "bodies", "events", "sqlite_sequence")
    return {table: rows(store, f"SELECT * FROM {table}") for table in tables}


async def test_a_batch_of_new_tasks_is_stored_as_any_other_is(store: Store, tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "priority": 9,
        "owner": "who",
        "user_metadata": {"a": [1]},
        "run_at": AT,
        "cache": True,
    }
    tasks = [task(1), task(2, **odd), task(3, State.SCHEDULED)]
    await store.commit(newborn(*tasks))
    async with store_at(tmp_path / "other.db") as other:
        batch = newborn(*tasks)
        batch.keys = [("key", "print", 1, 1, "{}")]
        assert not only_new_tasks(batch)
        await other.commit(batch)
        assert await contents(store) == await contents(other)
    assert await store.task("t2") == replace(tasks[1], seq=1)


@pytest.mark.parametrize(
    "bad",
    [
        task(3, session_id="\ud800"),
        task(3, priority=2**70),
        task(3, owner={"no": "text"}),
        task(1),
        replace(task(3), request=Request("t1", created_at=AT)),
    ],
)
async def test_new_tasks_are_stored_all_or_none(store: Store, bad: Task) -> None:
    await stored(store, task(1))
    before = await contents(store)
    with pytest.raises(StorageUnavailable, match="refused a write"):
        await store.commit(newborn(task(2), bad))
    assert await contents(store) == before
    await store.commit(newborn(task(2)))
    assert await listed(store) == [2, 1]


async def test_new_tasks_are_synced(store: Store) -> None:
    await store.commit(Commit(events=[event(9, 1)]))
    assert await pragma(store, "synchronous") == 1
    await store.commit(newborn(task(1)))
    assert await pragma(store, "synchronous") == 2


async def test_new_tasks_on_a_full_disk_are_refused(store: Store) -> None:
    await page_limit(store, 4)
    large = newborn(task(1))
    large.created = [(task(1), b"x" * 100_000)]
    with pytest.raises(StorageUnavailable, match="full"):
        await store.commit(large)
    assert await listed(store) == []
    await page_limit(store, None)
    await store.commit(large)
    assert await store.body(1) == b"x" * 100_000


async def test_more_new_tasks_than_a_statement_takes_are_one_transaction(store: Store) -> None:
    tasks = [task(n) for n in range(1, ROWS_MOST + 2)]
    batch = Commit(created=[(one, b"") for one in tasks], events=[event(n.n, 1) for n in tasks])
    assert not only_new_tasks(batch)
    batch.created.append((task(1), b""))
    with pytest.raises(StorageUnavailable):
        await store.commit(batch)
    assert await listed(store) == []


def test_an_event_of_another_task_makes_no_task() -> None:
    assert not only_new_tasks(Commit(created=[(task(1), b"")], events=[event(2, 1)]))
    assert not only_new_tasks(Commit(created=[(task(1), b"")]))


async def test_a_full_disk_refuses_and_recovers(store: Store) -> None:
    await stored(store, task(1))
    await page_limit(store, 4)
    large = Commit(created=[(task(2), b"x" * 100_000)], events=[event(2, 1)])
    with pytest.raises(StorageUnavailable, match="full"):
        await store.commit(large)
    assert await listed(store) == [1]
    assert await store.counters() == (1, 0)
    await page_limit(store, None)
    await store.commit(large)
    assert await listed(store) == [2, 1]
    assert await pragma(store, "integrity_check") == "ok"


async def test_a_busy_database_is_unavailable_and_then_is_not(store: Store) -> None:
    await store.writer.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="locked"):
            await stored(store, task(1))
    await stored(store, task(1))
    assert await listed(store) == [1]


# Reading ----------------------------------------------------------------------------------


async def test_a_read_that_fails_is_unavailable(store: Store) -> None:
    await store.writer.execute("DROP TABLE calls")
    with pytest.raises(StorageUnavailable, match="no such table"):
        await store.calls_since(0)


async def test_a_portion_of_long_events_is_short(store: Store) -> None:
    long, short = "x" * (PAGE_BYTES // 2), "y"
    data = [short, long, long, "z" * (2 * PAGE_BYTES), short]
    events = [event(1, seq, data=f'"{text}"') for seq, text in enumerate(data, 1)]
    await stored(store, task(1))
    await store.commit(Commit(events=events))
    portions, after = [], 0
    while rows := await store.events(1, after):
        portions.append([row.seq for row in rows])
        after = rows[-1].seq
    assert portions == [[1, 2], [3], [4], [5]]
    fed = [row.seq for row, *_ in await store.feed(0)]
    assert fed == [1, 2]


async def test_the_writer_holds_no_large_text_once_it_is_written(store: Store) -> None:
    """Each number of rows has a statement of its own, which would hold all that it was given."""
    size, most = 4 << 20, 8
    await stored(store, *(task(n) for n in range(1, most + 1)))
    await give_back()
    before = Process().memory_info().rss
    for count in range(1, most + 1):
        numbers = range(1, count + 1)
        events = [event(n, count, data=f'{{"text":"{"x" * size}"}}') for n in numbers]
        await store.commit(Commit(events=events, results={count: "y" * (16 * size)}))
    del events
    # The thread drops a commit behind its acknowledgement, and before it takes the next work.
    await store.writer.run(lambda _: None)
    await give_back()
    assert Process().memory_info().rss - before < 12 * size
    found = await store.events(1, most - 1)
    assert [len(row.data) for row in found] == [len('{"text":""}') + size]
    assert len(await store.result(most) or "") == 16 * size


async def test_each_connection_frees_its_cache_as_soon_as_it_is_idle(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed, may_end = Counter[str](), threading.Event()

    def note(sql: str) -> None:
        freed[sql] += 1

    await store.writer.run(lambda connection: connection.set_trace_callback(note))
    for _ in range(READERS):
        await next(store.readers).set_trace_callback(note)
    await store.upkeep.release_memory()
    assert freed["PRAGMA shrink_memory"] == 1 + READERS
    monkeypatch.setattr(upkeep, "IDLE_WITHIN_S", 0.01)
    busy = store.writer.run(lambda _: may_end.wait(20))
    for _ in range(2):
        await store.upkeep.release_memory()  # does not wait for the writer, nor ask twice
    assert not busy.done()
    may_end.set()
    await store.writer.run(lambda connection: connection.set_trace_callback(None))
    assert freed["PRAGMA shrink_memory"] == 2 * (1 + READERS)


async def test_a_large_body_is_written_with_small_ones(store: Store) -> None:
    large = b'"%b"' % (b"z" * (1 << 20))
    bodies = [large if n == 2 else b"{}" for n in range(1, 4)]
    created = [(task(n), body) for n, body in enumerate(bodies, 1)]
    await store.commit(Commit(created=created, events=[event(n, 1, "status") for n in (1, 2, 3)]))
    assert [await store.body(n) for n in (1, 2, 3)] == bodies
    assert [row.seq for n in (1, 2, 3) for row in await store.events(n, 0)] == [1, 1, 1]
