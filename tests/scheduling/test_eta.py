import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import (
    AuthUnexplained,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamOverloaded,
)
from asyncsvc.scheduling.eta import Forecast
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual


async def _forecast(services: EngineServices, task_id: str) -> Forecast:
    return services.services.eta_estimator.of(await services.task(task_id))


@virtual
async def test_with_room_the_start_is_now(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        answer = await services.answer("x")
        assert (answer["position"], answer["eta_s"], answer["message"]) == (1, 0.0, "accepted")


@virtual
async def test_without_any_measurement_there_is_no_number(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        await services.submit("x")
        await asyncio.sleep(MOMENT)
        waiting = await services.submit("y")
        forecast = await _forecast(services, waiting)
        assert (forecast.position, forecast.eta_s) == (1, None)
        assert forecast.reason == "a: 1 of 1 calls under way"


@virtual
async def test_the_measured_time_of_a_call_gives_the_estimate(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([10.0, "ok"])) as services:
        await services.finished(await services.submit("x"))
        await services.submit_many(list("abc"))
        await asyncio.sleep(MOMENT)
        last = await services.submit("d")
        forecast = await _forecast(services, last)
        assert (forecast.position, forecast.eta_s) == (3, 30.0)


@virtual
async def test_the_rate_bounds_the_estimate(tmp_path: Path) -> None:
    models = {"a": model(concurrency=50, rpm=6)}
    async with EngineServices(tmp_path, models) as services:
        for task_id in await services.submit_many([f"p{n}" for n in range(6)]):
            await services.finished(task_id)
        forecast = await _forecast(services, await services.submit("y"))
        assert forecast.eta_s is not None
        assert 60 <= forecast.eta_s <= 72
        assert forecast.reason is not None
        assert "6 of 6 calls used" in forecast.reason


@virtual
async def test_several_models_serve_faster(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    async with EngineServices(tmp_path, {"a": model(), "b": model()}, client) as services:
        for _ in range(2):
            for task_id in [await services.submit("x") for _ in range(2)]:
                await services.finished(task_id)
        await services.submit_many(list("cdef"))
        await asyncio.sleep(MOMENT)
        forecast = await _forecast(services, await services.submit("g"))
        assert (forecast.position, forecast.eta_s) == (3, 15.0)


@virtual
async def test_a_task_that_does_not_wait_has_no_forecast(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        later = await services.submit("x", delay_s=60)
        assert await _forecast(services, later) == Forecast(None, None, None)


@virtual
async def test_the_reason_is_given_only_where_no_model_can_start(tmp_path: Path) -> None:
    models = {"a": model(), "b": model()}
    async with EngineServices(tmp_path, models) as services:
        services.client.on("x", [RateLimited("slow", retry_after=30)], ["ok"])
        await services.finished(await services.submit("x", model="a", timeout_s=100))
        assert (await services.answer("y"))["message"] == "accepted"


@virtual
async def test_a_cooling_model_is_waited_for(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", [RateLimited("slow", retry_after=30)], ["ok"])
        await services.submit("x")
        await asyncio.sleep(MOMENT)
        answer = await services.answer("y", priority=9)
        assert answer["message"] == "accepted; a: asked to slow down, next in 30 s"
        assert answer["eta_s"] == 29.999  # it is the next, and that moment is known


@virtual
async def test_an_open_breaker_is_waited_for(tmp_path: Path) -> None:
    breaker = {"failures": 1, "cooldown_s": 40}
    async with EngineServices(tmp_path, breaker=breaker) as services:
        await services.finished(await services.submit("well"))
        await services.submit_script("x", [UpstreamOverloaded("down")], max_retries=0)
        await asyncio.sleep(MOMENT)
        answer = await services.answer("y")
        assert "breaker open after 1 failures" in answer["message"]


@virtual
async def test_tasks_of_the_same_millisecond_are_ahead_of_a_new_one(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        await services.submit("busy")
        await asyncio.sleep(MOMENT)
        positions = [(await services.answer(f"p{n}"))["position"] for n in range(4)]
        assert positions == [1, 2, 3, 4]


@virtual
async def test_calls_that_are_spread_over_time_are_waited_for(tmp_path: Path) -> None:
    models = {"a": model(concurrency=2, rpm=40)}
    async with EngineServices(tmp_path, models) as services:
        for name in "xy":  # the burst; after it the next may start each 60 / (4 · 40) s
            await services.finished(await services.submit(name))
        await asyncio.sleep(MOMENT)
        first = await services.submit("z")
        waiting = await services.task(first)
        forecast = services.services.eta_estimator.of(waiting)
        assert (forecast.position, forecast.eta_s) == (1, 0.374)
        assert forecast.reason == "a: calls are spread over time, next in 0.4 s"
        begun = asyncio.get_running_loop().time()
        await services.finished(first)
        assert round(services.client.of("z")[0].started - begun, 3) == forecast.eta_s


@virtual
async def test_a_task_that_comes_while_a_worker_is_ready_starts_now(tmp_path: Path) -> None:
    models = {"a": model(concurrency=2, rpm=40)}
    async with EngineServices(tmp_path, models) as services:
        for name in "xy":
            await services.finished(await services.submit(name))
        await asyncio.sleep(0.5)
        answer = await services.answer("z")
        assert (answer["position"], answer["eta_s"], answer["message"]) == (1, 0.0, "accepted")


@virtual
async def test_a_model_that_rests_long_does_not_put_off_those_that_another_serves(
    tmp_path: Path,
) -> None:
    client = ScriptedClient([10.0, "ok"])
    async with EngineServices(tmp_path, {"a": model(), "b": model()}, client) as services:
        for task_id in await services.submit_many(["x", "y"]):
            await services.finished(task_id)
        gates = {gate.name: gate for gate in services.services.catalogue.gates}
        gates["b"].failed(RateLimited("slow", retry_after=25))
        await services.submit("z")
        await asyncio.sleep(MOMENT)
        forecast = await _forecast(services, await services.submit("w"))
        assert (forecast.position, forecast.eta_s) == (1, 10.0)


@virtual
async def test_what_the_window_has_room_for_goes_at_the_pace_of_the_limiter(
    tmp_path: Path,
) -> None:
    models = {"a": model(concurrency=2, rpm=10)}
    async with EngineServices(tmp_path, models) as services:
        for name in "xy":
            await services.finished(await services.submit(name))
        ids = await services.submit_many([f"{n}" for n in range(8)])
        await asyncio.sleep(MOMENT)
        forecasts = [(await _forecast(services, task_id)).eta_s for task_id in ids]
        begun = asyncio.get_running_loop().time()
        for task_id in ids:
            await services.finished(task_id)
        took = [services.client.of(f"{n}")[0].started - begun for n in range(8)]
        assert forecasts == [pytest.approx(seconds, abs=0.01) for seconds in took]
        ninth = (await _forecast(services, await services.submit("z"))).eta_s
        assert ninth is not None
        assert ninth > 40


@virtual
async def test_a_slot_that_ends_soon_is_the_next_where_the_window_has_room(
    tmp_path: Path,
) -> None:
    client = ScriptedClient([1.0, "ok"])
    async with EngineServices(tmp_path, {"a": model(concurrency=2, rpm=40)}, client) as services:
        await services.finished(await services.submit("x"))
        await asyncio.sleep(10)
        await services.submit_many(["y", "z"])
        await asyncio.sleep(0.9)
        forecast = await _forecast(services, await services.submit("w"))
        assert (forecast.position, forecast.eta_s) == (1, 0.5)
        assert forecast.reason == "a: 2 of 2 calls under way"


@virtual
async def test_the_last_place_of_the_window_is_used_before_it_is_full(tmp_path: Path) -> None:
    client = ScriptedClient([1.0, "ok"])
    async with EngineServices(tmp_path, {"a": model(rpm=10)}, client) as services:
        for number in range(8):
            await services.finished(await services.submit(f"{number}"))
        await asyncio.sleep(5.0)
        await services.submit("the ninth")
        await asyncio.sleep(MOMENT)
        tenth, eleventh = await services.submit_many(["x", "y"])
        begun = asyncio.get_running_loop().time()
        first = (await _forecast(services, tenth)).eta_s
        second = (await _forecast(services, eleventh)).eta_s
        await services.finished(eleventh)
        assert first == pytest.approx(services.client.of("x")[0].started - begun, abs=1.0)
        assert second is not None
        assert second > 6
        assert services.client.of("y")[0].started - begun > 6


# While a model rests --------------------------------------------------------------------------

RESTS = [
    RateLimited("slow", retry_after=600.0),
    QuotaExhausted("no balance", retry_after=600.0),
]


@pytest.mark.parametrize("rest", RESTS, ids=["rate", "quota"])
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("session", [None, "s"])
def test_a_task_that_cannot_wait_for_a_cooldown_is_refused_at_every_position(
    tmp_path: Path, rest: ProviderError, before: int, session: str | None
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, {"a": model()}) as services:
            services.services.catalogue.gates[0].failed(rest)
            fields = {} if session is None else {"session_id": session}
            for number in range(before):
                await services.submit(f"before {number}", **fields)
            await asyncio.sleep(100)
            with pytest.raises(Overloaded) as found:
                await services.submit("x", max_wait_s=5, **fields)
            assert found.value.retry_after == pytest.approx(495, abs=1)
            answer = await services.answer("y", max_wait_s=501, **fields)
            assert answer["eta_s"] == pytest.approx(500, abs=1)
            assert "next in 500 s" in answer["message"]

    check()


@virtual
async def test_a_rest_holds_for_max_wait_after_a_reload(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        services.services.catalogue.gates[0].failed(RateLimited("slow", retry_after=600.0))
        await services.submit_many(["x", "y"])
        await services.reload({"a": model(concurrency=2)})
        with pytest.raises(Overloaded):
            await services.submit("z", max_wait_s=5)


@virtual
async def test_a_model_that_is_paused_starts_no_task_in_time(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        await services.services.holds.pause("a")
        with pytest.raises(Overloaded, match="a is paused"):
            await services.submit("x", max_wait_s=1000)


@virtual
async def test_another_model_that_is_free_is_no_reason_to_refuse(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(), "b": model()}) as services:
        services.services.catalogue.gates[0].failed(RateLimited("slow", retry_after=600.0))
        assert (await services.answer("x", max_wait_s=5))["eta_s"] == 0


@virtual
async def test_a_probe_under_way_is_no_reason_to_refuse(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=2)}) as services:
        services.client.default = [9.0, "ok"]
        services.services.catalogue.gates[0].failed(AuthUnexplained("no", status=403))
        await services.submit("probe")
        with pytest.raises(Overloaded):
            await services.submit("x", max_wait_s=1)
        await asyncio.sleep(3)
        assert services.client.running == ["probe"]
        answer = await services.answer("y", max_wait_s=1)
        assert "a probe is under way" in answer["message"]


@virtual
async def test_behind_a_session_only_a_rest_of_the_models_is_a_further_reason(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        first = await services.submit("x", session_id="s")
        await asyncio.sleep(MOMENT)
        second = await services.submit("y", session_id="s")
        forecast = await _forecast(services, second)
        assert forecast.reason == f"behind task {first} of its session"
        services.services.catalogue.gates[0].failed(RateLimited("slow", retry_after=600.0))
        forecast = await _forecast(services, second)
        assert forecast.reason is not None
        assert "asked to slow down, next in 600 s" in forecast.reason


# What a free slot is left free for -------------------------------------------------------------


@virtual
async def test_one_task_that_waits_is_one_and_the_slower_model_stays_free_for_it(
    tmp_path: Path,
) -> None:
    models = {"fast": model(), "slow": model()}
    async with EngineServices(tmp_path, models, routes={"simple": ["slow", "fast"]}) as services:
        # With one task the fast model saves 12 s, and makes 1.5 calls in a quarter of these; so
        # two that wait would make the slower one pay.
        services.client.of_model = {"fast": [2.0, "ok"], "slow": [14.0, "ok"]}
        for name in ("fast", "slow"):
            await services.finished(await services.submit("measured", model=name))
        services.client.on("hello stuck", [HANG])
        await services.submit("hello stuck")
        await asyncio.sleep(MOMENT)
        answer = await services.answer("hello waits")
        assert answer["message"].endswith("left free for a faster model, for 12 s at most")
        assert answer["eta_s"] == pytest.approx(12.0)
