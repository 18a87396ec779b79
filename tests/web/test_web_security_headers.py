"""Security headers: on all answers, whatever makes them, and more on pages."""

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from asyncsvc.web.http.security_headers import POLICY, with_security_headers
from tests.web.serving import Service
from tests.web.wire import head, post, wire

module_loop = pytest.mark.asyncio(loop_scope="module")

ASKED = {
    "a page": head("GET", "/docs"),
    "the document": head("GET", "/openapi.json"),
    "the document of the sockets": head("GET", "/asyncapi.json"),
    "a supervisor": head("GET", "/livez"),
    "figures": head("GET", "/metrics"),
    "nothing": head("GET", "/nothing", "accept: text/html"),
    "a wrong method": head("DELETE", "/docs"),
    "a wrong body": post("/tasks", b"{"),
    "another host": head("GET", "/tasks", "host: evil.example"),
    "no HTTP": b"hello\r\n\r\n",
    "too many header fields": head("GET", "/", *["x: y"] * 200),
}


@module_loop
@pytest.mark.parametrize("sent", ASKED.values(), ids=ASKED)
async def test_no_answer_lets_its_type_be_guessed(service: Service, sent: bytes) -> None:
    async with wire(service.port) as line:
        answer = await line.ask(sent)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in answer.headers
    if "text/html" in answer.headers.get("content-type", ""):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def headers_of(answer: Response, scheme: str = "http") -> list[tuple[bytes, bytes]]:
    """The headers with which an answer is sent."""
    sent: list[tuple[bytes, bytes]] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.extend(message.get("headers", ()))

    scope = {"type": "http", "scheme": scheme, "method": "GET", "path": "/", "headers": []}
    await with_security_headers(answer)(scope, Request(scope).receive, send)
    return sent


async def test_any_page_has_a_policy_though_its_route_has_forgotten_it() -> None:
    found = dict(await headers_of(HTMLResponse("<p>", status_code=500)))
    assert found[b"content-security-policy"] == POLICY.encode()
    assert found[b"x-frame-options"] == b"DENY"
    assert found[b"x-content-type-options"] == b"nosniff"


async def test_a_policy_of_its_own_stays_and_none_is_sent_twice() -> None:
    own = {"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff"}
    found = await headers_of(HTMLResponse("<p>", headers=own), "https")
    names = [name.lower() for name, _ in found]
    assert len(set(names)) == len(names)
    assert dict(found)[b"content-security-policy"] == b"default-src 'self'"
    assert b"strict-transport-security" in names
