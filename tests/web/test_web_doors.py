"""Who may come in: tokens, hosts, origins, the number of connections."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from asyncsvc.access import Clients
from asyncsvc.config.settings import Server, Settings
from asyncsvc.web.http.auth import Authenticator
from tests.web.serving import Service, ask, expect, refused, rest, serving
from tests.web.wire import head, post, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"authorization": "Bearer secret-2"}
ENVIRON = {"ASYNCSVC_TOKENS": "secret-1, secret-2"}
OTHER = "http://evil.example"
BODY = b'{"content": "x"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service that asks for one of two tokens."""
    async with serving(tmp_path_factory.mktemp("guarded"), ENVIRON) as service:
        yield service


async def closed(service: Service, path: str = "/ws", **how: Any) -> int | None:
    """The code with which a new socket is closed at once."""
    async with service.ws(path, **how) as socket:
        messages, code = await rest(socket)
    assert messages == []
    return code


async def test_a_token_is_asked_for_everything_that_tells_of_tasks(guarded: Service) -> None:
    for method, path in (("GET", "/tasks"), ("POST", "/tasks"), ("GET", "/tasks/stats"),
                         ("GET", "/models"), ("DELETE", "/tasks/x"), ("GET", "/nothing"),
                         ("POST", "/health"), ("GET", "/tasks/x/events")):  # fmt: skip
        answer = await guarded.http.request(method, path)
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/health", "/livez", "/readyz"):
        assert (await guarded.http.get(path)).status_code == 200


async def knock(service: Service, authorization: str) -> int:
    """The status for a header as it is, odd spaces included."""
    async with wire(service.port) as line:
        request = head("GET", "/tasks", f"authorization: {authorization}")
        return (await line.ask(request)).status


async def test_only_a_right_token_opens(guarded: Service) -> None:
    for given in ("Bearer wrong", "Bearer ", "Bearer", "secret-1", "Basic secret-1", "Bearer é",
                  "Bearer secret-1,secret-2", "Bearer secret-1 x", "", "Bearer bearer.secret-1",
                  "Bearer SECRET-1"):  # fmt: skip
        assert await knock(guarded, given) == 401, given
    for given in ("Bearer secret-1", "bearer secret-2", "Bearer   secret-1  "):
        assert await knock(guarded, given) == 200, given


async def test_a_token_in_the_url_opens_nothing(guarded: Service) -> None:
    for name in ("token", "access_token", "authorization", "bearer"):
        answer = await guarded.http.get(f"/tasks?{name}=secret-1")
        refused(answer, 401, "unauthorized")
        assert await closed(guarded, f"/ws?{name}=secret-1") == 1008


async def test_the_owner_of_a_task_is_its_token_and_never_a_claim(guarded: Service) -> None:
    headers = GOOD | {"x-user": "root"}
    await guarded.http.post("/tasks", json={"content": "x"}, headers=headers)
    query = {"owner": "root"}
    assert (await guarded.http.get("/tasks", params=query, headers=GOOD)).json()["tasks"] == []


async def test_a_socket_without_a_right_token_is_closed_with_1008(guarded: Service) -> None:
    wrong = Subprotocol("bearer.wrong")
    for how in (
        {},
        {"additional_headers": {"authorization": "Bearer wrong"}},
        {"subprotocols": [Subprotocol("asyncsvc")]},
        {"subprotocols": [Subprotocol("asyncsvc"), wrong]},
    ):
        for path in ("/ws", "/ws/tasks/x"):
            assert await closed(guarded, path, **how) == 1008


async def test_a_right_token_opens_a_socket_by_header_and_by_subprotocol(guarded: Service) -> None:
    pair = [Subprotocol("asyncsvc"), Subprotocol("bearer.secret-1")]
    for how, agreed in (
        ({"additional_headers": GOOD}, None),
        ({"additional_headers": GOOD, "subprotocols": pair[:1]}, "asyncsvc"),
        ({"subprotocols": pair}, "asyncsvc"),
    ):
        async with guarded.ws(**how) as socket:
            assert socket.subprotocol == agreed
            assert (await ask(socket, op="ping"))["op"] == "ok"


async def test_a_subprotocol_opens_no_http(guarded: Service) -> None:
    headers = {"sec-websocket-protocol": "asyncsvc, bearer.secret-1"}
    refused(await guarded.http.get("/tasks", headers=headers), 401, "unauthorized")


async def test_a_page_of_another_site_changes_nothing(fresh: Service) -> None:
    headers = {"origin": OTHER}
    for method, path in (("POST", "/tasks"), ("DELETE", "/tasks/x"), ("POST", "/tasks/x/cancel")):
        answer = await fresh.http.request(method, path, headers=headers, content=BODY)
        refused(answer, 403, "forbidden_origin")
    answer = await fresh.http.get("/tasks", headers=headers)
    assert answer.json()["tasks"] == []
    assert "access-control-allow-origin" not in answer.headers


async def test_strange_origins_are_other_sites(service: Service) -> None:
    port = service.port
    for origin in ("null", "", f"http://127.0.0.1:{port}.evil.example", "http://127.0.0.1",
                   f"http://127.0.0.1:{port + 1}", f"http://user@127.0.0.1:{port}",
                   f"ftp://127.0.0.1:{port}", "http://[", f"http://127.0.0.1:{port}/"):  # fmt: skip
        answer = await service.http.post("/tasks", content=BODY, headers={"origin": origin})
        refused(answer, 403, "forbidden_origin")
        assert await closed(service, additional_headers={"origin": origin}) == 1008


async def test_our_own_pages_may_do_all(service: Service) -> None:
    for origin in (service.url, service.url.upper()):
        headers = {"origin": origin}
        assert (await service.http.post("/tasks", content=BODY, headers=headers)).status_code == 202
        async with service.ws(additional_headers=headers) as socket:
            assert (await ask(socket, op="ping"))["op"] == "ok"


async def test_allowed_origins_may_read_and_write_across_sites(tmp_path: Path) -> None:
    allowed = "https://app.example"
    async with serving(tmp_path, ENVIRON, server={"allowed_origins": [allowed]}) as service:
        asked = {"origin": allowed, "access-control-request-method": "POST",
                 "access-control-request-headers": "authorization"}  # fmt: skip
        answer = await service.http.options("/tasks", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == allowed
        headers = GOOD | {"origin": allowed}
        answer = await service.http.post("/tasks", content=BODY, headers=headers)
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == allowed
        shown = answer.headers["access-control-expose-headers"].split(", ")
        assert shown == ["Location", "Retry-After", "X-Task-Id"]
        async with service.ws(additional_headers=headers) as socket:
            assert (await ask(socket, op="ping"))["op"] == "ok"
        headers = GOOD | {"origin": OTHER}
        answer = await service.http.post("/tasks", content=BODY, headers=headers)
        refused(answer, 403, "forbidden_origin")
        assert await closed(service, additional_headers=headers) == 1008


async def test_a_name_that_is_not_ours_is_refused(service: Service) -> None:
    for host in ("evil.example", f"evil.example:{service.port}", "", "10.0.0.1",
                 "127.0.0.1.x", "localhost.evil.example"):  # fmt: skip
        for request in (head("GET", "/tasks", f"host: {host}"),
                        post("/tasks", BODY, f"host: {host}")):  # fmt: skip
            async with wire(service.port) as line:
                answer = await line.ask(request)
                assert (answer.status, answer.code()) == (403, "forbidden_host"), host


async def test_names_of_this_machine_are_ours(service: Service) -> None:
    for host in ("127.0.0.1", "localhost", f"LOCALHOST:{service.port}", "[::1]:80", "127.0.0.2"):
        async with wire(service.port) as line:
            assert (await line.ask(head("GET", "/tasks", f"host: {host}"))).status == 200, host


async def test_a_server_for_other_machines_takes_any_name() -> None:
    clients = Clients(Settings(), {"ASYNCSVC_TOKENS": "t"})
    assert Authenticator(Server(host="0.0.0.0"), clients).hosts is None
    own = Authenticator(Server(allowed_origins=["https://App.example/"]), clients).hosts
    assert own is not None
    assert sorted(own) == ["127.0.0.1", "app.example"]


async def test_beyond_the_most_connections_all_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_connections": 2}) as service:
        async with service.ws() as first, service.ws() as second:
            for socket in (first, second):
                await ask(socket, op="ping")
            answer = await service.http.get("/tasks")
            refused(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert await closed(service) == 1013
        async with asyncio.timeout(20):
            while (await service.http.get("/tasks")).status_code != 200:
                pass


async def test_sockets_are_on_their_paths_only(service: Service) -> None:
    with pytest.raises(InvalidStatus):
        async with service.ws("/tasks"):
            pass
    refused(await service.http.get("/ws"), 404, "not_found")
    assert expect(await service.http.get("/health"), 200)["status"] == "ok"


async def test_a_socket_under_a_name_that_is_not_ours_is_closed(service: Service) -> None:
    for host in ("evil.example", "localhost.evil.example", "10.0.0.1"):
        for path in ("/ws", "/ws/tasks/x"):
            address = f"ws://{host}:{service.port}{path}"
            async with connect(address, proxy=None, host="127.0.0.1") as socket:
                messages, code = await rest(socket)
            assert (messages, code, socket.close_reason) == ([], 1008, "forbidden_host"), host
    async with connect(f"ws://localhost:{service.port}/ws", proxy=None, host="127.0.0.1") as socket:
        assert (await ask(socket, op="ping"))["op"] == "ok"


def beginning_alike(known: str, length: int) -> str:
    """Another token whose digest has the same first bytes, as many as `length`."""
    wanted = hashlib.sha256(known.encode()).digest()[:length]
    tokens = (f"token-{number}" for number in itertools.count())
    return next(t for t in tokens if hashlib.sha256(t.encode()).digest()[:length] == wanted)


async def test_a_token_is_compared_whole(guarded: Service) -> None:
    for given in ("s", "secret", "secret-", "ecret-1", "secret-11", "secret-1secret-1", "1"):
        assert await knock(guarded, f"Bearer {given}") == 401, given
    for length in (1, 2):
        assert await knock(guarded, f"Bearer {beginning_alike('secret-1', length)}") == 401, length
    assert await knock(guarded, "Bearer secret-1") == 200
