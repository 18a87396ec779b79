"""What `/models` says of each key: its calls, why none may begin, refusals, averages."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncsvc.simulator import Profile, running
from asyncsvc.web.tasks.models import RECENT_MOST
from tests.web.description import as_described
from tests.web.serving import HANG, Service, expect, model, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PACE = {"answer_tokens": 20, "first_token_s": 0.05, "tokens_per_s": 400}


@pytest_asyncio.fixture(loop_scope="module")
async def narrow(tmp_path: Path) -> AsyncIterator[Service]:
    """A model with three calls in any minute."""
    async with running(Profile.parse({"default": PACE})) as sim:
        models = {"narrow": model(sim.base_url, rpm=3, concurrency=2)}
        async with serving(tmp_path, models=models) as found:
            found.http.event_hooks["response"].append(as_described)
            yield found


async def gate(service: Service) -> dict[str, Any]:
    (found,) = expect(await service.http.get("/models"), 200)["models"]
    (only,) = found["gates"]
    for name in ("latency_s", "first_token_s", "tokens_per_s"):
        assert found[name] == only[name]
    assert isinstance(only, dict)
    return only


async def test_an_unused_key_has_no_figures(narrow: Service) -> None:
    found = await gate(narrow)
    assert (found["why"], found["next_in_s"]) == (None, 0.0)
    assert found["recent_calls"] == []
    for name in ("last_refusal", "latency_s", "first_token_s", "tokens_per_s"):
        assert found[name] is None


async def test_a_full_window_says_when_there_is_room(narrow: Service) -> None:
    for _ in range(3):
        await narrow.done(await narrow.submit("hello"))
    found = await gate(narrow)
    assert found["why"] == "rate"
    assert 50 < found["next_in_s"] <= 62
    ages = [call["ago_s"] for call in found["recent_calls"]]
    assert len(ages) == 3
    assert ages == sorted(ages)
    assert not any(call["refused"] for call in found["recent_calls"])
    assert found["next_in_s"] == pytest.approx(60 - ages[-1], abs=0.5)


async def test_busy_slots_have_no_time(narrow: Service) -> None:
    for _ in range(2):
        await narrow.running(HANG)
    found = await gate(narrow)
    assert (found["why"], found["next_in_s"]) == ("concurrency", None)


async def test_how_soon_and_how_fast_answers_come_is_averaged(narrow: Service) -> None:
    await narrow.done(await narrow.submit("hello"))
    found = await gate(narrow)
    assert 0.05 <= found["first_token_s"] < found["latency_s"]
    assert 20 < found["tokens_per_s"] < 1000


async def test_a_refusal_is_shown_in_the_providers_words(narrow: Service) -> None:
    await narrow.came(await narrow.submit("[[sim:429-after=9]]"), "retry")
    found = await gate(narrow)
    refusal = found["last_refusal"]
    assert (refusal["code"], refusal["status"], refusal["retry_after_s"]) == (
        *("rate_limited", 429, 9),
    )
    assert refusal["message"].startswith("the provider answered 429: ")
    assert (found["why"], found["recent_calls"][0]["refused"]) == ("slow_down", True)
    assert 0 < found["next_in_s"] <= 9


async def test_a_held_model_says_so(narrow: Service) -> None:
    expect(await narrow.http.post("/models/narrow/pause"), 200)
    found = await gate(narrow)
    assert (found["why"], found["next_in_s"]) == ("held", None)


async def test_calls_without_a_limit_are_listed_up_to_a_bound(tmp_path: Path) -> None:
    profile = {"default": {"answer_tokens": 1}}
    async with serving(tmp_path, profile=profile, concurrency=20) as service:
        tasks = [{"content": str(number), "model": "fast"} for number in range(RECENT_MOST + 5)]
        made = expect(await service.http.post("/tasks/batch", json={"tasks": tasks}), 202)
        for task in made["tasks"]:
            await service.done(task["task_id"])
        fast, _ = expect(await service.http.get("/models"), 200)["models"]
        assert len(fast["gates"][0]["recent_calls"]) == RECENT_MOST
