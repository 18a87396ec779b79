import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import Overloaded, ShuttingDown, StorageUnavailable
from asyncsvc.monitoring.monitor import HUNG_S, Monitor, Rhythm
from asyncsvc.monitoring.process_statistics import ProcessStatistics
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from tests.builders import Commits
from tests.engine_services import EngineServices
from tests.scripted import HANG
from tests.virtual_time import loop, virtual

MB = 1_000_000
CALM = ProcessStatistics(memory=100 * MB, disk_free=5000 * MB, fds=50, fds_limit=1000)
LIMITS = {"memory_mb": 500, "disk_free_mb": 200}
LOOK_S = 1.0
SOON_S = 1.5
"""A look later."""


def _services(folder: Path, **sections: Any) -> EngineServices:
    """One whose monitor looks each second; `service.seen` is what it sees."""
    services = EngineServices(folder, limits=LIMITS, **sections)
    services.rhythm = Rhythm()
    services.seen = CALM
    return services


def _monitor(services: EngineServices) -> Monitor:
    return services.services.monitor


def _levels(services: EngineServices) -> dict[str, str]:
    reasons = _monitor(services).alarms.reasons
    return {name: reason.level.name.lower() for name, reason in reasons.items()}


async def _refusal(services: EngineServices) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        await services.submit("x")
    return caught.value


BEYOND: list[tuple[str, dict[str, int], str]] = [
    ("memory", {"memory": 600 * MB}, "600 MB of memory used, limits.memory_mb = 500"),
    ("disk", {"disk_free": 150 * MB}, "150 MB free on the database's disk"),
    ("disk", {"disk_free": 0}, "0 MB free"),
    ("fds", {"fds": 950}, "950 of 1000 file descriptors open"),
]


@pytest.mark.parametrize(("name", "seen", "text"), BEYOND)
def test_beyond_a_limit_no_task_is_taken_until_it_is_over(
    tmp_path: Path, name: str, seen: dict[str, Any], text: str
) -> None:
    @virtual
    async def run() -> None:
        async with _services(tmp_path) as services:
            running = await services.submit_script("a", [HANG])
            await asyncio.sleep(SOON_S)
            services.seen = replace(CALM, **seen)
            await asyncio.sleep(SOON_S)
            refusal = await _refusal(services)
            assert text in str(refusal)
            assert refusal.retry_after == pytest.approx(5.0)
            assert _levels(services) == {name: "overloaded"}
            # What is there goes on: it runs, is read and cancelled.
            assert await services.state(running) is State.RUNNING
            await services.services.control.cancel(running)
            services.seen = CALM
            await asyncio.sleep(SOON_S)
            assert _levels(services) == {}
            await services.finished(await services.submit("x"))

    run()


NEAR = [
    ("memory", {"memory": 420 * MB}),
    ("disk", {"disk_free": 240 * MB}),
    ("fds", {"fds": 800}),
]


@pytest.mark.parametrize(("name", "seen"), NEAR)
def test_a_figure_near_its_limit_refuses_no_task(
    tmp_path: Path, name: str, seen: dict[str, Any]
) -> None:
    @virtual
    async def run() -> None:
        async with _services(tmp_path) as services:
            services.seen = replace(CALM, **seen)
            await asyncio.sleep(SOON_S)
            assert _levels(services) == {name: "degraded"}
            await services.finished(await services.submit("x"))

    run()


@virtual
async def test_all_reasons_are_named(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        services.seen = replace(CALM, memory=600 * MB, disk_free=0)
        await asyncio.sleep(SOON_S)
        refusal = str(await _refusal(services))
        assert "memory" in refusal
        assert "disk" in refusal


@virtual
async def test_retry_after_grows_with_the_length_of_an_alarm(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        services.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        waits = []
        for _ in range(4):
            waits.append((await _refusal(services)).retry_after)
            await asyncio.sleep(29.5)
        assert waits == pytest.approx([5.0, 30.0, 59.5, 60.0])


@virtual
async def test_limits_of_zero_watch_nothing(tmp_path: Path) -> None:
    services = EngineServices(tmp_path, limits={"disk_free_mb": 0, "loop_lag_ms": 0})
    services.rhythm = Rhythm()
    async with services:
        loop().now += 100
        services.seen = replace(CALM, disk_free=0)
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {}


@virtual
async def test_what_a_platform_does_not_tell_is_no_reason(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        services.seen = ProcessStatistics(memory=MB)
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {}


@virtual
async def test_a_loop_that_stands_still_refuses_for_ten_seconds(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        await asyncio.sleep(30)
        loop().now += 4.0
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {"loop_lag": "overloaded"}
        assert "limits.loop_lag_ms = 2000" in str(await _refusal(services))
        await asyncio.sleep(10)
        assert _levels(services) == {}


@virtual
async def test_a_short_stop_is_no_overload_not_even_at_the_start(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        for _ in range(2):
            loop().now += 2.2
            await asyncio.sleep(SOON_S)
            assert _levels(services) == {}
            await asyncio.sleep(30)


@virtual
async def test_a_queue_that_fills_up_raises_an_alarm(tmp_path: Path) -> None:
    async with _services(tmp_path, queue={"max_length": 10}) as services:
        services.client.on("h", [HANG])
        await services.submit_many(["h"] * 8)
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {"queue": "degraded"}
        await services.submit_many(["h"] * 2)
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {"queue": "degraded"}  # queue_full speaks for itself


# The disk -----------------------------------------------------------------------------------


@virtual
async def test_a_disk_that_refuses_is_found_and_its_return_without_a_submit(
    tmp_path: Path,
) -> None:
    async with _services(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await services.submit("x")
        await asyncio.sleep(60)
        assert _levels(services) == {"storage": "degraded"}
        assert not _monitor(services).writes_go_well
        commits.refusal = None
        await asyncio.sleep(3.5)
        assert _levels(services) == {}
        assert _monitor(services).writes_go_well
        await services.finished(await services.submit("x"))


@virtual
async def test_a_disk_that_takes_only_small_writes_is_one_alarm(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        store = services.services.journal.store
        plain = store.commit

        async def commit(batch: Commit) -> None:
            if batch.created:
                raise StorageUnavailable("full")
            await plain(batch)

        store.commit = commit  # type: ignore[method-assign]
        for _ in range(20):
            with pytest.raises(StorageUnavailable):
                await services.submit("x")
            await asyncio.sleep(SOON_S)
        assert _monitor(services).alarms.last == 1
        await asyncio.sleep(2.5)
        assert _levels(services) == {}


@virtual
async def test_a_refused_disk_is_tried_once_a_second(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await services.submit("x")
        commits.batches.clear()
        await asyncio.sleep(10.5)
        assert 9 <= len(commits.batches) <= 11
        assert all(batch.durable for batch in commits.batches)


@virtual
async def test_an_idle_disk_is_tried_now_and_then(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        commits.refuse()
        await asyncio.sleep(50)
        assert commits.batches == []
        await asyncio.sleep(15)
        assert _levels(services) == {"storage": "degraded"}


@virtual
async def test_a_write_that_hangs_refuses_tasks_until_it_is_done(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        commits = Commits(services.services.journal.store)
        commits.free.clear()
        waits = asyncio.create_task(services.submit("x"))
        await asyncio.sleep(HUNG_S + SOON_S)
        assert "has been going on for" in str(await _refusal(services))
        assert not _monitor(services).writes_go_well
        assert len(commits.batches) == 1  # no trial is queued behind it
        commits.free.set()
        await services.finished(await waits)
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {}


# Its own troubles -----------------------------------------------------------------------------


@virtual
async def test_without_a_look_the_last_one_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _services(tmp_path) as services:
        services.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        with patch.object(_monitor(services), "look", side_effect=OSError("no /proc")):
            await asyncio.sleep(5)
        assert _levels(services) == {"memory": "overloaded"}
        assert sum("cannot be read" in r.getMessage() for r in caplog.records) == 1
        services.seen = CALM
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {}


@virtual
async def test_a_fault_of_ours_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _services(tmp_path) as services:
        with patch.object(_monitor(services), "look", side_effect=ZeroDivisionError):
            await asyncio.sleep(SOON_S)
        assert any("a fault of ours" in record.getMessage() for record in caplog.records)
        services.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        assert _levels(services) == {"memory": "overloaded"}


@virtual
async def test_freed_memory_is_given_back_while_it_is_short(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        await asyncio.sleep(30)
        assert services.reliefs == []
        services.seen = replace(CALM, memory=450 * MB)
        await asyncio.sleep(25.5)
        assert len(services.reliefs) == 3


@virtual
async def test_memory_of_a_burst_is_given_back_although_it_is_not_short(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        await asyncio.sleep(30)
        services.seen = replace(CALM, memory=CALM.memory * 2)
        await asyncio.sleep(1.5)
        assert len(services.reliefs) == 1
        # What stays is used: it is looked at from time to time.
        await asyncio.sleep(120)
        assert 2 <= len(services.reliefs) <= 5
        services.seen = CALM
        await asyncio.sleep(2)
        before = len(services.reliefs)
        await asyncio.sleep(120)
        assert len(services.reliefs) == before


@virtual
async def test_the_store_frees_its_memory_before_freed_memory_is_given_back(
    tmp_path: Path,
) -> None:
    async with _services(tmp_path) as services:
        upkeep, reliefs = services.services.journal.store.upkeep, services.reliefs
        before: list[int] = []

        async def release() -> None:
            before.append(len(reliefs))

        with patch.object(upkeep, "release_memory", release):
            await asyncio.sleep(5)
            services.seen = replace(CALM, memory=CALM.memory * 2)
            await asyncio.sleep(60)
        assert before == list(range(len(reliefs)))
        assert reliefs


@virtual
async def test_what_is_freed_later_is_given_back_soon(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        await asyncio.sleep(30)
        services.seen = replace(CALM, memory=CALM.memory * 2)
        await asyncio.sleep(15)
        assert len(services.reliefs) == 1
        services.seen = replace(services.seen, freed=40 * MB)
        await asyncio.sleep(10)
        assert len(services.reliefs) == 2
        services.seen = replace(services.seen, freed=5 * MB)
        await asyncio.sleep(15)
        services.seen = replace(services.seen, freed=40 * MB)
        await asyncio.sleep(10)
        assert len(services.reliefs) == 3


@virtual
async def test_a_stop_goes_before_an_overload(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        services.seen = replace(CALM, memory=600 * MB)
        await asyncio.sleep(SOON_S)
        services.services.intake.closed = True
        with pytest.raises(ShuttingDown):
            await services.submit("x")
        with pytest.raises(ShuttingDown):
            services.services.intake.turn_away()


@virtual
async def test_the_start_tells_the_limits_and_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with _services(tmp_path):
            pass
    assert any("sqlite 3." in record.getMessage() for record in caplog.records)


@virtual
async def test_free_pages_of_the_database_are_room(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        room = services.services.journal.store.upkeep.room
        services.seen = replace(CALM, disk_free=150 * MB)

        async def look() -> None:
            room.free_pages = 200 * MB

        with patch.object(services.services.journal.store.upkeep, "look_at_pages", look):
            await asyncio.sleep(SOON_S)
            assert "disk" not in _levels(services)
            services.seen = replace(CALM, disk_free=10 * MB)  # too little for the log itself
            await asyncio.sleep(SOON_S)
            assert _levels(services)["disk"] == "overloaded"


@virtual
async def test_without_room_no_call_begins_and_with_room_it_does(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        room = services.services.journal.store.upkeep.room
        assert room.open.is_set()
        services.seen = replace(CALM, disk_free=100 * MB)
        await asyncio.sleep(SOON_S)
        assert not room.open.is_set()
        services.seen = CALM
        await asyncio.sleep(SOON_S)
        assert room.open.is_set()
        await services.finished(await services.submit("x"))


@virtual
async def test_a_long_log_is_cut_and_one_that_cannot_be_cut_is_an_alarm(tmp_path: Path) -> None:
    async with _services(tmp_path) as services:
        upkeep = services.services.journal.store.upkeep
        tried = []

        async def cut() -> bool:
            tried.append(1)
            return False

        with patch.object(upkeep, "shorten_log", cut):
            services.seen = replace(CALM, wal=60 * MB)
            await asyncio.sleep(SOON_S)
            assert not tried
            services.seen = replace(CALM, wal=100 * MB)
            await asyncio.sleep(SOON_S)
            assert tried
            assert _levels(services) == {}
            services.seen = replace(CALM, wal=600 * MB)
            await asyncio.sleep(SOON_S)
            assert _levels(services) == {"log": "degraded"}
            reason = _monitor(services).alarms.reasons["log"].as_dict()
            assert "600 MB in the write-ahead log" in reason["message"]
            assert "end the program that reads" in reason["remedy"]
            await services.submit("x")  # it is no reason to refuse
