import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import RateLimited, UpstreamOverloaded
from asyncsvc.limits.breaker import BreakerState
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

AB = {"a": model(), "b": model()}


def _slow(seconds: float = 1.0) -> ScriptedClient:
    return ScriptedClient([seconds, "ok"])


@virtual
async def test_the_urgent_overtakes_a_hundred(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=_slow()) as services:
        await services.submit_many([f"p{n}" for n in range(101)])
        await asyncio.sleep(0.5)
        await services.finished(await services.submit("urgent", priority=9))
        assert services.client.prompts[:2] == ["p0", "urgent"]


@virtual
async def test_lanes_then_priorities_then_arrival(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=_slow()) as services:
        await services.submit("busy")
        for name, lane, priority in [
            ("last", "long", 9),
            ("third", "short", 5),
            ("fourth", "short", 5),
            ("second", "short", 6),
            ("first", "priority", 0),
        ]:
            await services.submit(name, lane=lane, priority=priority)
        await asyncio.sleep(20)
        assert services.client.prompts == ["busy", "first", "second", "third", "fourth", "last"]


@virtual
async def test_the_least_urgent_is_overtaken_only_within_its_slack(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=_slow(100)) as services:
        await services.submit("busy")
        least = await services.submit("least", priority=4)  # a minute behind priority 5
        for n in range(30):
            await services.submit(f"later {n}")
            await asyncio.sleep(30)
        await services.finished(least)
        before = services.client.prompts.index("least")
        assert services.client.prompts[:before] == ["busy", "later 0", "later 1"]


@virtual
async def test_a_task_goes_to_the_first_model_with_room(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AB, client=_slow()) as services:
        first = await services.submit("one")
        while not services.client.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await services.submit("two")
        third = await services.submit("three")
        for task_id in (first, third):
            await services.finished(task_id)
        served = [(call.name, round(call.started)) for call in services.client.calls]
        assert served == [("a", 0), ("b", 0), ("a", 1)]


@virtual
async def test_a_named_model_is_kept_to(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AB, client=_slow()) as services:
        for _ in range(2):
            last = await services.submit("x", model="b")
        await services.finished(last)
        assert [call.name for call in services.client.calls] == ["b", "b"]
        assert since() == 2


@virtual
async def test_a_model_whose_breaker_is_open_is_passed_over(tmp_path: Path) -> None:
    breaker = {"failures": 1, "cooldown_s": 600}
    async with EngineServices(tmp_path, AB, breaker=breaker) as services:
        services.client.on("bad", [UpstreamOverloaded("down")], ["ok"])
        await services.finished(await services.submit("bad"))
        assert services.services.catalogue.of("a")[0].gate.breaker_state is BreakerState.OPEN
        await services.finished(await services.submit("next"))
        assert [call.name for call in services.client.calls] == ["a", "b", "b"]


@virtual
async def test_a_model_that_cools_is_passed_over(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AB) as services:
        services.client.on("x", [RateLimited("slow down", retry_after=100)], ["ok"])
        await services.finished(await services.submit("x"))
        assert [call.name for call in services.client.calls] == ["a", "b"]
        assert since() == 0


@virtual
async def test_a_model_without_rate_left_is_passed_over(tmp_path: Path) -> None:
    models = {"a": model(rpm=2, concurrency=2), "b": model()}
    async with EngineServices(tmp_path, models) as services:
        for n in range(4):
            await services.finished(await services.submit(f"p{n}"))
        assert [call.name for call in services.client.calls] == ["a", "a", "b", "b"]


@virtual
async def test_a_second_key_serves_when_the_first_is_saturated(tmp_path: Path) -> None:
    services = EngineServices(tmp_path, {"a": model(api_key_envs=["K1", "K2"])}, client=_slow())
    services.environ = {"K1": "x", "K2": "y"}
    async with services:
        for _ in range(2):
            last = await services.submit("x")
        await services.finished(last)
        assert since() == 1


async def _times(folder: Path, hanging: bool) -> list[float]:
    """When the calls of model b end, with model a well or hanging."""
    async with EngineServices(folder, AB, client=_slow()) as services:
        if hanging:
            services.client.of_model["a"] = [HANG]
        await services.submit_many([f"a{n}" for n in range(20)], model="a")
        ids = await services.submit_many([f"b{n}" for n in range(20)], model="b")
        start = asyncio.get_running_loop().time()
        for task_id in ids:
            await services.finished(task_id)
        return [
            call.ended - start for call in services.client.calls if call.name == "b" and call.ended
        ]


@virtual
async def test_a_hanging_model_delays_no_other(tmp_path: Path) -> None:
    well = await _times(tmp_path / "well", hanging=False)
    hanging = await _times(tmp_path / "hanging", hanging=True)
    assert hanging == pytest.approx(well, abs=1e-6)
    assert len(well) == 20


@virtual
async def test_long_tasks_leave_the_last_slot(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=3)}, client=_slow(100)) as services:
        ids = await services.submit_many([f"long {n}" for n in range(5)], lane="long")
        await asyncio.sleep(1)
        assert sorted(services.client.running) == ["long 0", "long 1"]
        short = await services.submit("short")
        await asyncio.sleep(MOMENT)
        assert sorted(services.client.running) == ["long 0", "long 1", "short"]
        for task_id in [short, *ids]:
            await services.finished(task_id)
        starts = [round(call.started) for call in services.client.calls if "long" in call.prompt]
        assert starts == [0, 0, 100, 100, 200]


@virtual
async def test_a_long_task_runs_where_there_is_one_slot(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        assert (
            await services.finished(await services.submit("x", lane="long"))
        ).state == "completed"


@virtual
async def test_a_long_task_that_must_wait_holds_up_no_short_one(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=2)}, client=_slow(10)) as services:
        await services.submit_many(["long 1", "long 2"], lane="long")
        await asyncio.sleep(MOMENT)
        shorts = await services.submit_many(["short 1", "short 2"])
        for task_id in shorts:
            await services.finished(task_id)
        assert services.client.prompts[:2] == ["long 1", "short 1"]
        assert sorted(services.client.prompts[2:]) == ["long 2", "short 2"]


@virtual
async def test_a_ready_worker_steps_back_when_the_gate_closes(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=2)}) as services:
        services.client.on("x", [1.0, RateLimited("slow down", retry_after=50)], ["ok"])
        await services.submit("x")
        await asyncio.sleep(2)
        other = await services.submit("other")
        await services.finished(other)
        assert since() == 51


@virtual
async def test_position_and_depth_count_what_competes(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AB, client=ScriptedClient([HANG])) as services:
        scheduler = services.services.scheduler
        await services.submit_many(["x", "y"])
        await asyncio.sleep(MOMENT)
        any_id = await services.submit("any")
        on_a = await services.submit("on a", model="a")
        on_b = await services.submit("on b", model="b", priority=9)
        forecasts = [
            services.services.eta_estimator.of(await services.task(i)) for i in (any_id, on_a, on_b)
        ]
        assert [forecast.position for forecast in forecasts] == [2, 2, 1]
        assert (scheduler.depth("a"), scheduler.depth("b"), len(scheduler)) == (2, 2, 3)
        for _ in range(2):
            scheduler.remove(await services.task(any_id))
            assert scheduler.depth("a") == 1


@virtual
async def test_embeddings_and_chats_go_to_their_own_models(tmp_path: Path) -> None:
    models = {"a": model(), "e": model(type="embedding")}
    async with EngineServices(tmp_path, models) as services:
        chat = await services.submit("x")
        vectors = await services.submit_fields(type="embedding", input=["one", "three"])
        await services.finished(chat)
        await services.finished(vectors)
        assert [call.name for call in services.client.calls] == ["a", "e"]
        assert await services.result(vectors) == "[[3.0],[5.0]]"


@virtual
async def test_after_a_stop_nothing_is_handed_out(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.services.scheduler.stop()
        task_id = await services.submit("x")
        await asyncio.sleep(60)
        assert await services.state(task_id) is State.PENDING
        assert services.client.calls == []
