"""GET of one task, of lists, of figures and of stored events."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.web.serving import FAST, HANG, Service, expect, refused, seqs, serving, text

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(service: Service, **query: Any) -> dict[str, Any]:
    return expect(await service.http.get("/tasks", params=query), 200)


def ids(page: dict[str, Any]) -> list[str]:
    return [task["task_id"] for task in page["tasks"]]


async def test_a_waiting_task_shows_its_place(fresh: Service) -> None:
    held = [await fresh.running(HANG, model="fast") for _ in range(5)]
    assert len(held) == 5
    first, second = [await fresh.submit("x", model="fast") for _ in range(2)]
    assert [(await fresh.task(task_id))["position"] for task_id in (first, second)] == [1, 2]


async def test_an_unfinished_task_shows_the_since_attempt(service: Service) -> None:
    task_id = await service.submit("x [[sim:hang-stream at=3]]")
    async with service.ws(f"/ws/tasks/{task_id}") as socket, asyncio.timeout(20):
        so_far = ""
        while True:
            task = await service.task(task_id)
            if len(so_far := task["result"] or "") > 3:
                break
            await socket.recv()
    assert (task["status"], task["finished_at"]) == ("running", None)
    assert text(await service.events(task_id)).startswith(so_far)


async def test_a_task_that_is_not_there_is_a_404(service: Service) -> None:
    for method, path in (
        ("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/pause"),
        ("POST", "/resume"), ("POST", "/retry"),
    ):  # fmt: skip
        answer = await service.http.request(method, f"/tasks/unknown{path}")
        refused(answer, 404, "task_not_found")


async def test_strange_ids_are_not_found_and_nothing_worse(service: Service) -> None:
    for name in ("%00", "%ED%A0%80", "%FF%FE", "a%0D%0Ab", "'%20OR%201=1--", "%F0%9F%98%80", "%20",
                 "..%5C..", "x" * 4000, "%25s", "%7B%7D", "batch%00", "-1", "%C2%85"):  # fmt: skip
        for path in (f"/tasks/{name}", f"/tasks/{name}/events"):
            refused(await service.http.get(path), 404, "task_not_found")
    refused(await service.http.get("/tasks/..%2F..%2Fetc"), 404, "not_found")


async def test_the_list_is_newest_first_with_previews(fresh: Service) -> None:
    long = "é" * 300
    made = [await fresh.submit(long, params={"max_tokens": 400}) for _ in range(3)]
    done = await fresh.done(made[-1])
    page = await listed(fresh, limit=2)
    assert ids(page) == made[:0:-1]
    item = page["tasks"][0]
    assert item["content_preview"] == long[:200]
    assert item["result_preview"] == done["result"][:200]
    assert not item.keys() & {"content", "result", "messages"}
    rest = await listed(fresh, limit=2, cursor=page["next_cursor"])
    assert ids(rest) == made[:1]
    assert rest["next_cursor"] is None


async def test_pages_stay_whole_while_tasks_arrive(fresh: Service) -> None:
    made = [await fresh.submit(delay_s=3600) for _ in range(10)]
    seen, cursor = [], None
    while True:
        page = await listed(fresh, limit=3, **({"cursor": cursor} if cursor else {}))
        seen += ids(page)
        await fresh.submit("newer", delay_s=3600)
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]


async def test_the_list_is_filtered(fresh: Service) -> None:
    done = await fresh.submit("Find ME", session_id="s", lane="priority")
    await fresh.done(done)
    late = await fresh.submit("other", delay_s=3600)
    for query, found in (
        ({"status": "completed"}, [done]),
        ({"status": "scheduled"}, [late]),
        ({"status": "failed"}, []),
        ({"lane": "priority"}, [done]),
        ({"session_id": "s"}, [done]),
        ({"model": "fast"}, [done]),
        ({"model": "sim"}, [done]),
        ({"model": "embed"}, []),
        ({"q": "find me"}, [done]),
        ({"q": "%"}, []),
        ({"type": "chat"}, [late, done]),
        ({"status": "completed", "lane": "short"}, []),
        ({"status": ""}, [late, done]),
    ):
        assert ids(await listed(fresh, **query)) == found, query


async def test_the_owner_is_the_user_that_was_named(service: Service) -> None:
    headers = {"x-user": "ann"}
    answer = await service.http.post("/tasks", json={"content": "x"}, headers=headers)
    assert ids(await listed(service, owner="ann")) == [answer.json()["task_id"]]
    assert ids(await listed(service, owner="ben")) == []


async def test_a_wrong_query_names_its_parameter(service: Service) -> None:
    for query in (
        {"limit": "0"}, {"limit": "501"}, {"limit": "ten"}, {"limit": "-1"}, {"limit": "1e3"},
        {"limit": "9" * 5000}, {"status": "done"}, {"colour": "red"}, {"cursor": "!!"},
        {"cursor": "é"}, {"cursor": "AAAA"}, {"lane": "fast"}, {"type": "poem"},
    ):  # fmt: skip
        answer = await service.http.get("/tasks", params=query)
        assert refused(answer, 422, "invalid_request")["param"] == next(iter(query)), query
    for after in ("-1", "x", "2", str(1 << 70)):
        answer = await service.http.get(
            f"/tasks/{await service.submit(delay_s=60)}/events", params={"after": after}
        )
        assert refused(answer, 422, "invalid_request")["param"] == "after"


async def test_queries_of_any_bytes_are_answered(service: Service) -> None:
    for query in ("q=%00", "q=%FF", "q=%ED%A0%80", "session_id=%00", "q=" + "x" * 20_000, "&&&=",
                  "cursor=" + "OQ" * 200, "limit="):  # fmt: skip
        assert (await service.http.get(f"/tasks?{query}")).status_code in (200, 422), query


async def test_the_figures_count_each_state_and_model(fresh: Service) -> None:
    await fresh.done(await fresh.submit("x"))
    await fresh.submit(delay_s=3600)
    figures = expect(await fresh.http.get("/tasks/stats"), 200)
    models, without = figures.pop("models"), figures.pop("without_model")
    assert figures == {
        "total": 2, "scheduled": 1, "pending": 0, "running": 0, "paused": 0, "completed": 1,
        "failed": 0, "cancelled": 0, "needs_approval": 0, "needs_review": 0,
    }  # fmt: skip
    assert models["fast"]["completed"] == 1
    states = without.keys()
    assert figures["total"] == sum(figures[state] for state in states)
    for state in states:
        of_models = sum(counts[state] for counts in models.values())
        assert figures[state] == of_models + without[state]
    assert without["scheduled"] == 1


async def test_a_list_has_no_candidates_and_a_task_has(service: Service) -> None:
    task = await service.done(await service.submit("x", model="fast"))
    route = task["metadata"]["route"]
    assert route["candidates"]
    (item,) = [t for t in (await listed(service))["tasks"] if t["task_id"] == task["task_id"]]
    assert item["metadata"]["route"] == {n: v for n, v in route.items() if n != "candidates"}


async def test_a_filter_with_several_values_lets_any_of_them_through(fresh: Service) -> None:
    done = await fresh.submit("x")
    await fresh.done(done)
    later, long = await fresh.submit(delay_s=3600), await fresh.submit(delay_s=3600, lane="long")
    states = ["scheduled", "completed", "completed"]
    assert ids(await listed(fresh, status=states)) == [long, later, done]
    lanes = ["long", "priority"]
    page = await listed(fresh, status=states, lane=lanes, limit=1)
    assert (ids(page), page["next_cursor"]) == ([long], None)
    answer = await fresh.http.get("/tasks?status=scheduled&status=done")
    assert refused(answer, 422, "invalid_request")["param"] == "status"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/tasks?limit=1&limit=2", "limit"),
        ("/tasks?q=a&q=a", "q"),
        ("/tasks?owner=a&owner=b", "owner"),
        ("/stats/history?span=6h&span=15m", "span"),
        ("/stats/why-slow?since_s=1&since_s=2", "since_s"),
        ("/tasks/export?status=failed&status=completed", "status"),
        ("/tasks/{id}/events?after=0&after=1", "after"),
    ],
)
async def test_a_parameter_that_is_given_twice_is_refused(
    service: Service, path: str, name: str
) -> None:
    task_id = await service.submit("x")
    fault = refused(await service.http.get(path.replace("{id}", task_id)), 422, "invalid_request")
    assert fault["param"] == name
    assert fault["message"] == f"{name} is given 2 times; give it once"


async def test_openais_lists_refuse_a_parameter_that_is_given_twice(service: Service) -> None:
    for path in ("/v1/files?limit=1&limit=2", "/v1/batches?after=a&after=b"):
        assert refused(await service.http.get(path), 400, "invalid_request")
    assert expect(await service.http.get("/v1/files?include[]=a&include[]=b"), 200)


async def test_stored_events_are_json_lines_from_any_after(service: Service) -> None:
    task_id = await service.submit("x [[sim:tokens=30]][[sim:rate=200]]")
    await service.done(task_id)
    answer = await service.http.get(f"/tasks/{task_id}/events")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    events = await service.events(task_id)
    assert seqs(events) == list(range(1, len(events) + 1))
    assert [e["id"] for e in events] == sorted({e["id"] for e in events})
    assert all(e["task_id"] == task_id and e["ts"].endswith("Z") for e in events)
    assert events[0]["data"]["status"] == "pending"
    last = events[-1]["data"]
    assert (last["status"], last["error"]) == ("completed", None)
    assert last["usage"]["total_tokens"]
    assert last["latency"] > 0
    for after in (0, 1, 5, len(events) - 1, len(events)):
        assert await service.events(task_id, after) == events[after:]


async def test_more_events_than_a_page_are_all_there(service: Service) -> None:
    task_id = await service.submit("x [[sim:tokens=900]][[sim:rate=900]]")
    while (await service.done(task_id))["seq"] <= 600:
        # How many tokens become one event depends on the disk.
        expect(await service.steer(task_id, "retry"), 200)
    events = await service.events(task_id)
    assert seqs(events) == list(range(1, len(events) + 1))
    assert len(events) > 600


async def test_a_running_task_gives_the_events_so_far(service: Service) -> None:
    task_id = await service.running()
    assert [e["type"] for e in await service.events(task_id)] == ["status", "status", "attempt"]


async def test_the_models_tell_how_they_are(tmp_path: Path) -> None:
    async with serving(tmp_path, profile=FAST) as outer:
        models = {
            "two": {"base_url": outer.sim.base_url, "model": ["m1", "m2"], "rpm": 40},
            "learn": {
                "base_url": outer.sim.base_url,
                "model": "m",
                "rpm": "auto",
                "concurrency": "auto",
            },
            "off": {"base_url": outer.sim.base_url, "model": "m", "enabled": False},
            "dumb": {"base_url": outer.sim.base_url, "model": "m", "api_key_env": "NO_KEY"},
        }
        async with serving(tmp_path / "inner", models=models) as service:
            await service.done(await service.submit("x"))
            shown = expect(await service.http.get("/models"), 200)["models"]
    two, auto, off, dumb = shown
    assert [model["name"] for model in shown] == ["two", "learn", "off", "dumb"]
    assert (two["enabled"], two["reason"], two["model"]) == (True, None, "m1")
    assert (two["in_flight"], two["concurrency"], two["rpm"]) == (0, 5, 40)
    assert (two["concurrency_auto"], two["rpm_auto"]) == (False, False)
    assert two["gates"][0]["learned"] is None
    assert (auto["concurrency"], auto["rpm"]) == (2, 30)
    assert (auto["concurrency_auto"], auto["rpm_auto"]) == (True, True)
    assert set(auto["gates"][0]["learned"]) == {"concurrency", "rpm", "tells"}
    assert (two["calls"], two["calls_last_60s"], two["errors"]) == (1, 1, 0)
    assert (two["breaker"], two["queue_depth"]) == ("closed", 0)
    assert two["latency_s"] > 0
    assert (off["enabled"], dumb["enabled"]) == (False, False)
    assert "NO_KEY" in dumb["reason"]
    assert "enabled" in off["reason"]


async def test_a_task_is_explained(service: Service) -> None:
    task_id = await service.submit("explain me", model="fast")
    await service.done(task_id)
    found = expect(await service.http.get(f"/tasks/{task_id}/explain"), 200)
    assert [step["what"] for step in found["timeline"]] == ["submitted", "started", "completed"]
    (attempt,) = found["attempts"]
    assert attempt["name"] == "fast"
    assert attempt["chunks"] > 0
    assert attempt["characters"] > 0
    assert found["usage"]["total_tokens"] > 0
    assert found["now"] is None
    refused(await service.http.get("/tasks/unknown/explain"), 404, "task_not_found")


async def test_a_running_and_a_waiting_task_are_explained(fresh: Service) -> None:
    held = [await fresh.running(HANG, model="fast") for _ in range(5)]
    running = expect(await fresh.http.get(f"/tasks/{held[0]}/explain"), 200)
    assert running["attempts"][0]["outcome"] is None
    assert running["now"]["running_s"] >= 0
    waiting = await fresh.submit("x", model="fast")
    now = expect(await fresh.http.get(f"/tasks/{waiting}/explain"), 200)["now"]
    assert now["position"] == 1
    assert "5 of 5 calls under way" in now["reason"]


async def test_the_user_of_the_header_owns_the_task(service: Service) -> None:
    body = {"content": "whose?", "model": "fast"}
    answer = await service.http.post("/tasks", json=body, headers={"x-user": "B"})
    task_id = expect(answer, 202)["task_id"]
    assert expect(await service.http.get(f"/tasks/{task_id}/explain"), 200)["owner"] == "B"
    assert ids(await listed(service, owner="B")) == [task_id]
