import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import (
    ContextTooLong,
    EmptyAnswer,
    ModelGone,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamOverloaded,
)
from asyncsvc.tasks.state import State
from asyncsvc.tasks.submission import Submission
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import virtual

THINK = "/think x"
TWO = {"a": model(good_at=["reasoning"]), "b": model()}


def _names(services: EngineServices) -> list[str]:
    return [call.name for call in services.client.calls]


@virtual
async def test_a_class_goes_to_its_model_although_another_is_idle(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO, ScriptedClient([5.0, "ok"])) as services:
        for _ in range(2):
            last = await services.submit(THINK)
        await services.finished(last)
        assert _names(services) == ["a", "a"]
        assert since() == 10


@virtual
async def test_the_route_shows_class_and_reason_while_it_waits_and_after(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO, ScriptedClient([5.0, "ok"])) as services:
        await services.submit(THINK)
        task_id = await services.submit("深入分析人工智能对社会的影响")
        waiting = (await services.task(task_id)).route or {}
        assert (waiting["class"], waiting["rule"]) == ("reasoning", None)
        assert waiting["features"][0]["matched"] == ["深入分析"]
        done = (await services.finished(task_id)).route or {}
        assert done.items() >= waiting.items()
        assert (done["chosen"], done["why"]) == ("a", "the model for reasoning tasks")
        assert [(row["model"], row["eligible"]) for row in done["candidates"]] == [
            ("a", True),
            ("b", False),
        ]
        assert (await services.task(task_id)).route == done


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (UpstreamAuth("bad key"), "upstream_auth"),
        (QuotaExhausted("no balance"), "quota_exhausted"),
        (ModelGone("end of life"), "model_gone"),
    ],
)
def test_a_refused_task_moves_on_for_free_and_a_pinned_one_fails(
    tmp_path: Path, fault: ProviderError, code: str
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, TWO) as services:
            services.client.of_model["a"] = [1.0, fault]
            routed = await services.submit(THINK)
            task = await services.finished(routed)
            assert (task.state, task.attempts, since()) == (State.COMPLETED, 1, 1)
            retry = next(data for kind, data in await services.events(routed) if kind == "retry")
            assert (retry["why"]["code"], retry["delay_s"]) == (code, None)
            assert (task.route or {})["chosen"] == "b"
            await services.finished(await services.submit(THINK))
            assert _names(services) == ["a", "b", "b"]

        async with EngineServices(tmp_path, TWO) as services:
            services.client.of_model["a"] = [fault]
            assert await services.code(await services.submit("x", model="a")) == code

    check()


@virtual
async def test_a_refused_key_ends_what_waits_for_it_alone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO) as services:
        services.client.of_model["a"] = [5.0, UpstreamAuth("bad key")]
        pinned = await services.submit_many(["x", "y"], model="a")
        routed = await services.submit(THINK)
        codes = [await services.code(task_id) for task_id in (*pinned, routed)]
        assert codes == ["upstream_auth", "upstream_auth", None]
        assert _names(services) == ["a", "b"]
        lacking = services.services.catalogue.lacking()
        assert lacking == {"a": "bad key"}
        assert "disabled until the next start" in str(
            services.services.scheduler.account_slots[0].gate.describe()
        )


@virtual
async def test_a_task_that_becomes_due_for_a_disabled_model_fails_at_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO) as services:
        services.client.of_model["a"] = [UpstreamAuth("bad key")]
        later = await services.submit("later", model="a", delay_s=50)
        await services.finished(await services.submit("x", model="a"))
        assert await services.code(later) == "upstream_auth"
        assert since() == 50


@virtual
async def test_a_quota_closes_the_model_for_an_hour(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        services.client.on("x", [QuotaExhausted("no balance")])
        assert await services.code(await services.submit("x")) == "quota_exhausted"
        assert "quota used up" in str(services.services.scheduler.account_slots[0].gate.describe())
        await services.finished(await services.submit("y"))
        assert since() == 3600


@pytest.mark.parametrize(("pause", "served"), [(20.0, "a"), (40.0, "b")])
def test_only_a_long_pause_moves_tasks_on(tmp_path: Path, pause: float, served: str) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, TWO) as services:
            services.client.on(THINK, [RateLimited("slow", retry_after=pause)], ["ok"])
            await services.finished(await services.submit(THINK))
            assert _names(services) == ["a", served]

    check()


@virtual
async def test_an_open_breaker_moves_waiting_tasks_to_the_stand_in_model(
    tmp_path: Path,
) -> None:
    breaker = {"failures": 1, "cooldown_s": 600}
    async with EngineServices(tmp_path, TWO, breaker=breaker) as services:
        services.client.of_model["a"] = [5.0, UpstreamOverloaded("down")]
        await services.submit(THINK)
        second = await services.submit(f"{THINK} 2")
        task = await services.finished(second)
        assert (since(), (task.route or {})["why"]) == (5, "stands in for a, out of service")


@virtual
@pytest.mark.parametrize("fault", [UpstreamDisconnected("cut"), EmptyAnswer("nothing")])
async def test_what_broke_in_mid_stream_goes_on_elsewhere_with_its_text_void(
    tmp_path: Path, fault: ProviderError
) -> None:
    async with EngineServices(tmp_path, TWO) as services:
        services.client.of_model["a"] = ["half", fault]
        task_id = await services.submit(THINK)
        task = await services.finished(task_id)
        assert (_names(services), task.attempts) == (["a", "b"], 2)
        assert await services.result(task_id) == await services.streamed(task_id) == "ok"


@virtual
async def test_where_no_other_is_left_the_same_is_asked_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(
            await services.submit_script("x", ["half", UpstreamDisconnected("cut")], ["ok"])
        )
        assert _names(services) == ["a", "a"]


@virtual
async def test_a_text_too_long_goes_only_to_larger_models(tmp_path: Path) -> None:
    sizes = {"a": 4000, "b": 2000, "c": 8000}
    models = {name: model(context=size) for name, size in sizes.items()}
    async with EngineServices(tmp_path, models) as services:
        services.client.of_model["a"] = [ContextTooLong("too long")]
        task_id = await services.submit("x")
        assert (await services.finished(task_id)).attempts == 1
        assert _names(services) == ["a", "c"]
        services.client.of_model["c"] = [ContextTooLong("too long")]
        assert await services.code(await services.submit("y")) == "context_too_long"


@virtual
async def test_the_estimate_with_the_answer_must_fit(tmp_path: Path) -> None:
    models = {"a": model(context=1000), "b": model(context=9000)}
    async with EngineServices(tmp_path, models) as services:
        for most in (1, 1000, 99_999):
            await services.finished(await services.submit("x", params={"max_tokens": most}))
        assert _names(services) == ["a", "b", "b"]


FAST_SLOW = {"slow": model(concurrency=2), "fast": model(concurrency=2)}


async def _served(folder: Path, balance: bool) -> list[str]:
    async with EngineServices(folder, FAST_SLOW, routing={"balance": balance}) as services:
        services.client.of_model = {"slow": [10.0, "ok"], "fast": [2.0, "ok"]}
        for name in FAST_SLOW:
            await services.finished(await services.submit("measured", model=name))
        for n in range(3):
            await services.finished(await services.submit(f"p{n}"))
        return _names(services)[2:]


@virtual
async def test_the_model_expected_to_be_done_first_takes_it(tmp_path: Path) -> None:
    assert await _served(tmp_path / "balanced", True) == ["fast"] * 3
    assert await _served(tmp_path / "fixed", False) == ["slow"] * 3


@virtual
async def test_failures_make_a_fast_model_slow(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, FAST_SLOW, breaker={"failures": 100}) as services:
        services.client.of_model = {"slow": [3.0, "ok"], "fast": [2.0, "ok"]}
        for name in FAST_SLOW:
            await services.finished(await services.submit("measured", model=name))
        services.client.on("bad", [UpstreamOverloaded("down")])
        for _ in range(2):
            await services.finished(await services.submit("bad", model="fast", max_retries=0))
        await services.finished(await services.submit("x"))
        assert _names(services)[-1] == "slow"


RESERVED = {"quick": model(good_at=["realtime", "simple"]), "wide": model(good_at=["simple"])}


@virtual
async def test_a_single_slot_is_kept_for_real_time_work(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, RESERVED) as services:
        served: list[Any] = []
        for prompt in ("hello 1", "/fast x", "hello 2"):
            await services.finished(await services.submit(prompt))
            served.append(_names(services)[-1])
        assert served == ["quick", "quick", "wide"]
        await asyncio.sleep(61)
        await services.finished(await services.submit("hello 3"))
        assert _names(services)[-1] == "quick"


@virtual
async def test_a_dry_run_stores_nothing_and_names_the_model(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, TWO) as services:
        answer = await services.services.intake.route(Submission(content=THINK))
        assert (answer["class"], answer["chosen"]) == ("reasoning", "a")
        assert answer["candidates"][1]["reason"].startswith("stands in only while")
        await asyncio.sleep(MOMENT)
        assert len(services.services.journal.live) == 0
        pinned = await services.services.intake.route(Submission(content="x", model="b"))
        assert (pinned["class"], pinned["chosen"]) == (None, "b")


@pytest.mark.parametrize(
    ("at_work", "ahead", "eta_s"),
    [(0, 0, 10.0), (1, 0, 10.0), (2, 0, 15.0), (2, 3, 30.0), (0, 1, 10.0), (0, 2, 15.0)],
)
def test_a_candidate_is_expected_to_be_done_when_those_ahead_have_had_the_slots(
    tmp_path: Path, at_work: int, ahead: int, eta_s: float
) -> None:
    @virtual
    async def check() -> None:
        client = ScriptedClient([10.0, "ok"])
        async with EngineServices(tmp_path, {"a": model(concurrency=2)}, client) as services:
            await services.finished(await services.submit("measured"))
            client.default = [HANG]
            await services.submit_many([f"busy {n}" for n in range(at_work)])
            await asyncio.sleep(MOMENT)
            task = await services.task(await services.submit("x", delay_s=60))
            chooser = services.services.scheduler.dispatcher.chooser
            options = chooser.options(task.request)
            assert [row["eta_s"] for row in chooser.explain(options, {}, ahead)] == [eta_s]

    check()
