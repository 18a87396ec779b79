"""Housekeeping in steps: bounded, wholly out of sight, and nothing else touched."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncsvc.storage import upkeep
from asyncsvc.storage.database import Database as Store
from asyncsvc.storage.entries import Commit, Event
from asyncsvc.storage.upkeep import BYTES_AT_ONCE, EVENTS_AT_ONCE, TASKS_AT_ONCE
from asyncsvc.tasks.state import Request, State, Task
from tests.builders import AT, rows, store_at

DAY = 86_400_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with store_at(tmp_path / "x.db") as store:
        yield store


def finished(n: int, at: int = AT) -> Task:
    request = Request(f"t{n}", created_at=AT)
    return Task(
        request, State.COMPLETED, version=1, queued_at=AT, updated_at=AT, finished_at=at, n=n
    )


def unfinished(n: int) -> Task:
    return Task(Request(f"t{n}", created_at=AT), State.PENDING, 1, AT, AT, n=n)


def events(n: int, count: int) -> list[Event]:
    return [Event(f"t{n}", n, seq, "chunk", AT, "{}") for seq in range(1, count + 1)]


async def filled(store: Store, tasks: list[Task], each: int, body: bytes = b"{}") -> None:
    rows = [row for t in tasks for row in events(t.n, each)]
    results: dict[int, str | None] = {t.n: "text" for t in tasks}
    keys = [(f"key {t.n}", "print", t.n, t.n, "{}") for t in tasks]
    await store.commit(
        Commit(created=[(t, body) for t in tasks], events=rows, results=results, keys=keys)
    )


async def count(store: Store, table: str) -> int:
    return int((rows(store, f"SELECT COUNT(*) FROM {table}"))[0][0])


async def step(store: Store, before: int = AT + 1) -> int:
    return await store.upkeep.purge(before)


async def all_steps(store: Store, before: int = AT + 1) -> list[int]:
    found = []
    while removed := await step(store, before):
        found.append(removed)
    return found


@pytest.mark.slow
async def test_fifty_thousand_tasks_go_in_small_steps(store: Store) -> None:
    tasks = [finished(n) for n in range(1, 50_001)]
    for start in range(0, 50_000, 5_000):
        part = tasks[start : start + 5_000]
        rows = [r for t in part for r in events(t.n, 2)]
        await store.commit(Commit(created=[(t, b"{}") for t in part], events=rows))
    await store.commit(Commit(created=[(unfinished(50_001), b"mine")]))
    steps = await all_steps(store)
    assert max(steps) <= EVENTS_AT_ONCE + TASKS_AT_ONCE
    assert sum(steps) == 150_000
    for table, left in (("tasks", 1), ("bodies", 1), ("events", 0), ("purged", 0)):
        assert await count(store, table) == left, table


async def test_a_task_with_many_events_is_gone_at_once_and_its_events_bit_by_bit(
    store: Store,
) -> None:
    await filled(store, [finished(1)], 3 * EVENTS_AT_ONCE + 1)
    assert await step(store) == 1
    assert await store.task("t1") is None
    assert await store.feed(0) == []
    assert await store.first_answer("key 1") is None
    assert await store.result(1) is None
    assert await all_steps(store) == [EVENTS_AT_ONCE] * 3 + [1]
    assert (await count(store, "events"), await count(store, "purged")) == (0, 0)


async def test_a_number_is_not_given_again_while_events_of_it_are_left(tmp_path: Path) -> None:
    async with store_at(tmp_path / "x.db") as store:
        await filled(store, [finished(7)], 3 * EVENTS_AT_ONCE)
        await step(store)
    async with store_at(tmp_path / "x.db") as store:
        assert (await store.counters())[0] == 7


async def test_what_is_young_or_unfinished_stays(store: Store) -> None:
    await filled(store, [finished(1), finished(2, AT + DAY), unfinished(3)], 2)
    assert await all_steps(store) == [1, 2]
    assert await store.task("t1") is None
    for n in (2, 3):
        assert await store.task(f"t{n}") is not None
        assert len(await store.events(n, 0)) == 2
        assert await store.first_answer(f"key {n}") is not None


async def test_large_bodies_go_one_at_a_time(store: Store) -> None:
    tasks = [finished(n) for n in range(1, 5)]
    await filled(store, tasks, 0, body=b"x" * (BYTES_AT_ONCE // 2 + 1))
    assert await all_steps(store) == [1, 1, 1, 1]


async def test_the_oldest_go_first(store: Store) -> None:
    tasks = [finished(n, AT - n) for n in range(1, TASKS_AT_ONCE + 2)]
    await filled(store, tasks, 0)
    assert await step(store) == TASKS_AT_ONCE
    assert await store.task("t1") is not None


async def test_a_step_that_fails_changes_nothing(store: Store) -> None:
    await filled(store, [finished(1)], 1)

    def fails(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM tasks")
        db.execute("SELECT nonsense")

    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        await store.writer.relaxed(fails)
    assert await store.task("t1") is not None
    assert await all_steps(store) == [1, 1]


async def test_kept_things_are_forgotten_by_kind_and_age(store: Store) -> None:
    for n in range(300):
        await store.commit(Commit(AT + n, values={("answer", f"k{n}"): "{}"}))
    await store.commit(Commit(AT, values={("limits", "gate"): "{}"}))
    steps = []
    while removed := await store.upkeep.forget("answer", AT + 290):
        steps.append(removed)
    assert steps == [upkeep.KEPT_AT_ONCE, 90]
    assert [key for key, _, _ in await store.persisted_values("answer")] == [
        f"k{n}" for n in range(290, 300)
    ]
    assert len(await store.persisted_values("limits")) == 1


async def test_a_long_log_is_cut_unless_a_reader_uses_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = store.path.with_name("x.db-wal")

    assert not await store.upkeep.shorten_log()  # it is short
    monkeypatch.setattr(upkeep, "WAL_BYTES", 10_000)
    reader = next(store.readers)
    await reader.execute("BEGIN")
    await reader.execute("SELECT * FROM tasks")
    await filled(store, [finished(n) for n in range(1, 200)], 1)
    size = log.stat().st_size
    assert size > 10_000
    assert not await store.upkeep.shorten_log()
    assert log.stat().st_size == size
    await reader.execute("COMMIT")
    assert await store.upkeep.shorten_log()
    assert log.stat().st_size == 0
    timeout = await store.writer.execute("PRAGMA busy_timeout")
    assert [row[0] for row in timeout] == [5000]
    await store.commit(Commit(created=[(unfinished(300), b"{}")]))
    assert await store.task("t300") is not None
