"""What is old enough goes, and a clock that is set deletes nothing early."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.errors import StorageUnavailable, TaskNotFound
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.lifecycle.retention import DAY_MS, Retention, TrustedClock
from tests.builders import Commits, live_through, new_task, store_at
from tests.virtual_time import loop, virtual, wall_ms

DAY_S = 86_400.0
EVERY_S = 7200.0
"""Between two rounds of these tests: they go over weeks."""


class Clocks:
    """A wall clock that can be set, and a machine that can be started anew."""

    def __init__(self) -> None:
        self.set_by_ms = 0
        self.boot = "first"
        self.booted_ms = 0

    def now(self) -> int:
        return wall_ms() + self.set_by_ms

    def uptime(self) -> tuple[str, int]:
        return self.boot, round(loop().time() * 1000) - self.booted_ms

    def reboot(self) -> None:
        self.boot, self.booted_ms = f"{self.boot}+", round(loop().time() * 1000)


def settings(days: float) -> Settings:
    return Settings.model_validate({"storage": {"retention_days": days}, "cache": {"ttl_s": 3600}})


@asynccontextmanager
async def keeping(
    folder: Path, clocks: Clocks, days: float = 7
) -> AsyncIterator[tuple[Journal, Retention]]:
    """A journal with its retention running."""
    async with store_at(folder / "x.db") as store, Journal(store, clocks.now) as journal:
        retention = Retention(journal, settings(days), clocks.now, clocks.uptime, EVERY_S)
        running = asyncio.create_task(retention.run())
        try:
            yield journal, retention
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def there(journal: Journal, task_id: str) -> bool:
    try:
        await journal.task(task_id)
    except TaskNotFound:
        return False
    return True


async def days(count: float) -> None:
    await asyncio.sleep(count * DAY_S)


@virtual
async def test_finished_tasks_go_after_their_time_and_others_stay(tmp_path: Path) -> None:
    async with keeping(tmp_path, Clocks()) as (journal, retention):
        await live_through(journal, "old", "a", "b")
        await journal.append(new_task("waiting"))
        await days(1)
        await live_through(journal, "young")
        await days(5.99)
        assert await there(journal, "old")
        await days(0.1)
        assert not await there(journal, "old")
        assert await there(journal, "young")
        assert await there(journal, "waiting")
        assert retention.removed == 7
        await days(1)
        assert not await there(journal, "young")
        await days(2)
        assert list(journal.live) == ["waiting"]


@virtual
async def test_nothing_goes_where_retention_is_off(tmp_path: Path) -> None:
    async with keeping(tmp_path, Clocks(), 0) as (journal, _):
        await live_through(journal, "old")
        await days(10)
        assert await there(journal, "old")


@virtual
async def test_a_clock_that_jumps_by_a_day_deletes_nothing_early(tmp_path: Path) -> None:
    clocks = Clocks()
    async with keeping(tmp_path, clocks) as (journal, _):
        await live_through(journal, "before")
        await days(6.5)
        clocks.set_by_ms += DAY_MS
        await live_through(journal, "after")
        await days(0.4)
        assert await there(journal, "before")
        await days(0.2)
        assert not await there(journal, "before")
        await days(6.3)
        assert await there(journal, "after")
        await days(0.2)  # by now the new time is the one that counts
        assert not await there(journal, "after")


@virtual
async def test_a_clock_that_is_set_back_and_on_again_deletes_nothing_early(tmp_path: Path) -> None:
    clocks = Clocks()
    async with keeping(tmp_path, clocks) as (journal, _):
        await live_through(journal, "first")
        await days(1)
        clocks.set_by_ms -= 3 * DAY_MS
        await live_through(journal, "second")
        await days(1)
        clocks.set_by_ms += 3 * DAY_MS
        await days(5.9)
        assert await there(journal, "second")
        await days(10)
        assert not await there(journal, "first")
        assert not await there(journal, "second")


@virtual
async def test_a_jump_while_the_service_is_off_is_seen_too(tmp_path: Path) -> None:
    clocks = Clocks()
    async with keeping(tmp_path, clocks) as (journal, _):
        await live_through(journal, "old")
        await days(6.5)
    clocks.set_by_ms += DAY_MS
    async with keeping(tmp_path, clocks) as (journal, _):
        await days(0.3)
        assert await there(journal, "old")
    async with keeping(tmp_path, clocks) as (journal, _):
        await days(0.1)
        assert await there(journal, "old")
        await days(0.2)
        assert not await there(journal, "old")


@virtual
async def test_time_goes_by_while_the_service_or_the_machine_is_off(tmp_path: Path) -> None:
    clocks = Clocks()
    for reboots in (False, True):
        folder = tmp_path / str(reboots)
        folder.mkdir()
        async with keeping(folder, clocks) as (journal, _):
            await live_through(journal, "old")
            await asyncio.sleep(EVERY_S)
        await days(8)
        if reboots:
            clocks.reboot()
        async with keeping(folder, clocks) as (journal, _):
            await asyncio.sleep(5)
            assert not await there(journal, "old")


@virtual
async def test_small_corrections_are_no_jumps() -> None:
    clocks = Clocks()
    clock = TrustedClock(clocks.now, clocks.uptime, DAY_MS)
    for correction in (900, -900, 2_000, -3_000):
        await asyncio.sleep(60)
        clocks.set_by_ms += correction
        assert clock.read() == clocks.now()
    clocks.set_by_ms += 60_000
    assert clock.read() == clocks.now() - 60_000


@virtual
async def test_a_disk_that_refuses_only_makes_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with keeping(tmp_path, Clocks(), 1) as (journal, retention):
        await live_through(journal)
        commits = Commits(journal.store)
        await asyncio.sleep(DAY_S - 1)
        commits.refuse()
        await asyncio.sleep(10 * EVERY_S)
        assert retention.removed == 0
        assert caplog.text.count("purging waits") == 1
        commits.refusal = None
        await asyncio.sleep(EVERY_S)
        assert retention.removed == 5


@virtual
async def test_others_come_in_between(tmp_path: Path) -> None:
    async with keeping(tmp_path, Clocks()) as (journal, retention):
        order: list[str] = []

        async def chore() -> None:
            await asyncio.sleep(0)
            order.append("chore")

        commits = Commits(journal.store)
        commits.free.clear()
        first = journal.append(new_task("first"))
        await commits.began.wait()
        chores = [asyncio.create_task(journal.between(chore)) for _ in range(2)]
        await asyncio.sleep(0)
        second = journal.append(new_task("second"))
        second.add_done_callback(lambda _: order.append("second"))
        commits.free.set()
        await asyncio.gather(first, second, *chores)
        assert order == ["chore", "second", "chore"]
        assert retention.removed == 0


@virtual
async def test_stale_answers_are_forgotten(tmp_path: Path) -> None:
    async with keeping(tmp_path, Clocks()) as (journal, _):
        await journal.append(PersistedValue("answer", "k", "{}"))
        await asyncio.sleep(3500)
        assert len(await journal.store.persisted_values("answer")) == 1
        await asyncio.sleep(EVERY_S)
        assert await journal.store.persisted_values("answer") == []


@virtual
async def test_a_chore_of_a_journal_that_closes_is_refused(tmp_path: Path) -> None:
    async with keeping(tmp_path, Clocks()) as (journal, _):
        pass
    with pytest.raises(StorageUnavailable):
        await journal.between(journal.store.upkeep.shorten_log)


@virtual
async def test_workspaces_of_tasks_that_are_gone_are_removed_each_hour(tmp_path: Path) -> None:
    clocks, gone = Clocks(), list[list[str]]()

    async def sweep(keep: Callable[[str], Awaitable[bool]]) -> int:
        gone.append([task_id for task_id in ("old", "waiting", "none") if not await keep(task_id)])
        if len(gone) == 1:
            raise OSError("the disk is away")
        return 0

    async with store_at(tmp_path / "x.db") as store, Journal(store, clocks.now) as journal:
        await live_through(journal, "old")
        await journal.append(new_task("waiting"))
        found = Retention(journal, settings(1), clocks.now, clocks.uptime, sweep_workspaces=sweep)
        await found.sweep()
        await found.sweep()
        assert gone == [["none"]]
        await asyncio.sleep(3600)
        await found.sweep()
        assert gone == [["none"], ["none"]]
        await days(1)
        await found.sweep()
        assert gone[-1] == ["old", "none"]
