"""The service's description of itself: complete, true, and open to all."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import Draft202012Validator

from asyncsvc.web.openapi import routes as docs
from asyncsvc.web.openapi.document import document
from tests.web.description import ROUTES, VERBS, as_described, operations, strict
from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSERVED = ("PUT", "PATCH", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


async def test_the_running_service_has_these_routes(service: Service, described: Any) -> None:
    assert expect(await service.http.get("/openapi.json"), 200) == described


async def test_answers_about_the_service_are_as_described(service: Service) -> None:
    for path in ("/", "/health", "/livez", "/readyz", "/models", "/tasks/stats", "/docs",
                 "/openapi.json", "/v1/models", "/v1/models/auto", "/metrics"):  # fmt: skip
        assert (await service.http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        ("/v1/models", b'{"object": "list", "data": [], "more": 1}', "more"),
        ("/v1/models", b"{}", "required"),
        ("/nothing", b"{}", "200"),
        ("/tasks/x/cancel", b"{}", "200"),
    ],
)
async def test_an_answer_that_is_not_described_is_found(path: str, body: bytes, fault: str) -> None:
    request = httpx.Request("GET", f"http://x{path}")
    headers = {"content-type": "application/json"}
    with pytest.raises(AssertionError, match=fault):
        await as_described(httpx.Response(200, headers=headers, content=body, request=request))


async def test_events_are_as_described(service: Service, described: Any) -> None:
    done = await service.submit()
    await service.done(done)
    responses = described["paths"]["/tasks/{task_id}/events"]["get"]["responses"]
    content = responses["200"]["content"]
    assert content.keys() == {"application/x-ndjson", "text/event-stream"}
    schema = content["application/x-ndjson"]["schema"] | {"components": strict()["components"]}
    events = await service.events(done)
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
    for path in ("/openapi.json", "/asyncapi.json", "/docs"):
        whole, head = await service.http.get(path), await service.http.head(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == whole.headers["content-length"]


async def test_the_page_loads_nothing_and_runs_nothing(service: Service) -> None:
    answer = await service.http.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script|<link|<img|\ssrc=|\son\w+=|style=|@import|url\(", answer.text)
    assert set(re.findall(r'href="([^#"]*)', answer.text)) == {"", "/openapi.json"}


async def test_the_page_shows_every_operation_and_type(service: Service, described: Any) -> None:
    text = (await service.http.get("/docs")).text
    anchors = set(re.findall(r'id="([^"]+)"', text))
    assert {one["operationId"] for _, _, one in operations(described)} <= anchors
    assert {f"type-{name}" for name in described["components"]["schemas"]} <= anchors
    assert set(re.findall(r'href="#([^"]+)"', text)) <= anchors
    for name in ("Idempotency-Key", "queue_full", "content_preview", "$ASYNCSVC_URL/tasks/batch"):
        assert name in text
    assert "list of <a href" in text
    assert "at most 500" not in text
    assert "≤ 500" in text


async def test_the_document_is_made_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await service.http.get("/openapi.json")).content

    def again(_: Any) -> Any:
        raise AssertionError("made twice")

    monkeypatch.setattr(docs, "make", again)
    assert (await service.http.get("/openapi.json")).content == first
    assert (await service.http.get("/docs")).status_code == 200


async def test_the_document_needs_no_token(tmp_path: Path) -> None:
    async with serving(tmp_path, {"ASYNCSVC_TOKENS": "secret-1"}) as service:
        found = expect(await service.http.get("/openapi.json"), 200)
        assert "secret" not in str(found)
        assert (await service.http.get("/docs")).status_code == 200
        refused(await service.http.post("/docs"), 401, "unauthorized")
        for path, method, one in operations(found):
            answer = await service.http.request(method, path)
            needless = one.get("security") == []
            assert (answer.status_code != 401) == needless == ("401" not in one["responses"]), path
