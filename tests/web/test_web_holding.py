"""Pausing and resuming a model over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def say(service: Service, verb: str, name: str = "fast") -> dict[str, Any]:
    return expect(await service.http.post(f"/models/{name}/{verb}"), 200)


async def test_a_paused_model_says_so_and_its_tasks_wait(fresh: Service) -> None:
    first = await say(fresh, "pause")
    assert (first["name"], first["paused"], first["reason"]) == ("fast", True, "fast is paused")
    assert first["enabled"]
    assert first["waiting_for"] == "fast is paused"
    assert await say(fresh, "pause") == first
    rows = expect(await fresh.http.get("/models"), 200)["models"]
    assert [(row["name"], row["paused"]) for row in rows] == [("fast", True), ("embed", False)]
    task_id = await fresh.submit("hello")
    assert (await fresh.task(task_id))["status"] == "pending"
    resumed = await say(fresh, "resume")
    assert (resumed["paused"], resumed["paused_at"], resumed["reason"]) == (False, None, None)
    assert not (await say(fresh, "resume"))["paused"]
    assert (await fresh.done(task_id))["status"] == "completed"


async def test_a_running_call_finishes(fresh: Service) -> None:
    task_id = await fresh.running("[[sim:tokens=60]][[sim:rate=100]]")
    assert (await say(fresh, "pause"))["in_flight"] == 1
    assert (await fresh.done(task_id))["status"] == "completed"


async def test_a_pause_holds_over_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        paused_at = (await say(first, "pause"))["paused_at"]
    async with serving(tmp_path) as second:
        rows = expect(await second.http.get("/models"), 200)["models"]
        assert rows[0]["paused_at"] == paused_at
        task_id = await second.submit("hello")
        assert (await second.task(task_id))["status"] == "pending"
        await say(second, "resume")
        assert (await second.done(task_id))["status"] == "completed"


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_an_unknown_model_is_not_found(service: Service, verb: str) -> None:
    answer = await service.http.post(f"/models/nope/{verb}")
    assert refused(answer, 404, "model_not_found")["param"] == "name"
    refused(await service.http.get(f"/models/fast/{verb}"), 405, "method_not_allowed")
