"""What follows when an agent gateway is cut in mid-run."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import GatewayAway, ProviderError, UpstreamDisconnected
from asyncsvc.providers.agents import RunState, RunStatus
from tests.engine_services import EngineServices, model, since
from tests.scripted import HANG, HEAD, Script
from tests.virtual_time import virtual

AGENT = {"a": model(preset="openclaw")}
TWO = {"a": model(preset="openclaw"), "b": model()}
CUT: Script = ["Hel", UpstreamDisconnected("cut")]
AWAY, RUNNING, LOST, NEVER = (
    RunStatus(state) for state in (RunState.AWAY, RunState.RUNNING, RunState.LOST, RunState.NEVER)
)


def answered(text: str = "Hello") -> RunStatus:
    return RunStatus(RunState.ANSWERED, text, {"total_tokens": 9})


async def steps(services: EngineServices, task_id: str) -> list[str]:
    return [data["step"] for kind, data in await services.events(task_id) if kind == "recovery"]


@virtual
async def test_an_answer_in_the_history_is_delivered_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [AWAY, AWAY, RUNNING, answered()]
        task_id = await services.submit_script("x", CUT)
        task = await services.finished(task_id)
        assert (task.state, task.attempts, task.starts, len(services.client.calls)) == (
            "completed",
            1,
            1,
            1,
        )
        assert task.usage == {"total_tokens": 9}
        assert await services.result(task_id) == await services.streamed(task_id) == "Hello"
        assert await steps(services, task_id) == ["asking", "gateway_away", "running", "answered"]
        assert services.client.asked == services.client.keys * 4
        assert services.client.aborted == []


@virtual
async def test_another_answer_makes_the_since_attempt_void(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [answered("Good day")]
        task_id = await services.submit_script("x", CUT)
        task = await services.finished(task_id)
        assert await services.result(task_id) == await services.streamed(task_id) == "Good day"
        attempts = [data for kind, data in await services.events(task_id) if kind == "attempt"]
        assert [data["number"] for data in attempts] == [1, 2]
        assert attempts[1]["why"] == "the gateway ran it again by itself"
        assert attempts[0]["session_key"] == attempts[1]["session_key"] == services.client.keys[0]
        assert (task.attempts, task.starts) == (1, 2)


@pytest.mark.parametrize("run_status", [LOST, NEVER], ids=["lost", "not in the history"])
def test_a_run_without_an_answer_is_ended_and_unknown(
    tmp_path: Path, run_status: RunStatus
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, AGENT) as services:
            services.client.fates = [RUNNING, run_status]
            task_id = await services.submit_script("x", CUT)
            assert await services.code(task_id) == "interrupted_unknown"
            assert services.client.aborted == services.client.keys
            assert (await steps(services, task_id))[-1] == "aborted"
            assert len(services.client.calls) == 1

    check()


@virtual
async def test_a_run_is_ended_before_it_is_called_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [LOST]
        task_id = await services.submit_script("x", CUT, ["ok"], retry_unsafe=True)
        assert await services.code(task_id) is None
        assert services.client.aborted == services.client.keys[:1]
        assert services.client.keys == [f"asyncsvc:{task_id}:1", f"asyncsvc:{task_id}:2"]


@virtual
async def test_what_never_began_is_called_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [NEVER]
        cut: Script = [HEAD, UpstreamDisconnected("cut")]
        assert await services.code(await services.submit_script("x", cut, ["ok"])) is None
        assert len(services.client.calls) == 2
        assert services.client.aborted == []


@virtual
async def test_a_gateway_that_stays_away_is_given_up(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [AWAY]
        task_id = await services.submit_script("x", CUT)
        assert await services.code(task_id) == "interrupted_unknown"
        assert 180 <= since() <= 190


@virtual
async def test_a_run_that_goes_on_is_waited_for_until_the_tasks_time_is_up(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [RUNNING]
        task_id = await services.submit_script("x", CUT, timeout_s=1000)
        assert await services.code(task_id) == "interrupted_unknown"
        assert since() == 1000
        assert services.client.aborted == services.client.keys


@virtual
async def test_cancelling_ends_a_run_that_is_waited_for(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [RUNNING]
        task_id = await services.submit_script("x", CUT)
        await asyncio.sleep(5)
        await services.services.control.cancel(task_id)
        assert await services.state(task_id) == "cancelled"
        assert services.client.aborted == services.client.keys


@virtual
async def test_a_stop_of_ours_leaves_a_run_that_is_waited_for(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [RUNNING]
        task_id = await services.submit_script("x", CUT)
        await asyncio.sleep(5)
        await services.services.executor.interrupt_all()
        assert await services.state(task_id) == "pending"
        assert services.client.aborted == []


@virtual
async def test_a_gateway_that_restarts_costs_no_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT, breaker={"failures": 2}) as services:
        away: list[Script] = [[GatewayAway("refused", retry_after=2.0)]] * 12
        task_id = await services.submit_script("x", *away, ["ok"], max_retries=0)
        task = await services.finished(task_id)
        assert (task.state, task.attempts) == ("completed", 1)
        assert 20 <= since() <= 30


# A crash of ours ----------------------------------------------------------------------------


async def crashed(services: EngineServices, *fates: RunStatus, **fields: Any) -> str:
    task_id = await services.submit_script("x", ["Hel", HANG], ["anew"], **fields)
    await asyncio.sleep(5)
    services.client.fates = list(fates)
    await services.restart()
    return task_id


@virtual
async def test_an_answer_that_came_while_we_were_away_is_delivered(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        task_id = await crashed(services, RUNNING, answered())
        task = await services.finished(task_id)
        assert (task.state, task.attempts, len(services.client.calls)) == ("completed", 1, 1)
        assert await services.result(task_id) == await services.streamed(task_id) == "Hello"
        assert services.client.asked == services.client.keys * 2


@virtual
async def test_a_second_crash_asks_for_the_same_run(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        task_id = await crashed(services, RUNNING)
        await asyncio.sleep(5)
        services.client.fates = [answered()]
        await services.restart()
        assert await services.code(task_id) is None
        assert set(services.client.asked) == set(services.client.keys)
        assert len(services.client.calls) == 1


@virtual
async def test_without_an_answer_it_is_unknown_after_a_crash_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        task_id = await crashed(services, LOST)
        assert await services.code(task_id) == "interrupted_unknown"
        assert services.client.aborted == services.client.keys
        assert len(services.client.calls) == 1


@pytest.mark.parametrize(("run_status", "unsafe"), [(NEVER, False), (LOST, True)])
def test_after_a_crash_it_is_called_again_where_that_is_safe(
    tmp_path: Path, run_status: RunStatus, unsafe: bool
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, AGENT) as services:
            task_id = await crashed(services, run_status, retry_unsafe=unsafe, max_retries=0)
            task = await services.finished(task_id)
            assert (task.state, task.attempts) == ("completed", 1)
            assert await services.result(task_id) == await services.streamed(task_id) == "anew"
            assert len(set(services.client.keys)) == 2

    check()


@virtual
async def test_another_model_does_not_repeat_what_an_agent_may_have_done(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        task_id = await services.submit_script("x", ["Hel", HANG], ["anew"])
        await asyncio.sleep(5)
        services.settings.models["a"] = services.settings.models["a"].model_copy(
            update={"enabled": False}
        )
        services.settings.models["b"] = type(services.settings.models["a"]).model_validate(model())
        await services.restart()
        assert await services.code(task_id) == "interrupted_unknown"
        assert len(services.client.calls) == 1


@virtual
async def test_a_retry_by_hand_aborts_the_old_run(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        services.client.fates = [LOST]
        task_id = await services.submit_script("x", CUT, ["ok"])
        await services.finished(task_id)
        first = services.client.keys[0]
        await services.services.control.retry(task_id)
        assert await services.code(task_id) is None
        assert services.client.aborted == [first, first]
        assert services.client.keys[1] != first


@virtual
async def test_who_refuses_is_not_asked(tmp_path: Path) -> None:
    class Refused(ProviderError):
        code, again, trips = "upstream_rejected", False, False

    async with EngineServices(tmp_path, AGENT) as services:
        assert await services.code(await services.submit_script("x", [HEAD, Refused("no")])) == (
            "upstream_rejected"
        )
        assert services.client.asked == []
