"""POST /route: how a task would be routed."""

from pathlib import Path

import pytest

from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_it_answers_class_candidates_and_choice_and_stores_nothing(fresh: Service) -> None:
    answer = expect(await fresh.http.post("/route", json={"content": "什么是AI？"}), 200)
    assert (answer["class"], answer["chosen"]) == ("simple", "fast")
    assert answer["features"]
    assert answer["score"] < 0
    assert set(answer["candidates"][0]) == {"model", "eligible", "reason", "eta_s"}
    stats = expect(await fresh.http.get("/tasks/stats"), 200)
    assert stats["total"] == 0


async def test_it_validates_as_a_submit_does(service: Service) -> None:
    refused(await service.http.post("/route", json={"contents": "x"}), 422, "invalid_request")
    wrong = {"content": "x", "model": "none"}
    refused(await service.http.post("/route", json=wrong), 404, "model_not_found")


async def test_a_refused_key_is_reported_by_models_and_health(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        task_id = await service.submit("[[sim:401]]", model="fast")
        assert (await service.done(task_id))["error"]["code"] == "upstream_auth"
        models = expect(await service.http.get("/models"), 200)["models"]
        fast = next(one for one in models if one["name"] == "fast")
        assert fast["enabled"] is False
        assert "401" in fast["reason"]
        body = expect(await service.http.get("/health"), 200)
        assert body["status"] == "degraded"
        assert any("401" in problem for problem in body["problems"])
        refused(await service.http.post("/tasks", json={"content": "x"}), 503, "no_model")
