import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import RateLimited, UpstreamOverloaded
from asyncsvc.limits.breaker import BreakerState
from asyncsvc.tasks.state import State
from tests.engine_house import MOMENT, EngineHouse, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

AB = {"a": model(), "b": model()}


def _slow(seconds: float = 1.0) -> ScriptedClient:
    return ScriptedClient([seconds, "ok"])


@virtual
async def test_the_urgent_overtakes_a_hundred(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=_slow()) as house:
        await house.submit_many([f"p{n}" for n in range(101)])
        await asyncio.sleep(0.5)
        await house.finished(await house.submit("urgent", priority=9))
        assert house.client.prompts[:2] == ["p0", "urgent"]


@virtual
async def test_lanes_then_priorities_then_arrival(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=_slow()) as house:
        await house.submit("busy")
        for name, lane, priority in [
            ("last", "long", 9),
            ("third", "short", 5),
            ("fourth", "short", 5),
            ("second", "short", 6),
            ("first", "priority", 0),
        ]:
            await house.submit(name, lane=lane, priority=priority)
        await asyncio.sleep(20)
        assert house.client.prompts == ["busy", "first", "second", "third", "fourth", "last"]


@virtual
async def test_the_least_urgent_is_overtaken_only_within_its_slack(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=_slow(100)) as house:
        await house.submit("busy")
        least = await house.submit("least", priority=4)  # a minute behind priority 5
        for n in range(30):
            await house.submit(f"later {n}")
            await asyncio.sleep(30)
        await house.finished(least)
        before = house.client.prompts.index("least")
        assert house.client.prompts[:before] == ["busy", "later 0", "later 1"]


@virtual
async def test_a_task_goes_to_the_first_model_with_room(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AB, client=_slow()) as house:
        first = await house.submit("one")
        while not house.client.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await house.submit("two")
        third = await house.submit("three")
        for task_id in (first, third):
            await house.finished(task_id)
        served = [(call.name, round(call.started)) for call in house.client.calls]
        assert served == [("a", 0), ("b", 0), ("a", 1)]


@virtual
async def test_a_named_model_is_kept_to(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AB, client=_slow()) as house:
        for _ in range(2):
            last = await house.submit("x", model="b")
        await house.finished(last)
        assert [call.name for call in house.client.calls] == ["b", "b"]
        assert since() == 2


@virtual
async def test_a_model_whose_breaker_is_open_is_passed_over(tmp_path: Path) -> None:
    breaker = {"failures": 1, "cooldown_s": 600}
    async with EngineHouse(tmp_path, AB, breaker=breaker) as house:
        house.client.on("bad", [UpstreamOverloaded("down")], ["ok"])
        await house.finished(await house.submit("bad"))
        assert house.house.catalogue.of("a")[0].gate.breaker_state() is BreakerState.OPEN
        await house.finished(await house.submit("next"))
        assert [call.name for call in house.client.calls] == ["a", "b", "b"]


@virtual
async def test_a_model_that_cools_is_passed_over(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AB) as house:
        house.client.on("x", [RateLimited("slow down", retry_after=100)], ["ok"])
        await house.finished(await house.submit("x"))
        assert [call.name for call in house.client.calls] == ["a", "b"]
        assert since() == 0


@virtual
async def test_a_model_without_rate_left_is_passed_over(tmp_path: Path) -> None:
    models = {"a": model(rpm=2, concurrency=2), "b": model()}
    async with EngineHouse(tmp_path, models) as house:
        for n in range(4):
            await house.finished(await house.submit(f"p{n}"))
        assert [call.name for call in house.client.calls] == ["a", "a", "b", "b"]


@virtual
async def test_a_second_key_serves_when_the_first_is_saturated(tmp_path: Path) -> None:
    house = EngineHouse(tmp_path, {"a": model(api_key_envs=["K1", "K2"])}, client=_slow())
    house.environ = {"K1": "x", "K2": "y"}
    async with house:
        for _ in range(2):
            last = await house.submit("x")
        await house.finished(last)
        assert since() == 1


async def _times(folder: Path, hanging: bool) -> list[float]:
    """When the calls of model b end, with model a well or hanging."""
    async with EngineHouse(folder, AB, client=_slow()) as house:
        if hanging:
            house.client.of_model["a"] = [HANG]
        await house.submit_many([f"a{n}" for n in range(20)], model="a")
        ids = await house.submit_many([f"b{n}" for n in range(20)], model="b")
        start = asyncio.get_running_loop().time()
        for task_id in ids:
            await house.finished(task_id)
        return [
            call.ended - start for call in house.client.calls if call.name == "b" and call.ended
        ]


@virtual
async def test_a_hanging_model_delays_no_other(tmp_path: Path) -> None:
    well = await _times(tmp_path / "well", hanging=False)
    hanging = await _times(tmp_path / "hanging", hanging=True)
    assert hanging == pytest.approx(well, abs=1e-6)
    assert len(well) == 20


@virtual
async def test_long_tasks_leave_the_last_slot(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, {"a": model(concurrency=3)}, client=_slow(100)) as house:
        ids = await house.submit_many([f"long {n}" for n in range(5)], lane="long")
        await asyncio.sleep(1)
        assert sorted(house.client.running) == ["long 0", "long 1"]
        short = await house.submit("short")
        await asyncio.sleep(MOMENT)
        assert sorted(house.client.running) == ["long 0", "long 1", "short"]
        for task_id in [short, *ids]:
            await house.finished(task_id)
        starts = [round(call.started) for call in house.client.calls if "long" in call.prompt]
        assert starts == [0, 0, 100, 100, 200]


@virtual
async def test_a_long_task_runs_where_there_is_one_slot(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        assert (await house.finished(await house.submit("x", lane="long"))).state == "completed"


@virtual
async def test_a_long_task_that_must_wait_holds_up_no_short_one(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, {"a": model(concurrency=2)}, client=_slow(10)) as house:
        await house.submit_many(["long 1", "long 2"], lane="long")
        await asyncio.sleep(MOMENT)
        shorts = await house.submit_many(["short 1", "short 2"])
        for task_id in shorts:
            await house.finished(task_id)
        assert house.client.prompts[:2] == ["long 1", "short 1"]
        assert sorted(house.client.prompts[2:]) == ["long 2", "short 2"]


@virtual
async def test_who_stands_ready_steps_back_when_the_gate_closes(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, {"a": model(concurrency=2)}) as house:
        house.client.on("x", [1.0, RateLimited("slow down", retry_after=50)], ["ok"])
        await house.submit("x")
        await asyncio.sleep(2)
        other = await house.submit("other")
        await house.finished(other)
        assert since() == 51


@virtual
async def test_position_and_depth_count_what_competes(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AB, client=ScriptedClient([HANG])) as house:
        dispatch = house.house.dispatch
        await house.submit_many(["x", "y"])
        await asyncio.sleep(MOMENT)
        any_id = await house.submit("any")
        on_a = await house.submit("on a", model="a")
        on_b = await house.submit("on b", model="b", priority=9)
        forecasts = [house.house.forecaster.of(await house.task(i)) for i in (any_id, on_a, on_b)]
        assert [forecast.position for forecast in forecasts] == [2, 2, 1]
        assert (dispatch.depth("a"), dispatch.depth("b"), len(dispatch)) == (2, 2, 3)
        assert dispatch.leave(await house.task(any_id))
        assert not dispatch.leave(await house.task(any_id))
        assert dispatch.depth("a") == 1


@virtual
async def test_embeddings_and_chats_go_to_their_own_models(tmp_path: Path) -> None:
    models = {"a": model(), "e": model(type="embedding")}
    async with EngineHouse(tmp_path, models) as house:
        chat = await house.submit("x")
        vectors = await house.submit_fields(type="embedding", input=["one", "three"])
        await house.finished(chat)
        await house.finished(vectors)
        assert [call.name for call in house.client.calls] == ["a", "e"]
        assert await house.result(vectors) == "[[3.0],[5.0]]"


@virtual
async def test_after_a_stop_nothing_is_handed_out(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        house.house.dispatch.stop()
        task_id = await house.submit("x")
        await asyncio.sleep(60)
        assert await house.state(task_id) is State.PENDING
        assert house.client.calls == []
