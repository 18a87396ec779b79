"""Token budgets from the settings to the provider."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import ScriptedClient
from tests.virtual_time import loop, virtual

TPM = 1000


def ask(tokens: int) -> dict[str, Any]:
    """Fields of a task whose estimate is that many and a few."""
    return {"params": {"max_tokens": tokens}}


def used(tokens: int) -> ScriptedClient:
    client = ScriptedClient([1.0, "ok"])
    client.usage = {"total_tokens": tokens}
    return client


def limited(**fields: Any) -> dict[str, dict[str, Any]]:
    return {"a": model(**{"concurrency": 5, "tpm": TPM} | fields)}


def starts(services: EngineServices) -> dict[str, int]:
    return {call.prompt: round(call.started) for call in services.client.calls}


@virtual
async def test_tokens_in_a_minute_are_bounded_by_estimate_and_then_by_usage(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(450)) as services:
        ids = [await services.submit(prompt, **ask(800)) for prompt in "abc"]
        for task_id in ids:
            await services.finished(task_id)
        # One fits at first; it proves to be 450, and counts until a minute after its head.
        assert starts(services) == {"a": 0, "b": 61, "c": 122}


@virtual
async def test_usage_below_the_estimate_makes_room_at_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(50)) as services:
        ids = [await services.submit(prompt, **ask(800)) for prompt in "abc"]
        for task_id in ids:
            await services.finished(task_id)
        assert starts(services) == {"a": 0, "b": 1, "c": 2}


@virtual
async def test_smaller_ones_do_not_overtake_one_that_does_not_fit_yet(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(700)) as services:
        await services.submit("first", **ask(600))
        await asyncio.sleep(MOMENT)
        large = await services.submit("large", **ask(900))
        small = [await services.submit(f"small {n}", **ask(10)) for n in range(3)]
        for task_id in [large, *small]:
            await services.finished(task_id)
        begun = starts(services)
        assert begun.pop("first") == 0
        assert begun["large"] == min(begun.values()) == 61


@virtual
async def test_a_more_urgent_one_goes_first_all_the_same(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(600)) as services:
        await services.submit("first", **ask(600))
        await asyncio.sleep(MOMENT)
        await services.submit("large", **ask(900))
        urgent = await services.submit("urgent", lane="priority", **ask(10))
        await services.finished(urgent)
        assert starts(services) == {"first": 0, "urgent": 0}


@virtual
async def test_one_that_does_not_fit_here_goes_to_another_model(tmp_path: Path) -> None:
    models = limited() | {"b": model(concurrency=1)}
    async with EngineServices(tmp_path, models, used(600)) as services:
        ids = [await services.submit(prompt, **ask(800)) for prompt in "xy"]
        for task_id in ids:
            await services.finished(task_id)
        assert [(call.name, round(call.started)) for call in services.client.calls] == [
            ("a", 0),
            ("b", 0),
        ]


@virtual
async def test_more_than_the_whole_budget_goes_alone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(10)) as services:
        ids = [await services.submit(prompt, **ask(5000)) for prompt in "ab"]
        for task_id in ids:
            await services.finished(task_id)
        assert starts(services) == {"a": 0, "b": 61}


@virtual
async def test_the_budget_outlives_the_process(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(900)) as services:
        await services.finished(await services.submit("a", **ask(900)))
        await asyncio.sleep(20)
        await services.restart()
        began = loop().time()
        await services.finished(await services.submit("b", **ask(900)))
        assert starts(services)["b"] == pytest.approx(62, abs=1)
        assert since(began) > 30


@virtual
async def test_the_answer_names_the_reason_of_the_wait(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(), used(2000)) as services:
        await services.finished(await services.submit("a", **ask(900)))
        answer = await services.answer("b", **ask(900))
        assert answer["message"] == "accepted; a: 2000 of 1000 tokens used"
        assert answer["eta_s"] > 59


@virtual
async def test_the_rate_of_a_budget_is_part_of_the_forecast(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, limited(concurrency=1), used(500)) as services:
        await services.finished((await services.answer("a", **ask(500)))["task_id"])
        for prompt in "bcd":
            answer = await services.answer(prompt, **ask(500))
        assert answer["position"] == 3
        assert 90 < answer["eta_s"] < 190
