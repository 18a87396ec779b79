import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.app import RECORD_S, drain
from asyncsvc.errors import ShuttingDown, StorageUnavailable
from asyncsvc.tasks.state import State
from tests.engine_house import MOMENT, EngineHouse, model, since
from tests.scripted import Script
from tests.virtual_time import virtual

WIDE = {"a": model(concurrency=3)}
SLOW: Script = ["par", 10.0, "tial"]


async def _drain(house: EngineHouse, grace_s: float) -> asyncio.Event:
    hurry = asyncio.Event()
    await drain(house.house, grace_s, hurry)
    return hurry


@virtual
async def test_within_the_grace_what_runs_is_finished(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        ids = [await house.submit_script(p, SLOW) for p in "xy"]
        await asyncio.sleep(1)
        await _drain(house, 60)
        assert since() == 10
        assert [await house.state(task_id) for task_id in ids] == ["completed", "completed"]
        assert await house.result(ids[0]) == "partial"


@pytest.mark.parametrize("grace", [5.0, 0.0])
def test_after_the_grace_what_runs_goes_back_at_no_cost(tmp_path: Path, grace: float) -> None:
    @virtual
    async def check() -> None:
        async with EngineHouse(tmp_path, WIDE) as house:
            task_id = await house.submit_script("x", SLOW)
            await asyncio.sleep(1)
            await _drain(house, grace)
            assert since() == 1 + grace
            task = await house.task(task_id)
            assert (task.state, task.attempts) == (State.PENDING, 0)
            assert house.client.calls[0].cancelled
            assert (await house.kinds(task_id))[-1] == "interrupted"
            await house.close()
            await house.reopen()
            assert (await house.finished(task_id)).attempts == 1

    check()


@virtual
async def test_hurry_cuts_the_grace_short(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        await house.submit_script("x", [1000.0, "ok"])
        await asyncio.sleep(1)
        hurry = asyncio.Event()
        draining = asyncio.create_task(drain(house.house, 600, hurry))
        await asyncio.sleep(3)
        assert not draining.done()
        hurry.set()
        await draining
        assert since() == 4


@virtual
async def test_nothing_new_is_taken_or_started(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.submit_script("x", SLOW)
        waiting = await house.submit("waiting")
        await asyncio.sleep(1)
        draining = asyncio.create_task(_drain(house, 60))
        await asyncio.sleep(MOMENT)
        with pytest.raises(ShuttingDown):
            await house.submit("late")
        await draining
        assert house.client.prompts == ["x"]
        assert await house.state(waiting) is State.PENDING


@virtual
async def test_with_nothing_running_it_ends_at_once(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.submit("x", delay_s=100)
        await _drain(house, 60)
        assert since() == 0


@virtual
async def test_a_task_just_handed_out_is_not_started(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        store = house.house.journal.store
        plain = house.house.dispatch.enter

        def enter(task: object, bars: object) -> None:
            plain(task, bars)  # type: ignore[arg-type]
            house.house.dispatch.stop()
            house.house.executor._stopping = True

        with patch.object(house.house.dispatch, "enter", enter):
            task_id = await house.submit("x")
        await asyncio.sleep(60)
        assert house.client.calls == []
        task = await store.task(task_id)
        assert task is not None and task.state is State.PENDING


@virtual
async def test_followers_hear_the_end_and_are_let_go(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        task_id = await house.submit_script("x", SLOW)
        heard: list[str] = []

        async def follow() -> None:
            async for page in house.house.journal.follow(task_id):
                heard.extend(event.wire for event in page)

        following = asyncio.create_task(follow())
        await asyncio.sleep(1)
        await _drain(house, 0)
        await following
        assert '"cause":"interrupted"' in heard[-1]


@virtual
async def test_a_disk_that_refuses_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        task_id = await house.submit_script("x", SLOW)
        await asyncio.sleep(1)
        store = house.house.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await _drain(house, 0)
            assert since() == 1 + RECORD_S
            await house.close()
        await house.reopen()
        assert (await house.finished(task_id)).attempts == 1


@virtual
async def test_draining_twice_is_harmless(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        task_id = await house.submit_script("x", SLOW)
        await asyncio.sleep(1)
        await asyncio.gather(_drain(house, 2), _drain(house, 5))
        assert await house.state(task_id) is State.PENDING
