"""Refusals that name neither key, account nor model: at the gate, and for tasks that wait."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import (
    AuthUnexplained,
    ModelUnexplained,
    NoModel,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooCostly,
    Unexplained,
    UpstreamOverloaded,
    UpstreamUnsupported,
)
from asyncsvc.limits.breaker import BreakerState
from asyncsvc.limits.verdict import Stage
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model, since
from tests.limits.test_account import called
from tests.scripted import HEAD
from tests.upstreams import gate
from tests.virtual_time import loop, virtual

PAGE = "the provider answered 403: an HTML page: Just a moment..."
DENIED = "the provider answered 403: Access denied, ray 8f1a2b3c"


def page() -> Unexplained:
    return AuthUnexplained(PAGE, status=403)


# The gate -------------------------------------------------------------------------------------


@virtual
async def test_the_account_rests_for_seconds_and_one_probe_passes() -> None:
    resting = gate(3)
    resting.failed(page(), request="a")
    assert (resting.wait(), resting.fault) == (2, None)
    assert PAGE in str(resting.describe())
    probe = await resting.acquire()
    assert loop().time() == 2
    others = [asyncio.create_task(resting.acquire()) for _ in range(2)]
    await asyncio.sleep(100)
    assert not any(other.done() for other in others)
    assert "a probe is under way" in str(resting.describe())
    resting.succeeded(1.0)
    probe.release()
    await asyncio.gather(*others)
    assert (resting.breaker_state, resting.refusals.last) == (BreakerState.CLOSED, None)


@virtual
async def test_each_refused_probe_doubles_the_rest_up_to_a_minute() -> None:
    resting, rests = gate(1), []
    for _ in range(8):
        permit = await called(resting)
        resting.failed(page(), permit, "a")
        permit.release()
        rests.append(resting.wait())
        await asyncio.sleep(resting.wait())
    assert rests == [2, 4, 8, 16, 32, 60, 60, 60]
    resting.succeeded(1.0)
    resting.failed(page(), request="a")
    assert resting.wait() == 2


@virtual
async def test_calls_refused_together_are_one_refusal() -> None:
    resting = gate(5)
    permits = [await called(resting) for _ in range(5)]
    await asyncio.sleep(1)
    for number, permit in enumerate(permits):
        resting.failed(page(), permit, str(number))
        permit.release()
    assert resting.wait() == 2
    assert not resting.refusals.repeated


@virtual
async def test_the_rest_is_not_longer_than_the_provider_asks_for() -> None:
    resting = gate(1)
    for _ in range(3):
        resting.failed(AuthUnexplained(PAGE, retry_after=1.0, status=403), request="a")
        assert resting.wait() == 1
        await asyncio.sleep(1)


@virtual
async def test_the_head_of_an_answer_lets_the_others_through() -> None:
    resting = gate(2)
    resting.failed(page(), request="a")
    await asyncio.sleep(2)
    probe = await resting.acquire()
    probe.reserve(False)
    probe.sent()
    assert resting.wait() == math.inf
    probe.head(True)
    assert resting.wait() == 0


@pytest.mark.parametrize(
    ("first", "second", "requests", "closed"),
    [
        (DENIED, DENIED, "ab", True),
        (DENIED, DENIED.replace("8f1a2b3c", "00ff77aa1"), "ab", True),
        (PAGE, PAGE, "ab", True),
        (DENIED, DENIED, "aa", False),
        (DENIED, PAGE, "ab", False),
    ],
)
def test_two_requests_refused_alike_close_the_account_to_new_tasks(
    first: str, second: str, requests: str, closed: bool
) -> None:
    @virtual
    async def check() -> None:
        resting = gate(1)
        for message, request in zip((first, second), requests, strict=True):
            resting.failed(AuthUnexplained(message, status=403), request=request)
            await asyncio.sleep(1)
        assert resting.describe(Stage.SUBMIT) == (second if closed else None)
        assert resting.fault is None
        await asyncio.sleep(60)  # the rest is over: a probe may pass
        assert resting.describe(Stage.SUBMIT) is None
        resting.succeeded(1.0)
        assert not resting.refusals.repeated

    check()


@virtual
async def test_a_success_between_two_refusals_keeps_the_account_open() -> None:
    resting = gate(1)
    resting.failed(AuthUnexplained(DENIED, status=403), request="a")
    resting.succeeded(1.0)
    resting.failed(AuthUnexplained(DENIED, status=403), request="b")
    assert resting.describe(Stage.SUBMIT) is None


@virtual
async def test_a_reload_ends_the_rest() -> None:
    resting = gate(1)
    resting.failed(page(), request="a")
    resting.reset()
    assert (resting.wait(), resting.refusals.last) == (0, None)


@virtual
async def test_a_breaker_that_is_open_for_longer_stays_open() -> None:
    broken = gate(1)
    for _ in range(5):
        broken.failed(UpstreamOverloaded("x"))
    broken.failed(page(), request="a")
    assert broken.wait() == 30


@virtual
async def test_a_balance_too_low_for_one_request_is_none_for_a_smaller_one() -> None:
    sound = gate(1)
    sound.failed(RequestTooCostly("or fewer max_tokens"))
    assert sound.wait() == 0


@virtual
async def test_a_named_time_takes_the_place_of_a_guess() -> None:
    resting = gate(1)
    resting.failed(QuotaExhausted("no balance"))
    assert resting.wait() == 3600
    resting.failed(RateLimited("slow", retry_after=2.0))
    assert resting.wait() == 2
    assert "asked to slow down" in str(resting.describe())
    resting.failed(RateLimited("slow", retry_after=1.0))
    assert resting.wait() == 2, "a shorter time does not take the place of a named one"


# Tasks that wait ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [page(), ModelUnexplained("404 page not found", status=404)])
def test_one_refusal_costs_those_that_wait_nothing(tmp_path: Path, fault: ProviderError) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, {"a": model()}) as services:
            first = await services.submit_script("first", [fault], ["ok"])
            others = await services.submit_many([f"other {n}" for n in range(12)])
            tasks = [await services.finished(task_id) for task_id in (first, *others)]
            assert {task.state for task in tasks} == {State.COMPLETED}
            assert [task.attempts for task in tasks] == [2] + [1] * 12
            assert len(services.client.calls) == 14
            assert services.client.calls[1].started >= 2

    check()


@virtual
async def test_a_refused_task_fails_by_its_own_retries_and_no_other_does(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}, retry={"max_retries": 2}) as services:
        bad = await services.submit_script("bad", [page()])
        good = await services.submit_many(["x", "y"])
        assert await services.code(bad) == "upstream_auth"
        assert (await services.task(bad)).attempts == 3
        assert [await services.code(task_id) for task_id in good] == [None, None]
        assert services.services.catalogue.lacking() == {}


@virtual
async def test_a_model_refused_twice_takes_no_new_task_and_keeps_those_that_wait(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        await services.submit_script("first", [page()], max_retries=0)
        tasks = [await services.submit_script(name, [page()], ["ok"]) for name in "xyz"]
        await asyncio.sleep(3)
        assert services.services.catalogue.lacking() == {"a": PAGE}
        with pytest.raises(NoModel, match="Just a moment") as found:
            await services.submit("new")
        assert 0 < (found.value.retry_after or 0) <= 60
        assert [await services.code(task_id) for task_id in tasks] == [None] * 3
        assert services.services.catalogue.lacking() == {}
        assert await services.code(await services.submit("new")) is None


@virtual
async def test_tasks_go_elsewhere_while_a_model_rests(tmp_path: Path) -> None:
    models = {"a": model(good_at=["reasoning"]), "b": model(good_at=["simple"])}
    async with EngineServices(tmp_path, models) as services:
        services.client.of_model["a"] = [page()]
        think = "深入分析人工智能对社会的影响"
        tasks = await services.submit_many([think, think + "!"])
        assert [await services.code(task_id) for task_id in tasks] == [None, None]
        assert [call.name for call in services.client.calls] == ["a", "b", "b"]
        assert since() < 2


@virtual
async def test_what_one_model_cannot_do_is_asked_of_another(tmp_path: Path) -> None:
    models = {"a": model(good_at=["general"]), "b": model(good_at=["simple"])}
    async with EngineServices(tmp_path, models) as services:
        refusal = UpstreamUnsupported("No endpoints found that support tool use.")
        services.client.of_model["a"] = [refusal]
        task_id = await services.submit("x", route_as="general")
        assert await services.code(task_id) is None
        assert [call.name for call in services.client.calls] == ["a", "b"]
        assert await services.code(await services.submit("y", model="a")) == "upstream_rejected"
        assert services.services.scheduler.account_slots[0].gate.describe() is None


# The time of tasks that wait ------------------------------------------------------------------

CAUSES = [
    (RateLimited("TPM limit reached", retry_after=600.0), "rate_limited", "TPM limit reached"),
    (QuotaExhausted("no balance"), "quota_exhausted", "no balance"),
]


@pytest.mark.parametrize(("fault", "code", "words"), CAUSES, ids=["rate", "quota"])
@pytest.mark.parametrize("place", ["first", "behind others", "behind its session", "reloaded"])
def test_a_task_with_a_time_ends_in_it_with_what_it_waited_for(
    tmp_path: Path, place: str, fault: ProviderError, code: str, words: str
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, {"a": model()}) as services:
            await services.submit_script("closing", [fault])
            await asyncio.sleep(1)
            session: dict[str, Any] = {"session_id": "s"} if "session" in place else {}
            if place != "first":
                await services.submit_many(["x", "y"], **session)
            start = loop().time()
            task_id = await services.submit("timed", timeout_s=5, **session)
            if place == "reloaded":
                await asyncio.sleep(1)
                gate = services.services.catalogue.gates[0]
                await services.reload({"a": model()})
                gate.failed(fault)  # still refused after the reload
            task = await services.finished(task_id)
            assert task.error == {"code": code, "message": words, "retryable": True}
            assert 5 <= since(start) <= 6.5
            assert "timed" not in services.client.prompts

    check()


@virtual
async def test_the_time_does_not_run_while_others_have_their_turn(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        await services.submit_script("long", [100.0, "ok"])
        task_id = await services.submit("timed", timeout_s=5)
        assert await services.code(task_id) is None
        assert since() == 100


@virtual
async def test_rests_add_up(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        services.client.default = [RateLimited("slow", retry_after=2.0)]
        await services.submit("never", timeout_s=1000, priority=9)
        await asyncio.sleep(0.5)
        task_id = await services.submit("timed", timeout_s=5, priority=0)
        assert await services.code(task_id) == "rate_limited"
        assert 5 <= since() <= 8


@virtual
async def test_a_time_that_ends_between_two_tries_names_the_last_fault(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}, breaker={"failures": 1}) as services:
        task_id = await services.submit_script(
            "x", [HEAD, UpstreamOverloaded("burnt")], timeout_s=9
        )
        task = await services.finished(task_id)
        assert task.error is not None
        assert task.error["code"] in ("timeout", "overloaded")
        assert "burnt" in task.error["message"]
