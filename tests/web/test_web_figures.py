"""`GET /stats/history` over HTTP."""

from pathlib import Path

import pytest

from tests.polling import until
from tests.web.description import as_described
from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_charts_have_figures_from_before_they_were_opened(fresh: Service) -> None:
    await fresh.done(await fresh.submit("hello"))

    async def completed() -> int:
        found = expect(await fresh.http.get("/stats/history"), 200)
        assert found["every_s"] == 5
        return sum(found["totals"]["completed"])

    assert await until(completed, lambda count: count > 0) == 1
    coarse = expect(await fresh.http.get("/stats/history?span=6h"), 200)
    assert (coarse["span"], coarse["every_s"], coarse["at"]) == ("6h", 120, [])


async def test_another_span_or_parameter_is_refused(service: Service) -> None:
    refused(await service.http.get("/stats/history?span=1y"), 422, "invalid_request")
    refused(await service.http.get("/stats/history?last=15m"), 422, "invalid_request")


async def test_a_route_says_how_large_its_texts_are(service: Service) -> None:
    for body, size in (
        ({"content": "什么是AI？"}, 14),
        ({"messages": [{"role": "user", "content": "abcd"}, {"role": "user", "content": "ef"}]}, 6),
        ({"type": "embedding", "input": ["abc", "de"], "model": "embed"}, 5),
    ):
        found = expect(await service.http.post("/route", json=body), 200)
        assert found["bytes"] == size
        assert 0 < found["prompt_tokens"] <= size


async def test_a_count_of_waits_is_a_metric(tmp_path: Path) -> None:
    async with serving(tmp_path, concurrency=1) as service:
        service.http.event_hooks["response"].append(as_described)
        tasks = [await service.submit("[[sim:rate=40]]hello", model="fast") for _ in range(2)]
        for task_id in tasks:
            await service.done(task_id)
        text = (await service.http.get("/metrics")).text
        assert 'asyncsvc_task_wait_reason_seconds_total{reason="concurrency"}' in text


async def test_why_tasks_were_slow_is_answered_as_described(fresh: Service) -> None:
    await fresh.done(await fresh.submit("hello"))
    found = expect(await fresh.http.get("/stats/why-slow?since_s=600"), 200)
    assert (found["tasks"], found["truncated"]) == (1, False)
    assert expect(await fresh.http.get("/stats/why-slow"), 200)["tasks"] == 1


@pytest.mark.parametrize("query", ["since_s=0", "since_s=1h", "since_s=99999999", "since=600"])
async def test_a_time_that_is_none_is_refused(service: Service, query: str) -> None:
    refused(await service.http.get(f"/stats/why-slow?{query}"), 422, "invalid_request")
