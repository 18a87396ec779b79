import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import Overloaded, ShuttingDown, StorageUnavailable
from asyncsvc.monitoring.monitor import HUNG_S, Monitor, Rhythm
from asyncsvc.monitoring.process_statistics import Readings
from asyncsvc.storage.statements import Batch
from asyncsvc.tasks.state import State
from tests.builders import Commits
from tests.engine_house import EngineHouse
from tests.scripted import HANG
from tests.virtual_time import loop, virtual

MB = 1_000_000
CALM = Readings(memory=100 * MB, disk_free=5000 * MB, fds=50, fds_limit=1000)
LIMITS = {"memory_mb": 500, "disk_free_mb": 200}
LOOK_S = 1.0
SOON_S = 1.5
"""A look later."""


def _house(folder: Path, **sections: Any) -> EngineHouse:
    """One whose monitor looks each second; `house.seen` is what it sees."""
    house = EngineHouse(folder, limits=LIMITS, **sections)
    house.rhythm = Rhythm()
    house.seen = CALM
    return house


def _monitor(house: EngineHouse) -> Monitor:
    return house.house.monitor


def _levels(house: EngineHouse) -> dict[str, str]:
    reasons = _monitor(house).alarms.reasons
    return {name: reason.level.name.lower() for name, reason in reasons.items()}


async def _refusal(house: EngineHouse) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        await house.submit("x")
    return caught.value


BEYOND: list[tuple[str, dict[str, int], str]] = [
    ("memory", {"memory": 600 * MB}, "600 MB of memory used, limits.memory_mb = 500"),
    ("disk", {"disk_free": 150 * MB}, "150 MB free on the database's disk"),
    ("disk", {"disk_free": 0}, "0 MB free"),
    ("fds", {"fds": 950}, "950 of 1000 file descriptors open"),
]


@pytest.mark.parametrize(("name", "seen", "said"), BEYOND)
def test_beyond_a_limit_no_task_is_taken_until_it_is_over(
    tmp_path: Path, name: str, seen: dict[str, Any], said: str
) -> None:
    @virtual
    async def run() -> None:
        async with _house(tmp_path) as house:
            running = await house.submit_script("a", [HANG])
            await asyncio.sleep(SOON_S)
            house.seen = replace(CALM, **seen)
            await asyncio.sleep(SOON_S)
            refusal = await _refusal(house)
            assert said in str(refusal)
            assert refusal.retry_after == 5.0
            assert _levels(house) == {name: "overloaded"}
            # What is there goes on: it runs, is read and cancelled.
            assert await house.state(running) is State.RUNNING
            await house.house.control.cancel(running)
            house.seen = CALM
            await asyncio.sleep(SOON_S)
            assert _levels(house) == {}
            await house.finished(await house.submit("x"))

    run()


NEAR = [
    ("memory", {"memory": 420 * MB}),
    ("disk", {"disk_free": 240 * MB}),
    ("fds", {"fds": 800}),
]


@pytest.mark.parametrize(("name", "seen"), NEAR)
def test_near_a_limit_it_is_only_said(tmp_path: Path, name: str, seen: dict[str, Any]) -> None:
    @virtual
    async def run() -> None:
        async with _house(tmp_path) as house:
            house.seen = replace(CALM, **seen)
            await asyncio.sleep(SOON_S)
            assert _levels(house) == {name: "degraded"}
            await house.finished(await house.submit("x"))

    run()


@virtual
async def test_all_reasons_are_named(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        house.seen = replace(CALM, memory=600 * MB, disk_free=0)
        await asyncio.sleep(SOON_S)
        refusal = str(await _refusal(house))
        assert "memory" in refusal and "disk" in refusal


@virtual
async def test_the_longer_it_lasts_the_later_one_is_told_to_come_back(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        house.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        told = []
        for _ in range(4):
            told.append((await _refusal(house)).retry_after)
            await asyncio.sleep(29.5)
        assert told == pytest.approx([5.0, 30.0, 59.5, 60.0])


@virtual
async def test_limits_of_zero_watch_nothing(tmp_path: Path) -> None:
    house = EngineHouse(tmp_path, limits={"disk_free_mb": 0, "loop_lag_ms": 0})
    house.rhythm = Rhythm()
    async with house:
        loop().now += 100
        house.seen = replace(CALM, disk_free=0)
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {}


@virtual
async def test_what_a_platform_does_not_tell_is_no_reason(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        house.seen = Readings(memory=MB)
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {}


@virtual
async def test_a_loop_that_stands_still_refuses_for_ten_seconds(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        await asyncio.sleep(30)
        loop().now += 4.0
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {"loop_lag": "overloaded"}
        assert "limits.loop_lag_ms = 2000" in str(await _refusal(house))
        await asyncio.sleep(10)
        assert _levels(house) == {}


@virtual
async def test_a_short_stop_is_no_overload_not_even_at_the_start(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        for _ in range(2):
            loop().now += 2.2
            await asyncio.sleep(SOON_S)
            assert _levels(house) == {}
            await asyncio.sleep(30)


@virtual
async def test_a_queue_that_fills_up_is_said(tmp_path: Path) -> None:
    async with _house(tmp_path, queue={"max_length": 10}) as house:
        house.client.on("h", [HANG])
        await house.submit_many(["h"] * 8)
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {"queue": "degraded"}
        await house.submit_many(["h"] * 2)
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {"queue": "degraded"}  # queue_full speaks for itself


# The disk -----------------------------------------------------------------------------------


@virtual
async def test_a_disk_that_refuses_is_found_and_its_return_without_a_submit(
    tmp_path: Path,
) -> None:
    async with _house(tmp_path) as house:
        commits = Commits(house.house.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await house.submit("x")
        await asyncio.sleep(60)
        assert _levels(house) == {"storage": "degraded"}
        assert not _monitor(house).writes_go_well
        commits.refusal = None
        await asyncio.sleep(3.5)
        assert _levels(house) == {}
        assert _monitor(house).writes_go_well
        await house.finished(await house.submit("x"))


@virtual
async def test_a_disk_that_takes_only_small_writes_is_one_alarm(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        store = house.house.journal.store
        plain = store.commit

        async def commit(batch: Batch) -> None:
            if batch.born:
                raise StorageUnavailable("full")
            await plain(batch)

        store.commit = commit  # type: ignore[method-assign]
        for _ in range(20):
            with pytest.raises(StorageUnavailable):
                await house.submit("x")
            await asyncio.sleep(SOON_S)
        assert _monitor(house).alarms.last == 1
        await asyncio.sleep(2.5)
        assert _levels(house) == {}


@virtual
async def test_a_refused_disk_is_tried_once_a_second(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        commits = Commits(house.house.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await house.submit("x")
        commits.batches.clear()
        await asyncio.sleep(10.5)
        assert 9 <= len(commits.batches) <= 11
        assert all(batch.durable for batch in commits.batches)


@virtual
async def test_an_idle_disk_is_tried_now_and_then(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        commits = Commits(house.house.journal.store)
        commits.refuse()
        await asyncio.sleep(50)
        assert commits.batches == []
        await asyncio.sleep(15)
        assert _levels(house) == {"storage": "degraded"}


@virtual
async def test_a_write_that_hangs_refuses_tasks_until_it_is_done(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        commits = Commits(house.house.journal.store)
        commits.free.clear()
        waits = asyncio.create_task(house.submit("x"))
        await asyncio.sleep(HUNG_S + SOON_S)
        assert "has been going on for" in str(await _refusal(house))
        assert not _monitor(house).writes_go_well
        assert len(commits.batches) == 1  # no trial is queued behind it
        commits.free.set()
        await house.finished(await waits)
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {}


# Its own troubles -----------------------------------------------------------------------------


@virtual
async def test_without_a_look_the_last_one_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _house(tmp_path) as house:
        house.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        with patch.object(_monitor(house), "_look", side_effect=OSError("no /proc")):
            await asyncio.sleep(5)
        assert _levels(house) == {"memory": "overloaded"}
        assert sum("cannot be read" in r.getMessage() for r in caplog.records) == 1
        house.seen = CALM
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {}


@virtual
async def test_a_fault_of_ours_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _house(tmp_path) as house:
        with patch.object(_monitor(house), "_look", side_effect=ZeroDivisionError):
            await asyncio.sleep(SOON_S)
        assert any("a fault of ours" in record.getMessage() for record in caplog.records)
        house.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        assert _levels(house) == {"memory": "overloaded"}


@virtual
async def test_freed_memory_is_given_back_while_it_is_short(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        await asyncio.sleep(30)
        assert house.reliefs == []
        house.seen = replace(CALM, memory=450 * MB)
        await asyncio.sleep(25.5)
        assert len(house.reliefs) == 3


@virtual
async def test_a_stop_goes_before_an_overload(tmp_path: Path) -> None:
    async with _house(tmp_path) as house:
        house.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        house.house.intake.closed = True
        with pytest.raises(ShuttingDown):
            await house.submit("x")
        with pytest.raises(ShuttingDown):
            house.house.intake.turn_away()


@virtual
async def test_the_start_tells_the_limits_and_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with _house(tmp_path):
            pass
    assert any("sqlite 3." in record.getMessage() for record in caplog.records)
