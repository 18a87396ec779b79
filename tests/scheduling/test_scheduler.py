import asyncio
from pathlib import Path
from unittest.mock import patch

from asyncsvc.clock import rfc3339
from asyncsvc.errors import RateLimited, StorageUnavailable, UpstreamOverloaded
from asyncsvc.scheduling.steps import shielded
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, at_ms, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

DAY_MS = 86_400_000


@virtual
async def test_run_at_is_kept_to(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit("x", run_at=rfc3339(at_ms(7200)))
        task = await services.task(task_id)
        assert (task.state, task.next_run_at) == (State.SCHEDULED, at_ms(7200))
        await services.finished(task_id)
        assert [round(call.started, 2) for call in services.client.calls] == [7200]
        assert (await services.kinds(task_id))[:2] == ["delayed", "due"]


@virtual
async def test_a_delay_of_a_week_is_kept_to(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(await services.submit("x", delay_s=604_800))
        assert since() == 604_800


@virtual
async def test_a_time_gone_by_means_now(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        assert (await services.answer("x", run_at=rfc3339(at_ms(-5))))["status"] == "pending"


@virtual
async def test_a_scheduled_task_is_due_after_a_restart(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        soon, later = (
            await services.submit("soon", delay_s=10),
            await services.submit("later", delay_s=90),
        )
        await services.crash()
        await asyncio.sleep(30)
        await services.reopen()
        await services.finished(soon)
        assert since() == 30
        await services.finished(later)
        assert since() == 90


@virtual
async def test_a_scheduled_task_waits_for_its_turn_from_when_it_is_due(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"ttl_s": 100}) as services:
        services.client.on("x", [HANG])
        await services.submit("x", timeout_s=50)
        task_id = await services.submit("y", delay_s=1000)
        await services.finished(task_id)
        assert await services.state(task_id) is State.COMPLETED


@virtual
async def test_a_task_that_never_starts_expires(tmp_path: Path) -> None:
    client = ScriptedClient([HANG])
    async with EngineServices(tmp_path, None, client, queue={"ttl_s": 100}) as services:
        await services.submit("busy", timeout_s=1000)
        waiting = await services.submit("x")
        behind = await services.submit("y", session_id="s", delay_s=10)
        assert await services.code(waiting) == "expired"
        assert since() == 100
        assert await services.code(behind) == "expired"
        assert since() == 110
        assert client.prompts == ["busy"]
        assert len(services.services.scheduler) == 0


@virtual
async def test_a_task_behind_its_sessions_head_expires_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"ttl_s": 100}) as services:
        await services.submit("head", session_id="s", delay_s=5000)
        assert await services.code(await services.submit("x", session_id="s")) == "expired"
        assert since() == 100


@virtual
async def test_a_task_that_has_started_once_does_not_expire_for_having_been_paused(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path, queue={"ttl_s": 100}) as services:
        task_id = await services.submit_script("x", [10.0, "ok"])
        await asyncio.sleep(5)
        await services.services.control.pause(task_id)
        await asyncio.sleep(5000)
        await services.services.control.resume(task_id)
        assert await services.code(task_id) is None


@virtual
async def test_a_clock_that_jumps_fails_nothing(tmp_path: Path) -> None:
    for shift in (DAY_MS, -DAY_MS):
        async with EngineServices(
            tmp_path, {"a": model(rpm=60)}, queue={"ttl_s": 3600}
        ) as services:
            services.client.default = [20.0, "ok"]
            down = UpstreamOverloaded("down", retry_after=30)
            ids = [await services.submit_script("retried", [down], ["ok"])]
            ids += await services.submit_many([f"p{n}" for n in range(5)])
            await asyncio.sleep(10)
            services.shift_ms = shift
            start = asyncio.get_running_loop().time()
            assert [await services.code(task_id) for task_id in ids] == [None] * 6
            assert since(start) < 200


@virtual
async def test_a_clock_set_forward_makes_the_scheduled_due(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit("x", run_at=rfc3339(at_ms(80_000)))
        services.shift_ms = DAY_MS
        await services.finished(task_id)
        assert since() <= 60


@virtual
async def test_a_deferred_task_keeps_its_place(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        slow = RateLimited("slow", retry_after=10)
        first = await services.submit_script("first", [slow], ["ok"])
        await services.submit("second")
        await services.finished(first)
        assert services.client.prompts[:2] == ["first", "first"]


@virtual
async def test_time_that_runs_out_while_waiting_to_be_tried_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        down = UpstreamOverloaded("down", retry_after=5)
        task_id = await services.submit_script("x", [down], timeout_s=30)
        await asyncio.sleep(1)
        await services.submit_script("busy", [1000.0, "ok"], timeout_s=2000)
        assert await services.code(task_id) == "timeout"
        assert since() == 30


@virtual
async def test_a_task_that_fails_while_it_waits_keeps_its_text(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        slow = RateLimited("slow", retry_after=60)
        task_id = await services.submit_script("x", ["so far", slow], timeout_s=30)
        assert await services.code(task_id) == "rate_limited"
        assert await services.result(task_id) == await services.streamed(task_id) == "so far"


@virtual
async def test_a_pause_gives_the_time_back(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [40.0, "ok"], timeout_s=50)
        await asyncio.sleep(30)
        await services.services.control.pause(task_id)
        await services.services.control.resume(task_id)
        assert await services.code(task_id) is None
        assert since() == 70


@virtual
async def test_alarms_outlive_a_full_disk(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"ttl_s": 100}) as services:
        scheduled = await services.submit("x", delay_s=10)
        services.client.on("busy", [HANG])
        await services.submit("busy", timeout_s=500)
        expiring = await services.submit("y")
        await asyncio.sleep(MOMENT)  # the start of the busy one is on the disk
        store = services.services.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await asyncio.sleep(120)
        assert await services.code(expiring) == "expired"
        assert since() < 122
        assert await services.code(scheduled) == "expired"


@virtual
async def test_closing_ends_what_waits_for_the_disk(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.submit("x", delay_s=10)
        store = services.services.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await asyncio.sleep(20)
            await services.close()


@virtual
async def test_a_step_is_carried_through_without_its_caller() -> None:
    done: list[int] = []

    async def step() -> int:
        await asyncio.sleep(1)
        done.append(1)
        return 7

    caller = asyncio.create_task(shielded(step()))
    await asyncio.sleep(MOMENT)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert not done
    await asyncio.sleep(2)
    assert done == [1]
    assert await shielded(step()) == 7


@virtual
async def test_the_time_in_the_queue_goes_on_over_restarts(tmp_path: Path) -> None:
    client = ScriptedClient([HANG])
    async with EngineServices(tmp_path, None, client, queue={"ttl_s": 100}) as services:
        await services.submit("busy", timeout_s=1000)
        at_once = await services.submit("x")
        later = await services.submit("y", delay_s=30)
        for _ in range(3):
            await asyncio.sleep(20)
            await services.restart()
        assert await services.code(at_once) == "expired"
        assert since() == 100
        assert await services.code(later) == "expired"
        assert since() == 130
