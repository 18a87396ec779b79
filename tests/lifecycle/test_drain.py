import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.app import RECORD_S, drain
from asyncsvc.errors import ShuttingDown, StorageUnavailable
from asyncsvc.tasks.state import State, Task
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import Script
from tests.virtual_time import virtual

WIDE = {"a": model(concurrency=3)}
SLOW: Script = ["par", 10.0, "tial"]


async def _drain(services: EngineServices, grace_s: float) -> asyncio.Event:
    hurry = asyncio.Event()
    await drain(services.services, grace_s, hurry)
    return hurry


@virtual
async def test_within_the_grace_what_runs_is_finished(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        ids = [await services.submit_script(p, SLOW) for p in "xy"]
        await asyncio.sleep(1)
        await _drain(services, 60)
        assert since() == 10
        assert [await services.state(task_id) for task_id in ids] == ["completed", "completed"]
        assert await services.result(ids[0]) == "partial"


@pytest.mark.parametrize("grace", [5.0, 0.0])
def test_after_the_grace_what_runs_goes_back_at_no_cost(tmp_path: Path, grace: float) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, WIDE) as services:
            task_id = await services.submit_script("x", SLOW)
            await asyncio.sleep(1)
            await _drain(services, grace)
            assert since() == 1 + grace
            task = await services.task(task_id)
            assert (task.state, task.attempts) == (State.PENDING, 0)
            assert services.client.calls[0].cancelled
            assert (await services.kinds(task_id))[-1] == "interrupted"
            await services.close()
            await services.reopen()
            assert (await services.finished(task_id)).attempts == 1

    check()


@virtual
async def test_hurry_cuts_the_grace_short(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        await services.submit_script("x", [1000.0, "ok"])
        await asyncio.sleep(1)
        hurry = asyncio.Event()
        draining = asyncio.create_task(drain(services.services, 600, hurry))
        await asyncio.sleep(3)
        assert not draining.done()
        hurry.set()
        await draining
        assert since() == 4


@virtual
async def test_nothing_new_is_taken_or_started(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.submit_script("x", SLOW)
        waiting = await services.submit("waiting")
        await asyncio.sleep(1)
        draining = asyncio.create_task(_drain(services, 60))
        await asyncio.sleep(MOMENT)
        with pytest.raises(ShuttingDown):
            await services.submit("late")
        await draining
        assert services.client.prompts == ["x"]
        assert await services.state(waiting) is State.PENDING


@virtual
async def test_with_nothing_running_it_ends_at_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.submit("x", delay_s=100)
        await _drain(services, 60)
        assert since() == 0


@virtual
async def test_a_task_just_handed_out_is_not_started(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        store = services.services.journal.store
        plain = services.services.scheduler.enqueue

        def enqueue(task: Task) -> None:
            plain(task)
            services.services.scheduler.stop()
            services.services.executor.stopping = True

        with patch.object(services.services.scheduler, "enqueue", enqueue):
            task_id = await services.submit("x")
        await asyncio.sleep(60)
        assert services.client.calls == []
        task = await store.task(task_id)
        assert task is not None
        assert task.state is State.PENDING


@virtual
async def test_followers_hear_the_end_and_are_let_go(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", SLOW)
        received: list[str] = []

        async def follow() -> None:
            async for page in services.services.journal.follow(task_id):
                received.extend(event.wire for event in page)

        following = asyncio.create_task(follow())
        await asyncio.sleep(1)
        await _drain(services, 0)
        await following
        assert '"cause":"interrupted"' in received[-1]


@virtual
async def test_a_disk_that_refuses_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", SLOW)
        await asyncio.sleep(1)
        store = services.services.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await _drain(services, 0)
            assert since() == 1 + RECORD_S
            await services.close()
        await services.reopen()
        assert (await services.finished(task_id)).attempts == 1


@virtual
async def test_draining_twice_is_harmless(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", SLOW)
        await asyncio.sleep(1)
        await asyncio.gather(_drain(services, 2), _drain(services, 5))
        assert await services.state(task_id) is State.PENDING


@virtual
async def test_a_waiting_task_does_not_start_in_the_grace_where_a_slot_becomes_free(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=2)}) as services:
        await services.submit_script("short", [10.0, "ok"])
        await services.submit_script("long", [30.0, "ok"])
        waiting = await services.submit("waiting")
        soon = await services.submit("soon", delay_s=5)
        await asyncio.sleep(1)
        await _drain(services, 60)
        assert since() == 30
        assert services.client.prompts == ["short", "long"]
        assert await services.state(waiting) is State.PENDING
        assert (await services.task(soon)).starts == 0
