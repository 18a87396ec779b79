"""Traces over HTTP: in lists, in whole tasks, in the last event, and after a restart."""

from pathlib import Path

import pytest

from tests.web.serving import HANG, Service, expect, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(service: Service, task_id: str) -> dict[str, object]:
    tasks = expect(await service.http.get("/tasks"), 200)["tasks"]
    (found,) = (task for task in tasks if task["task_id"] == task_id)
    assert isinstance(found, dict)
    return found


async def test_a_list_shows_what_each_task_did(fresh: Service) -> None:
    task_id = await fresh.submit("[[sim:reasoning=4]][[sim:rate=100]]hello")
    task = await fresh.done(task_id)
    item = await listed(fresh, task_id)
    kinds = [kind for kind, _ in task["spans"]]
    assert [kind for kind in kinds if kind != "pending"] == ["first_token", "thinking", "answering"]
    assert item["spans"] == task["spans"]
    assert (await fresh.events(task_id))[-1]["data"]["spans"] == task["spans"]
    assert item["closed_ms"] is None


async def test_the_trace_of_an_unfinished_task_goes_on(fresh: Service) -> None:
    task_id = await fresh.speaking("[[sim:hang-stream at=2]]")
    first = (await fresh.task(task_id))["spans"]
    assert first[-1][0] == "answering"
    second = (await listed(fresh, task_id))["spans"]
    assert isinstance(second, list)
    assert [kind for kind, _ in second] == [kind for kind, _ in first]
    assert second[-1][1] >= first[-1][1]
    task = expect(await fresh.steer(task_id, "cancel"), 200)
    assert task["closed_ms"] >= 0
    assert (await listed(fresh, task_id))["closed_ms"] == task["closed_ms"]


async def test_a_trace_outlives_the_service(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        done = await first.submit("hello")
        spans = (await first.done(done))["spans"]
        cut = await first.running(HANG)
    async with serving(tmp_path) as second:
        assert (await second.task(done))["spans"] == spans
        kinds = [kind for kind, _ in (await second.task(cut))["spans"]]
        assert "cut" in kinds
        assert kinds.index("cut") > kinds.index("first_token")
