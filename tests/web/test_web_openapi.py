"""The service's description of itself: complete, true, and open to all."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import Draft202012Validator

from asyncsvc.web.openapi import routes as docs
from asyncsvc.web.openapi.document import document
from asyncsvc.web.tasks.event_schemas import EVENTS
from asyncsvc.web.tasks.socket_operations import OPERATIONS
from tests.web.description import ROUTES, VERBS, as_described, operations, strict
from tests.web.serving import Service, expect, local_client, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSERVED = ("PUT", "PATCH", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


async def test_the_running_service_has_these_routes(service: Service, described: Any) -> None:
    assert expect(await service.http.get("/openapi.json"), 200) == described


async def test_answers_about_the_service_are_as_described(service: Service) -> None:
    for path in ("/", "/health", "/livez", "/readyz", "/models", "/tasks/stats", "/docs",
                 "/docs/try", "/openapi.json", "/asyncapi.json", "/v1/models", "/v1/models/auto",
                 "/metrics"):  # fmt: skip
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


async def test_the_page_loads_nothing_and_runs_its_own_script_alone(service: Service) -> None:
    answer = await service.http.get("/docs")
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["img-src"] == "data:"
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    shown = re.sub(r"<(script|style)>.*?</\1>", "", answer.text, flags=re.DOTALL)
    assert not re.search(r"<script|<img|\ssrc=|\son\w+=|style=|@import|url\(", shown)
    assert re.findall("<link[^>]*>", shown) == ['<link rel="icon" href="data:,">']
    led = set(re.findall(r'href="([^#"]*)', shown))
    assert led == {"", "/openapi.json", "/asyncapi.json", "/docs/try", "/", "data:,"}


async def test_the_page_shows_every_operation_and_type(service: Service, described: Any) -> None:
    text = (await service.http.get("/docs")).text
    anchors = re.findall(r'id="([^"]+)"', text)
    assert len(set(anchors)) == len(anchors)
    assert {one["operationId"] for _, _, one in operations(described)} <= set(anchors)
    assert {f"type-{name}" for name in described["components"]["schemas"]} <= set(anchors)
    assert {f"ws-{op}" for op in OPERATIONS} | {f"event-{kind}" for kind in EVENTS} <= set(anchors)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(anchors)
    for name in ("Idempotency-Key", "queue_full", "content_preview", "/tasks/batch", "4404"):
        assert name in text
    assert "list of <a href" in text
    assert "at most 500" not in text
    assert "≤ 500" in text


async def test_the_page_is_kept_and_sent_compressed(service: Service) -> None:
    for path in ("/docs", "/docs/try"):
        whole = await service.http.get(path, headers={"accept-encoding": "identity"})
        packed = await service.http.get(path, headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.text == whole.text
        tag = packed.headers["etag"]
        again = await service.http.get(
            path, headers={"accept-encoding": "gzip", "if-none-match": tag}
        )
        assert (again.status_code, again.content) == (304, b"")


async def test_the_explorer_is_served_from_here(service: Service) -> None:
    answer = await service.http.get("/docs/try")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    async with local_client(service.url) as http:  # no described path ends with a slash
        assert (await http.get("/docs/try/")).text == answer.text
    files = re.findall(r'(?:src|href)="(/docs/try/[^"]+)"', answer.text)
    assert len(files) == 4
    for path in files:
        found = await service.http.get(path)
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
    refused(await service.http.get("/docs/try/vendor/VENDOR.json"), 404, "not_found")
    refused(await service.http.get("/docs/try/..%2f..%2froutes.py"), 404, "not_found")


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
        assert "ASYNCSVC_TOKEN" in (await service.http.get("/docs")).text
        assert (await service.http.get("/docs/try/explorer.js")).status_code == 200
        refused(await service.http.post("/docs"), 401, "unauthorized")
        for path, method, one in operations(found):
            answer = await service.http.request(method, path)
            needless = one.get("security") == []
            assert (answer.status_code != 401) == needless == ("401" not in one["responses"]), path
