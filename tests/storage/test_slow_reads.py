"""Slow reads: bounded in number, time and queue, apart from all other reads."""

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import ReadTooSlow, StorageUnavailable
from asyncsvc.storage import slow_reads
from asyncsvc.storage.connection import Reader
from asyncsvc.storage.database import READERS, Database
from asyncsvc.storage.entries import Commit
from asyncsvc.storage.slow_reads import AT_ONCE, WAITING_MOST, SlowReads
from asyncsvc.storage.texts import SQLiteTexts
from tests.builders import store_at
from tests.storage.stored import event, listed, stored, task

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT MAX(x) FROM c"
FILTERS: list[dict[str, Any]] = [
    {"text": "x"},
    {"model": "m"},
    {"where": {"lane": "long"}},
    {"where": {"type": "chat"}},
    {"where": {"lane": "long", "state": "failed"}},
]
"""What may go over all tasks."""


@pytest.fixture
async def readers(store: Database) -> AsyncIterator[list[Reader]]:
    async with Reader.opened(store.path) as reader:
        yield [reader]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    async with store_at(tmp_path / "x.db") as store:
        await stored(store, task(1))
        yield store


async def test_a_read_is_stopped_after_its_time(readers: list[Reader]) -> None:
    reads = SlowReads("searches", readers, limit_s=0.05)
    with pytest.raises(ReadTooSlow, match=r"searches are stopped after 0\.05 s"):
        await reads(ENDLESS)
    assert await reads("SELECT 1") == [(1,)]


async def test_a_read_that_is_not_wanted_any_more_leaves_nothing_in_the_log(
    readers: list[Reader], caplog: pytest.LogCaptureFixture
) -> None:
    reads = SlowReads("exports", readers)
    unwanted = asyncio.create_task(reads(ENDLESS, limited=False))
    await asyncio.sleep(0.02)
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    assert await reads("SELECT 1") == [(1,)]
    gc.collect()
    assert caplog.text == ""


async def test_a_read_that_is_not_wanted_any_more_is_stopped(readers: list[Reader]) -> None:
    reads = SlowReads("searches", readers, limit_s=60)
    for _ in range(3):
        unwanted = asyncio.create_task(reads(ENDLESS))
        await asyncio.sleep(0.02)
        unwanted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unwanted
    async with asyncio.timeout(10):
        assert await reads("SELECT 1") == [(1,)]


async def test_one_that_waits_too_long_is_refused_and_the_next_is_served(
    readers: list[Reader],
) -> None:
    reads = SlowReads("searches", readers, wait_s=0.02, limit_s=0.5)
    first = asyncio.create_task(reads(ENDLESS))
    await asyncio.sleep(0)
    with pytest.raises(ReadTooSlow, match="too many searches"):
        await reads("SELECT 1")
    patient = asyncio.create_task(reads("SELECT 2", (), limited=False))
    with pytest.raises(ReadTooSlow, match="stopped"):
        await first
    assert await patient == [(2,)]


async def test_only_so_many_wait(readers: list[Reader]) -> None:
    reads = SlowReads("searches", readers, limit_s=0.3)
    asked = [asyncio.create_task(reads(ENDLESS))]
    await asyncio.sleep(0)
    asked += [asyncio.create_task(reads("SELECT 1")) for _ in range(WAITING_MOST + 5)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, ReadTooSlow) for each in found) == 1 + 5
    assert found.count([(1,)]) == WAITING_MOST


async def test_another_error_stays_what_it_is(readers: list[Reader]) -> None:
    reads = SlowReads("searches", readers)
    for _ in range(2 * AT_ONCE):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await reads("SELECT * FROM missing")


async def test_no_read_and_no_commit_waits_for_slow_ones(store: Database) -> None:
    slow = [
        asyncio.create_task(each(ENDLESS, ()))
        for each in (store.searches, store.scans)
        for _ in range(AT_ONCE + 2)
    ]
    await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(5):
            await stored(store, task(2))
            assert await listed(store) == [2, 1]
            assert await listed(store, where={"state": "pending"}) == [2, 1]
            assert await store.task("t1") is not None
            assert await store.texts.body(1) is not None
            assert await store.events(1, 0) == []
            assert await store.feed(0) == []
    finally:
        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
async def test_a_filter_without_an_index_is_a_slow_read(
    store: Database, filters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_reads, "WAITING_MOST", 0)
    with pytest.raises(ReadTooSlow):
        await listed(store, **filters)


@pytest.mark.parametrize("where", [{}, {"state": "pending"}, {"session_id": "s"}], ids=str)
@pytest.mark.parametrize("before", [None, 10])
async def test_the_other_filters_go_over_no_task_in_vain(
    store: Database, where: dict[str, str], before: int | None
) -> None:
    asked: list[str] = []
    for _ in range(READERS):
        await next(store.readers).set_trace_callback(asked.append)
    await store.page(where, None, None, before, 51)
    plan = await store.writer.execute(f"EXPLAIN QUERY PLAN {asked[0]}")
    steps = [str(row[3]) for row in plan]
    # Without a filter the newest tasks are the last rows of the table.
    wanted = "SCAN tasks" if not where and before is None else "SEARCH tasks USING"
    assert [step[: len(wanted)] for step in steps] == [wanted], steps


async def test_an_export_waits_for_its_turn(store: Database) -> None:
    slow = [asyncio.create_task(store.scans(ENDLESS)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    export = asyncio.create_task(store.exported(0, None, None))
    await asyncio.sleep(0.05)
    assert not export.done()
    for each in slow:
        each.cancel()
    assert [found[0].n for found in await export] == [1]
    await asyncio.gather(*slow, return_exceptions=True)


async def test_a_page_of_long_events_is_not_read_as_a_whole(
    store: Database, readers: list[Reader]
) -> None:
    many = [event(1, seq, data='"' + "x" * 200_000 + '"') for seq in range(1, 51)]
    await store.commit(Commit(events=many))
    read = 0

    def counting(text: bytes) -> str:
        nonlocal read
        read += len(text)
        return text.decode()

    await readers[0].run(lambda connection: setattr(connection, "text_factory", counting))
    texts = SQLiteTexts(readers, store.refusals)
    assert len(await texts.page("SELECT data FROM events ORDER BY seq", (), 0)) == 1
    assert read < 3 * 200_000


async def test_a_store_that_is_closed_refuses_slow_reads(tmp_path: Path) -> None:
    async with store_at(tmp_path / "y.db") as store:
        pass
    with pytest.raises(StorageUnavailable):
        await listed(store, text="x")
