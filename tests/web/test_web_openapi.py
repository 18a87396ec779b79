"""The service's description of itself: complete, true, and open to all."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from asyncsvc.web.openapi import routes as docs
from asyncsvc.web.openapi.document import document
from tests.web.description import ROUTES, VERBS, closed, operations, template
from tests.web.serving import HANG, Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSERVED = ("PUT", "PATCH", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


@pytest.fixture(scope="module")
def strict(described: dict[str, Any]) -> dict[str, Any]:
    components: dict[str, Any] = closed(described["components"])
    return components


async def held(service: Service, strict: dict[str, Any], method: str, path: str, **how: Any) -> Any:
    """Ask, and hold the answer against the description."""
    found = expect(await service.http.get("/openapi.json"), 200)
    answer = await service.http.request(method, path, **how)
    route = template(path.partition("?")[0], found["paths"])
    told = found["paths"][route][method.lower()]["responses"][str(answer.status_code)]
    if "content" not in told:
        assert answer.content == b""
        return None
    media = answer.headers["content-type"]
    value = answer.json() if media == "application/json" else answer.text
    schema = closed(told["content"][media]["schema"]) | {"components": strict}
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(value)] == []
    return value


async def test_the_running_service_has_these_routes(service: Service, described: Any) -> None:
    assert expect(await service.http.get("/openapi.json"), 200) == described


async def test_reading_is_as_described(service: Service, strict: Any) -> None:
    done = await service.submit("tell me", metadata={"a": 1}, session_id="s")
    await service.done(done)
    for path in ("/", "/health", "/livez", "/readyz", "/models", "/tasks/stats", "/docs",
                 "/openapi.json", "/tasks", f"/tasks/{done}", "/tasks?limit=1",
                 f"/tasks/{done}/explain"):  # fmt: skip
        assert await held(service, strict, "GET", path)
    task = await held(service, strict, "GET", f"/tasks/{done}")
    assert task["status"] == "completed" and task["result"]
    for path in ("/tasks/none", "/tasks/none/explain", "/tasks?lane=fast", "/tasks/none/events",
                 "/tasks?limit=0"):  # fmt: skip
        assert (await held(service, strict, "GET", path))["error"]


async def test_embeddings_are_as_described(service: Service, strict: Any) -> None:
    body = {"type": "embedding", "input": ["a", "b"]}
    task_id = (await held(service, strict, "POST", "/tasks", json=body))["task_id"]
    await service.done(task_id)
    assert len((await held(service, strict, "GET", f"/tasks/{task_id}"))["result"]) == 2


async def test_submitting_is_as_described(service: Service, strict: Any) -> None:
    key = {"idempotency-key": "described"}
    for headers in (key, key, {}):
        body = {"messages": [{"role": "user", "content": "x"}]}
        told = await held(service, strict, "POST", "/tasks", json=body, headers=headers)
        assert told["task_id"]
    for path, wrong in (("/tasks", {}), ("/tasks", {"content": "x", "model": "none"}),
                        ("/tasks/batch", {"tasks": []}), ("/route", {"content": 1})):  # fmt: skip
        assert (await held(service, strict, "POST", path, json=wrong))["error"]
    for path in ("/tasks", "/tasks/batch", "/route"):
        answer = await held(service, strict, "POST", path, content=b"{")
        assert answer["error"]["code"] == "invalid_json"
    batch = {"tasks": [{"content": "a"}, {"content": "b"}]}
    assert len((await held(service, strict, "POST", "/tasks/batch", json=batch))["tasks"]) == 2
    asked = await held(service, strict, "POST", "/route", json={"content": "Hello there!"})
    assert asked["chosen"] == "fast"
    named = {"content": "x", "model": "fast"}
    assert (await held(service, strict, "POST", "/route", json=named))["class"] is None


async def test_steering_is_as_described(service: Service, strict: Any) -> None:
    task_id = await service.running(HANG)
    assert await held(service, strict, "GET", f"/tasks/{task_id}/explain")
    for verb in ("pause", "resume", "cancel", "retry", "cancel"):
        assert (await held(service, strict, "POST", f"/tasks/{task_id}/{verb}"))["task_id"]
    assert (await held(service, strict, "POST", f"/tasks/{task_id}/cancel"))["error"]
    assert await held(service, strict, "DELETE", f"/tasks/{task_id}") is None
    assert (await held(service, strict, "DELETE", f"/tasks/{task_id}"))["error"]


async def test_events_are_as_described(service: Service, described: Any, strict: Any) -> None:
    task_id = await service.submit()
    await service.done(task_id)
    told = described["paths"]["/tasks/{task_id}/events"]["get"]["responses"]
    content = told["200"]["content"]
    assert content.keys() == {"application/x-ndjson", "text/event-stream"}
    schema = content["application/x-ndjson"]["schema"] | {"components": strict}
    events = await service.events(task_id)
    assert len(events) > 3
    for event in events:
        assert [e.message for e in Draft202012Validator(schema).iter_errors(event)] == []


async def test_other_methods_are_refused_and_heads_are_answered(service: Service) -> None:
    for path, entry in document(ROUTES)["paths"].items():
        answer = await service.http.options(path)
        assert answer.status_code == 204
        allowed = set(answer.headers["allow"].split(", "))
        verbs = {verb.upper() for verb in VERBS & entry.keys()}
        assert allowed == verbs | {"OPTIONS"} | ({"HEAD"} if "GET" in verbs else set())
        for method in UNSERVED:
            answer = await service.http.request(method, path)
            refused(answer, 405, "method_not_allowed")
            assert set(answer.headers["allow"].split(", ")) == allowed
    for path in ("/openapi.json", "/docs"):
        whole, head = await service.http.get(path), await service.http.head(path)
        assert head.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == whole.headers["content-length"]


async def test_the_page_loads_nothing_and_runs_nothing(service: Service) -> None:
    answer = await service.http.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script|<link|<img|\ssrc=|\son\w+=|style=|@import|url\(", answer.text)
    assert set(re.findall(r'href="([^#"]*)', answer.text)) == {"", "/openapi.json"}


async def test_the_page_tells_of_everything(service: Service, described: Any) -> None:
    text = (await service.http.get("/docs")).text
    anchors = set(re.findall(r'id="([^"]+)"', text))
    assert {one["operationId"] for _, _, one in operations(described)} <= anchors
    assert {f"type-{name}" for name in described["components"]["schemas"]} <= anchors
    assert set(re.findall(r'href="#([^"]+)"', text)) <= anchors
    for name in ("Idempotency-Key", "queue_full", "content_preview", "$ASYNCSVC_URL/tasks/batch"):
        assert name in text
    assert "list of <a href" in text and "at most 500" not in text and "≤ 500" in text


async def test_it_is_made_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await service.http.get("/openapi.json")).content

    def again(_: Any) -> Any:
        raise AssertionError("made twice")

    monkeypatch.setattr(docs, "make", again)
    assert (await service.http.get("/openapi.json")).content == first
    assert (await service.http.get("/docs")).status_code == 200


async def test_it_is_open_where_tokens_are_set(tmp_path: Path) -> None:
    async with serving(tmp_path, {"ASYNCSVC_TOKENS": "secret-1"}) as service:
        found = expect(await service.http.get("/openapi.json"), 200)
        assert "secret" not in str(found)
        assert (await service.http.get("/docs")).status_code == 200
        refused(await service.http.post("/docs"), 401, "unauthorized")
        for path, method, one in operations(found):
            answer = await service.http.request(method, path)
            needless = one.get("security") == []
            assert (answer.status_code != 401) == needless == ("401" not in one["responses"]), path
