"""Steering a running task while the disk takes no record of it."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from tests.builders import Commits
from tests.engine_services import MOMENT, EngineServices, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import loop, virtual

STEERED = {"cancel": State.CANCELLED, "pause": State.PAUSED}


@contextmanager
def full(services: EngineServices) -> Generator[None]:
    """A disk without any room."""
    store = services.services.journal.store
    with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
        yield


async def running(services: EngineServices) -> str:
    task_id = await services.submit_script("x", ["some ", HANG])
    await asyncio.sleep(1)
    return task_id


@pytest.mark.parametrize("verb", STEERED)
def test_the_call_is_cut_at_once_and_the_record_follows(tmp_path: Path, verb: str) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await running(services)
            with full(services):
                before = loop().time()
                with pytest.raises(StorageUnavailable, match="the call upstream is cut"):
                    await getattr(services.services.control, verb)(task_id)
                assert since(before) < 1
                assert services.client.running == []
                assert services.client.calls[0].cancelled
                assert await services.state(task_id) is State.RUNNING
                await asyncio.sleep(30)
            await asyncio.sleep(1)
            assert await services.state(task_id) is STEERED[verb]
            assert await services.streamed(task_id) == "some "
            assert len(services.client.calls) == 1

    check()


@virtual
async def test_a_second_try_is_answered_at_once_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await running(services)
        with full(services):
            for _ in range(2):
                with pytest.raises(StorageUnavailable):
                    await services.services.control.cancel(task_id)
        await asyncio.sleep(1)
        assert await services.state(task_id) is State.CANCELLED


@virtual
async def test_a_disk_that_hangs_is_waited_for_within_bounds(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        task_id = await services.submit("x")
        await asyncio.sleep(1)
        store, back = services.services.journal.store, asyncio.Event()
        commit = store.commit

        async def hanging(batch: Commit) -> None:
            await back.wait()
            await commit(batch)

        with patch.object(store, "commit", hanging):
            before = loop().time()
            with pytest.raises(StorageUnavailable, match="has not answered"):
                await services.services.control.cancel(task_id)
            assert since(before) == 30
            assert services.client.running == []
            back.set()
            await asyncio.sleep(MOMENT)
        assert await services.state(task_id) is State.CANCELLED


@virtual
async def test_an_interruption_is_recorded_when_the_disk_is_back(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await running(services)
        with full(services):
            stopping = asyncio.create_task(services.services.executor.interrupt_all())
            await asyncio.sleep(3)
            assert not stopping.done()
        await stopping
        assert await services.state(task_id) is State.PENDING


@virtual
async def test_a_call_that_has_ended_holds_no_slot_while_its_record_waits_for_the_disk(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [1.0, "ok"])
        await asyncio.sleep(0.5)
        commits = Commits(services.services.journal.store)
        gate = services.services.catalogue.upstreams[0].gate
        assert gate.busy == 1
        commits.free.clear()
        await asyncio.sleep(10)
        assert services.client.running == []
        assert gate.busy == 0
        assert await services.state(task_id) is State.RUNNING  # nothing is recorded yet
        commits.free.set()
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert gate.busy == 0


@virtual
async def test_the_measured_time_of_a_call_begins_when_its_start_is_on_the_disk(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        store = services.services.journal.store
        plain = store.commit

        async def slow_start(batch: Commit) -> None:
            if any(task.state is State.RUNNING for _, task in batch.changed):
                await asyncio.sleep(10)
            await plain(batch)

        with patch.object(store, "commit", slow_start):
            await services.finished(await services.submit_script("x", [1.0, "ok"]))
        assert services.client.calls[0].started >= 10
        statistics = services.services.catalogue.upstreams[0].gate.statistics
        assert statistics.service_s == pytest.approx(1.0, abs=0.1)
