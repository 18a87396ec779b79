import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import UpstreamOverloaded
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import Script, ScriptedClient
from tests.virtual_time import virtual

SLOW: Script = ["par", 10.0, "tial"]


@virtual
async def test_what_ran_runs_again_and_has_lost_no_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", SLOW, max_retries=0)
        for _ in range(5):
            await asyncio.sleep(5)
            await services.restart()
        task = await services.finished(task_id)
        assert (task.state, task.attempts, task.starts) == (State.COMPLETED, 1, 6)
        assert await services.result(task_id) == await services.streamed(task_id) == "partial"
        assert (await services.kinds(task_id)).count("interrupted") == 5


@virtual
async def test_everything_waits_where_it_waited(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([10.0, "ok"])) as services:
        running = await services.submit("running")
        paused = await services.submit("paused")
        await services.services.control.pause(paused)
        scheduled = await services.submit("scheduled", delay_s=500)
        low = await services.submit("low", priority=1)
        high = await services.submit("high", priority=9)
        await asyncio.sleep(5)
        await services.restart()
        states = [await services.state(i) for i in (running, paused, scheduled, low)]
        assert states == ["pending", "paused", "scheduled", "pending"]
        assert await services.state(high) in ("pending", "running")  # it is the next
        await asyncio.sleep(1000)
        assert services.client.prompts == ["running", "high", "running", "low", "scheduled"]
        assert await services.state(paused) is State.PAUSED


@virtual
async def test_finished_tasks_are_left_alone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit("x")
        before = await services.finished(task_id)
        await services.restart()
        assert await services.task(task_id) == before
        assert services.services.journal.live == {}


@virtual
async def test_a_task_that_waits_for_its_retry_is_tried_in_time(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        down = UpstreamOverloaded("down", retry_after=100)
        task_id = await services.submit_script("x", [down], ["ok"])
        await asyncio.sleep(1)
        await services.restart()
        task = await services.finished(task_id)
        assert (task.attempts, since()) == (2, 100)


@pytest.mark.parametrize("downtime", [0.0, 20.0, 55.0])
def test_the_rate_window_outlives_the_process(tmp_path: Path, downtime: float) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, {"a": model(rpm=6, concurrency=3)}) as services:
            ids = await services.submit_many([f"p{n}" for n in range(20)])
            for _ in range(3):
                await asyncio.sleep(7)
                await services.crash()
                await asyncio.sleep(downtime)
                await services.reopen()
            for task_id in ids:
                await services.finished(task_id)
            starts = [call.started for call in services.client.calls]
            assert most_in_a_window(starts, 60) <= 6
            assert since() < 4 * 62 + 3 * downtime

    check()


def most_in_a_window(starts: list[float], span_s: float) -> int:
    """The most calls that arrived within any such span."""
    return max(sum(s <= t < s + span_s for t in starts) for s in starts)


@virtual
async def test_a_restart_that_is_cut_off_does_no_harm(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", SLOW)
        await asyncio.sleep(5)
        for _ in range(3):
            await services.crash()
            await services.reopen()
        # Which of the two depends on the threads: a worker may have taken the task already.
        assert await services.state(task_id) in (State.PENDING, State.RUNNING)
        task = await services.finished(task_id)
        assert (task.state, task.attempts) == (State.COMPLETED, 1)


@virtual
async def test_a_task_whose_model_is_gone_from_the_settings_waits(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([10.0, "ok"])) as services:
        task_id = await services.submit("x", model="a")
        await asyncio.sleep(MOMENT)
        await services.crash()
    async with EngineServices(tmp_path, {"b": model()}) as other:
        await asyncio.sleep(100)
        assert await other.state(task_id) is State.PENDING
        assert other.client.calls == []


@virtual
async def test_a_cut_off_task_that_was_started_long_ago_does_not_expire(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"ttl_s": 100}) as services:
        task_id = await services.submit_script("x", SLOW)
        await asyncio.sleep(5)
        await services.crash()
        await asyncio.sleep(10_000)
        await services.reopen()
        assert await services.code(task_id) is None


@virtual
async def test_an_orderly_close_is_recovered_from_like_a_crash(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", SLOW)
        await asyncio.sleep(5)
        await services.close()
        await services.reopen()
        task = await services.finished(task_id)
        assert (task.state, task.attempts) == (State.COMPLETED, 1)
