"""Presets from the front door to the provider, over real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncsvc.simulator import Profile, Running, running
from tests.web.serving import Service, expect, model, serving, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIMENSIONS = 16
ENVIRON = {"ASYNCSVC_TEST_KEY": "sk-test-0123456789"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Running]:
    """What the models of this module speak to."""
    profile = {"default": {"answer_tokens": 12, "dimensions": DIMENSIONS}}
    async with running(Profile.parse(profile)) as sim:
        yield sim


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dialects(
    tmp_path_factory: pytest.TempPathFactory, provider: Running
) -> AsyncIterator[Service]:
    """A service whose models have presets."""
    key = {"api_key_env": "ASYNCSVC_TEST_KEY"}
    models = {
        "zhipu": model(provider.base_url, preset="zhipu", **key) | {"model": "glm-4-flash"},
        "silicon": model(provider.base_url, preset="siliconflow", type="embedding", **key),
    }
    folder: Path = tmp_path_factory.mktemp("dialects")
    async with serving(folder, ENVIRON, models=models) as service:
        yield service


async def embedded(service: Service, texts: list[str], **params: Any) -> dict[str, Any]:
    fields = {"type": "embedding", "input": texts, "model": "silicon", "params": params}
    answer = await service.http.post("/tasks", json=fields)
    return await service.done(expect(answer, 202)["task_id"])


async def test_a_hundred_texts_go_in_batches_and_come_back_in_order(
    dialects: Service, provider: Running
) -> None:
    texts = [f"text {n}" for n in range(100)]
    before = (await calls(dialects, provider))[-1:]
    task = await embedded(dialects, texts)
    assert (task["status"], task["error"]) == ("completed", None)
    assert len(task["result"]) == 100
    assert {len(vector) for vector in task["result"]} == {DIMENSIONS}
    for n in (0, 31, 32, 64, 99):
        assert (await embedded(dialects, [texts[n]]))["result"] == [task["result"][n]]
    made = await calls(dialects, provider, before[0]["n"] if before else 0)
    assert len(made) == 4 + 5
    assert task["attempts"] == 1
    assert task["metadata"]["usage"]["prompt_tokens"] >= 100


async def test_vectors_in_base64_are_numbers_here(dialects: Service) -> None:
    plain = await embedded(dialects, ["a", "b"])
    packed = await embedded(dialects, ["a", "b"], encoding_format="base64")
    for expected, found in zip(plain["result"], packed["result"], strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


async def test_a_warning_stands_beside_the_answer(dialects: Service) -> None:
    task = await dialects.done(
        await dialects.submit("hi", model="zhipu", params={"thinking": "off"})
    )
    assert task["status"] == "completed"
    (warning,) = task["metadata"]["route"]["warnings"]
    assert (
        warning == "glm-4-flash at zhipu has no switch for thinking, so thinking 'off' was left out"
    )


async def test_thinking_between_tags_is_reported_apart(dialects: Service) -> None:
    task_id = await dialects.submit("[[sim:think]]", model="zhipu")
    task = await dialects.done(task_id)
    events = await dialects.events(task_id)
    assert "think>" not in task["result"]
    assert text(events) == task["result"]
    assert "".join(e["data"]["text"] for e in events if e["type"] == "reasoning")


async def calls(service: Service, provider: Running, after: int = 0) -> list[dict[str, Any]]:
    answer = await service.http.get(f"{provider.url}/_sim/calls", params={"after": after})
    found: list[dict[str, Any]] = answer.json()["calls"]
    return found
