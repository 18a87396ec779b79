"""Reverse proxies: whom a request comes from, and how, as far as a trusted proxy says so."""

from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.settings import Server
from asyncsvc.web.http.proxies import TrustedProxies
from tests.web.serving import serving
from tests.web.wire import head, post, wire

TASK = b'{"content": "x", "model": "fast"}'
PEER = "10.0.0.1"
FORWARDED: dict[str, tuple[list[str], str]] = {
    "nothing": ([], PEER),
    "one": (["1.2.3.4"], "1.2.3.4"),
    "the right-most that is not trusted": (["9.9.9.9, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
    "several lines": (["9.9.9.9", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
    "only proxies": (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "with a port": (["1.2.3.4:5678"], "1.2.3.4"),
    "IPv6": (["2001:db8::1"], "2001:db8::1"),
    "IPv6 with a port": (['"[2001:db8::1]:443"'], "2001:db8::1"),
    "IPv4 in IPv6": (["::ffff:1.2.3.4"], "1.2.3.4"),
    "noise": (["unknown"], PEER),
    "noise behind a proxy": (["1.2.3.4, \x00\xff, 10.0.0.2"], "10.0.0.2"),
    "commas": ([",,, ,"], PEER),
    "empty": ([""], PEER),
    "a number that is too large": (["1.2.3.4444"], PEER),
    "very many": (["10.0.0.2," * 5000], "10.0.0.2"),
}


@pytest.mark.parametrize(("lines", "client"), FORWARDED.values(), ids=FORWARDED)
def test_the_client_is_read_from_the_right(lines: list[str], client: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/24", "::1"])
    expected = PEER if lines and not lines[0].strip(", ") else client
    assert proxies.client(PEER, lines) == (client if lines != ["10.0.0.2," * 5000] else PEER)
    assert expected
    assert proxies.client("8.8.8.8", lines) == "8.8.8.8"
    assert proxies.client("::ffff:10.0.0.1", ["1.2.3.4"]) == "1.2.3.4"
    assert proxies.client("a socket", lines) == "a socket"


async def scope_of(networks: list[str], kind: str, *headers: tuple[str, str]) -> Any:
    """The scope as the application sees it; the request comes from 10.0.0.1."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    lines = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scheme = "http" if kind == "http" else "ws"
    scope = {"type": kind, "client": (PEER, 1), "scheme": scheme, "headers": lines}
    await TrustedProxies(networks).behind(app)(scope, None, None)  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize(
    ("named", "http", "websocket"),
    [
        ("https", "https", "wss"),
        ("HTTPS", "https", "wss"),
        ("http, https", "https", "wss"),
        ("https, http", "http", "ws"),
        ("gopher", "http", "ws"),
        ("", "http", "ws"),
        ("\xff", "http", "ws"),
    ],
)
async def test_the_scheme_is_the_one_of_the_nearest_proxy(
    named: str, http: str, websocket: str
) -> None:
    for kind, scheme in (("http", http), ("websocket", websocket)):
        scope = await scope_of([PEER], kind, ("x-forwarded-proto", named))
        assert scope["scheme"] == scheme
        assert scope["client"] == (PEER, 1)


async def test_others_are_not_believed() -> None:
    for networks in ([], ["10.0.1.0/24"]):
        headers = (("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"))
        scope = await scope_of(networks, "http", *headers)
        assert (scope["client"], scope["scheme"]) == ((PEER, 1), "http")


@pytest.mark.parametrize("trusted", [True, False])
async def test_wrong_tokens_count_for_the_client_behind_the_proxy(
    tmp_path: Path, trusted: bool
) -> None:
    server = {"wrong_tokens": 2, "trusted_proxies": ["127.0.0.0/8"] if trusted else []}
    async with (
        serving(tmp_path, {"ASYNCSVC_TOKENS": "right"}, server=server) as service,
        wire(service.port) as line,
    ):
        wrong = "authorization: Bearer wrong"
        first, second = "x-forwarded-for: 1.2.3.4", "x-forwarded-for: 5.6.7.8"
        tries = [head("GET", "/tasks", wrong, first)] * 3 + [head("GET", "/tasks", wrong, second)]
        statuses = [(await line.ask(each)).status for each in tries]
        assert statuses == [401, 401, 429, 401 if trusted else 429]


async def test_the_own_origin_has_the_scheme_that_the_proxy_names(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, server={"trusted_proxies": ["127.0.0.1"]}) as service,
        wire(service.port) as line,
    ):
        proto, host = "x-forwarded-proto: https", "host: localhost:9"
        for origin, status in (("https", 202), ("http", 403)):
            sent = post("/tasks", TASK, host, proto, f"origin: {origin}://localhost:9")
            answer = await line.ask(sent)
            assert answer.status == status
            assert "strict-transport-security" in answer.headers
        for noise in ("x-forwarded-proto: \xff,,", "x-forwarded-for: \xff:::[", proto):
            assert (await line.ask(post("/tasks", TASK, noise, noise))).status == 202


def test_a_proxy_that_is_no_network_stops_the_start() -> None:
    for wrong in ("example.org", "10.0.0.1/8", "", "10.0.0.0/33"):
        with pytest.raises(ValueError, match="networks"):
            Server.model_validate({"trusted_proxies": [wrong]})
    assert Server.model_validate({"trusted_proxies": ["10.0.0.0/8", "::1"]}).trusted_proxies
