"""Who sees what: every route and every operation for every kind of caller, from their own rules."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from asyncsvc.access import Permission
from asyncsvc.web.http.resources import Resource, SocketResource, open_paths
from asyncsvc.web.routes import ROUTES
from asyncsvc.web.tasks.socket_operations import OPERATIONS as SOCKET_OPERATIONS
from asyncsvc.web.tasks.steering import VERBS
from tests.polling import until
from tests.web.serving import HANG, Service, ask, expect, message, refused, rest, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = {
    "alice": {"token_env": "ALICE_TOKEN"},
    "bob": {"token_sha256": hashlib.sha256(b"bob's token").hexdigest()},
    "reader": {"token_env": "READER_TOKEN", "scopes": ["read"]},
    "writer": {"token_env": "WRITER_TOKEN", "scopes": ["submit"]},
    "boss": {"token_env": "BOSS_TOKEN", "scopes": ["admin"]},
    "unset": {"token_env": "NOT_SET_ANYWHERE"},
}
TOKENS = {name: f"{name}'s token" for name in CLIENTS} | {"administrator": "the first token"}
ENVIRON = {
    "ASYNCSVC_TOKENS": f"{TOKENS['administrator']}, another token",
    **{f"{name.upper()}_TOKEN": TOKENS[name] for name in ("alice", "reader", "writer", "boss")},
}
SCOPE_OF = {
    "alice": {"read", "submit"},
    "bob": {"read", "submit"},
    "reader": {"read"},
    "writer": {"submit"},
    "boss": {"read", "submit", "admin"},
    "administrator": {"read", "submit", "admin"},
}
SEES_HERS = ("alice", "boss", "administrator")
LINE = {
    "custom_id": "1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "fast", "messages": [{"role": "user", "content": "hello"}]},
}


def bearer(name: str | None) -> dict[str, str]:
    return {} if name is None else {"authorization": f"Bearer {TOKENS.get(name, name)}"}


@dataclass
class Doors:
    """A service whose tasks, files, batches, responses and schedules are alice's."""

    service: Service
    ids: dict[str, str]

    async def ask(self, who: str | None, method: str, path: str, **how: Any) -> httpx.Response:
        headers = bearer(who) | how.pop("headers", {})
        return await self.service.http.request(method, path, headers=headers, **how)

    async def json(self, who: str, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = await self.ask(who, method, path, **how)
        assert answer.status_code < 300, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def socket(self, who: str, path: str = "/ws") -> Any:
        return self.service.ws(path, additional_headers=bearer(who))

    async def submit(self, who: str, content: str = "hello", **more: Any) -> str:
        task = {"content": content, **more}
        return str((await self.json(who, "POST", "/tasks", json=task))["task_id"])

    async def done(self, who: str, task_id: str) -> dict[str, Any]:
        await self.ask(
            who, "GET", f"/tasks/{task_id}/events", headers={"accept": "text/event-stream"}
        )
        return await self.json(who, "GET", f"/tasks/{task_id}")


async def made(doors: Doors, who: str) -> dict[str, str]:
    """One of each thing that has an id, by the name of the parameter of its path."""
    task_id = await doors.submit(who, "a word of alice", session_id="s", model="fast")
    response = await doors.json(
        who, "POST", "/v1/responses", json={"model": "fast", "input": "my secret"}
    )
    form = {"file": ("in.jsonl", json.dumps(LINE).encode())}
    file = await doors.json(who, "POST", "/v1/files", files=form, data={"purpose": "batch"})
    batch = await doors.json(
        who,
        "POST",
        "/v1/batches",
        json={
            "input_file_id": file["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
    )
    schedule = await doors.json(
        who, "POST", "/schedules", json={"cron": "0 0 1 1 *", "task": {"content": "yearly"}}
    )
    await doors.done(who, task_id)
    return {
        "task_id": task_id,
        "response_id": response["id"],
        "file_id": file["id"],
        "batch_id": batch["id"],
        "schedule_id": schedule["schedule_id"],
    }


SHARED = {"name": "fast", "model_id": "fast", "tool": "list_directory", "path": "index.html"}
"""Parameters of paths that name what no owner has."""
MISSING = {
    "task_id": "01890000-0000-7000-8000-000000000000",
    "response_id": "resp_01890000-0000-7000-8000-000000000000",
    "file_id": "file-01890000-0000-7000-8000-000000000000",
    "batch_id": "batch_01890000-0000-7000-8000-000000000000",
    "schedule_id": "01890000-0000-7000-8000-000000000000",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    folder = tmp_path_factory.mktemp("owners")
    tools = {"workspace": str(folder / "workspaces")}
    async with serving(folder, ENVIRON, concurrency=50, clients=CLIENTS, tools=tools) as service:
        found = Doors(service, {})
        found.ids = await made(found, "alice")
        yield found


def parameters(path: str) -> list[str]:
    return [part[1:-1].partition(":")[0] for part in path.split("/") if part[:1] == "{"]


RESOURCES = [route for route in ROUTES if isinstance(route, Resource)]
OPERATIONS = [
    pytest.param(route, method, id=f"{method} {route.path}")
    for route in RESOURCES
    for method in route.scopes
]


@pytest.mark.parametrize(("route", "method"), OPERATIONS)
async def test_each_method_of_each_path_asks_for_its_scope(
    doors: Doors, route: Resource, method: str
) -> None:
    names = parameters(route.path)
    of_an_owner = [name for name in names if name in MISSING]
    values = SHARED | doors.ids
    path = route.path.format(**{name: values[name] for name in names})
    missing = route.path.format(**{name: (SHARED | MISSING)[name] for name in names})
    needed = route.scopes[method]

    async def status(who: str | None) -> int:
        return (await doors.ask(who, method, path)).status_code

    if needed is Permission.OPEN:
        for who in (None, "no such token", *SCOPE_OF):
            assert await status(who) < 400, who
        return
    assert await status(None) == 401
    assert await status("no such token") in (401, 429)
    for who, scopes in SCOPE_OF.items():
        if needed not in scopes:
            answer = await doors.ask(who, method, path)
            assert answer.status_code == 403, (who, answer.text)
            assert method == "HEAD" or refused(answer, 403, "forbidden_scope")
        elif of_an_owner and "admin" not in scopes and who != "alice":
            theirs, none = await doors.ask(who, method, path), await doors.ask(who, method, missing)
            assert theirs.status_code == none.status_code == 404, (who, theirs.text)
            (name,) = of_an_owner
            assert theirs.text.replace(doors.ids[name], MISSING[name]) == none.text


@pytest.mark.parametrize(("route", "method"), OPERATIONS)
async def test_each_method_of_each_path_serves_its_owner(
    doors: Doors, route: Resource, method: str
) -> None:
    if method == "DELETE" or route.path == "/admin/backup/{name}":
        return  # what is deleted is not there for the other tests
    values = SHARED | doors.ids
    path = route.path.format(**{name: values[name] for name in parameters(route.path)})
    for who in ("boss", "alice"):
        if {route.scopes[method].value} <= SCOPE_OF[who] | {"open"}:
            answer = await doors.ask(who, method, path)
            assert answer.status_code not in (401, 403, 404), answer.text


async def test_every_route_declares_its_scope() -> None:
    found = open_paths(ROUTES)
    about = {"/openapi.json", "/asyncapi.json", "/docs", "/docs/try"}
    assert found.single == {"/", "/health", "/livez", "/readyz", *about}
    assert set(found.below) == {"/docs/try/", "/page/"}
    with pytest.raises(TypeError, match="declares no scope"):
        open_paths([httpx])  # type: ignore[list-item]

    async def bare(_: Any) -> Any: ...

    with pytest.raises(TypeError, match=r"/x: .*bare declares no scope"):
        Resource("/x", {"GET": bare})
    with pytest.raises(TypeError, match=r"/x: .*bare declares no scope"):
        SocketResource("/x", bare)


SOCKETS = [r for r in ROUTES if isinstance(r, SocketResource) and Permission.OPEN not in r.scopes]


@pytest.mark.parametrize("route", SOCKETS, ids=lambda route: route.path)
async def test_each_socket_asks_for_its_scope(doors: Doors, route: SocketResource) -> None:
    names = parameters(route.path)
    path = route.path.format(**{name: doors.ids[name] for name in names})
    missing = route.path.format(**{name: MISSING[name] for name in names})
    for who in ("no such token", *SCOPE_OF):
        allowed = SCOPE_OF.get(who, set()) & {scope.value for scope in route.scopes}
        async with doors.socket(who, path) as socket:
            if not allowed:
                assert (await rest(socket))[1] == 1008
            elif names and who not in ("alice", "boss", "administrator"):
                theirs = await rest(socket)
                async with doors.socket(who, missing) as other:
                    none = await rest(other)
                assert theirs[1] == none[1] == 4404
                text = json.dumps(theirs[0]).replace(doors.ids["task_id"], MISSING["task_id"])
                assert text == json.dumps(none[0])
            elif names:
                assert (await rest(socket))[1] == 1000
            else:
                assert (await ask(socket, op="ping"))["op"] == "ok"


@pytest.mark.parametrize("op", SOCKET_OPERATIONS)
async def test_each_operation_of_a_socket_asks_for_its_scope(doors: Doors, op: str) -> None:
    fields: dict[str, dict[str, Any]] = {
        "subscribe": {"task_id": doors.ids["task_id"]},
        "unsubscribe": {"task_id": doors.ids["task_id"]},
        "submit": {"task": {"content": "hello"}},
        "ping": {},
        "fork": {"task_id": doors.ids["task_id"], "step": 0},
        **{verb: {"task_id": doors.ids["task_id"]} for verb in VERBS},
    }
    for who, scopes in SCOPE_OF.items():
        async with doors.socket(who) as socket:
            answer = await ask(socket, op=op, **fields[op])
            code = answer.get("error", {}).get("code")
            needed = SOCKET_OPERATIONS[op].scope
            if needed is not Permission.OPEN and needed.value not in scopes:
                assert code == "forbidden_scope"
            elif op in ("subscribe", "fork", *VERBS) and who not in (
                "alice",
                "boss",
                "administrator",
            ):
                assert code == "task_not_found"
            elif op == "retry":
                assert code is None
                await doors.done("alice", doors.ids["task_id"])
            elif op in ("fork", *VERBS):
                assert code == "illegal_transition"  # it has ended
            else:
                assert code is None


async def lists(doors: Doors, who: str) -> str:
    """Everything that a caller can list."""
    found = []
    for path in (
        "/tasks?limit=500",
        "/tasks?q=alice",
        "/tasks?session_id=s",
        "/tasks?owner=alice",
        "/tasks?order=queue",
        "/tasks?order=ended&id_ends=",
        "/tasks/export",
        "/v1/files",
        "/v1/batches",
        "/schedules",
    ):
        answer = await doors.ask(who, "GET", path)
        assert answer.status_code == 200, answer.text
        found.append(answer.text)
    return "\n".join(found)


async def test_lists_and_counts_hold_only_the_callers_own(doors: Doors) -> None:
    hers = list(doors.ids.values())
    for who in ("alice", "boss", "administrator"):
        everything = await lists(doors, who)
        for found in hers:
            assert found.removeprefix("resp_") in everything
    before = (await doors.json("bob", "GET", "/tasks/stats"))["total"]
    bobs = await doors.submit("bob", "bob's own")
    nothing = await lists(doors, "bob")
    assert bobs in nothing
    for found in (*hers, "alice"):
        assert found.removeprefix("resp_") not in nothing
    assert (await doors.json("bob", "GET", "/tasks/stats"))["total"] == before + 1
    total = (await doors.json("boss", "GET", "/tasks/stats"))["total"]
    assert total > (await doors.json("alice", "GET", "/tasks/stats"))["total"] > 1
    slow = {
        who: await doors.json(who, "GET", "/stats/why-slow") for who in ("alice", "bob", "boss")
    }
    assert {row["owner"] for row in slow["bob"]["owners"]} <= {"bob"}
    assert slow["bob"]["tasks"] == before + 1
    assert slow["boss"]["tasks"] >= slow["alice"]["tasks"] + slow["bob"]["tasks"]
    page = await doors.json("alice", "GET", "/tasks?limit=1")
    further = {"cursor": page["next_cursor"], "limit": 500}
    for who, owners in (("alice", {"alice"}), ("bob", {"bob"}), ("boss", {"alice", "bob"})):
        listed = await doors.ask(who, "GET", "/tasks/export", params={})
        assert owners <= {json.loads(line)["owner"] for line in listed.text.splitlines()}
        if who != "boss":
            assert owners == {json.loads(line)["owner"] for line in listed.text.splitlines()}
        answer = await doors.ask(who, "GET", "/tasks", params=further)
        assert answer.status_code == 200


async def test_a_cursor_of_anothers_file_or_batch_is_none(doors: Doors) -> None:
    for path, name in (("/v1/files", "file_id"), ("/v1/batches", "batch_id")):
        if name == "file_id":  # the time in the id of a file that was deleted is a cursor, too
            answer = await doors.ask("bob", "GET", f"{path}?after={doors.ids[name]}")
            assert expect(answer, 200)["data"] == []
            continue
        words = []
        for found in (doors.ids[name], MISSING[name]):
            answer = await doors.ask("bob", "GET", f"{path}?after={found}")
            words.append(refused(answer, 400, "invalid_request")["message"].replace(found, "ID"))
        assert words[0] == words[1]


async def test_anothers_conversation_cannot_be_continued(doors: Doors) -> None:
    for fields in (
        {"previous_response_id": "{}"},
        {"input": [{"type": "item_reference", "id": "msg_{}_0"}]},
        {"input": [{"id": "msg_{}_in0"}]},
    ):
        answers = []
        for found in (doors.ids["response_id"], MISSING["response_id"]):
            task_id = found.removeprefix("resp_")
            text = json.dumps({"model": "fast", "input": "go on"} | fields)
            value = found if "previous_response_id" in fields else task_id
            body = json.loads(text.replace("{}", value))
            answer = await doors.ask("bob", "POST", "/v1/responses", json=body)
            assert answer.status_code == 400, answer.text
            answers.append(answer.text.replace(task_id, "ID"))
        assert answers[0] == answers[1]
    mine = await doors.json(
        "alice",
        "POST",
        "/v1/responses",
        json={
            "model": "fast",
            "input": "go on",
            "previous_response_id": doors.ids["response_id"],
        },
    )
    assert mine["status"] == "completed"


async def test_anothers_file_is_no_input_of_a_batch(doors: Doors) -> None:
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    for file_id in (doors.ids["file_id"], MISSING["file_id"]):
        wanted = body | {"input_file_id": file_id}
        refused(await doors.ask("bob", "POST", "/v1/batches", json=wanted), 404, "not_found")


async def test_a_line_of_a_batch_continues_no_other_conversation(doors: Doors) -> None:
    previous = {"previous_response_id": doors.ids["response_id"]}
    line = LINE | {
        "url": "/v1/responses",
        "body": {"model": "fast", "input": "what was it?", **previous},
    }
    form = {"file": ("in.jsonl", json.dumps(line).encode())}
    for who, status in (("bob", 400), ("alice", 200)):
        file = await doors.json(who, "POST", "/v1/files", files=form, data={"purpose": "batch"})
        batch = await doors.json(
            who,
            "POST",
            "/v1/batches",
            json={
                "input_file_id": file["id"],
                "endpoint": "/v1/responses",
                "completion_window": "24h",
            },
        )
        path = f"/v1/batches/{batch['id']}"
        batch = await until(
            partial(doors.json, who, "GET", path),
            lambda one: one["status"] in ("completed", "failed"),
        )
        output = batch["output_file_id"] or batch["error_file_id"]
        content = (await doors.ask(who, "GET", f"/v1/files/{output}/content")).text
        assert json.loads(content)["response"]["status_code"] == status
        other = "alice" if who == "bob" else "bob"
        refused(await doors.ask(other, "GET", f"/v1/files/{output}/content"), 404, "not_found")


async def test_one_key_of_two_owners_makes_two_tasks(doors: Doors) -> None:
    key = {"idempotency-key": "the same"}
    ids = set()
    for who in ("alice", "bob", "boss"):
        task = await doors.json(who, "POST", "/tasks", json={"content": who}, headers=key)
        ids.add(task["task_id"])
    assert len(ids) == 3


async def test_a_session_of_the_same_name_does_not_wait_for_anothers(doors: Doors) -> None:
    blocking = await doors.submit("alice", HANG, session_id="shared")
    behind = await doors.submit("alice", "hello", session_id="shared")
    found = await doors.done("bob", await doors.submit("bob", "hello", session_id="shared"))
    assert found["status"] == "completed"
    assert (await doors.json("alice", "GET", f"/tasks/{behind}"))["status"] == "pending"
    for task_id in (blocking, behind):
        await doors.ask("alice", "POST", f"/tasks/{task_id}/cancel")


async def test_an_answer_is_not_repeated_to_another_owner(doors: Doors) -> None:
    body = {"content": "what is it?", "model": "fast", "params": {"temperature": 0}}
    cached = []
    for who in ("alice", "alice", "bob", "bob"):
        task_id = str((await doors.json(who, "POST", "/tasks", json=body))["task_id"])
        cached.append((await doors.done(who, task_id))["metadata"]["cached"])
    assert cached == [False, True, False, True]


def _runs(least: int, health: dict[str, Any]) -> bool:
    return bool(health["running"] >= least)


async def test_equal_calls_of_two_owners_are_two_calls(tmp_path: Path) -> None:
    body = {"content": HANG, "model": "fast", "params": {"temperature": 0}}
    for across, calls in ((False, 2), (True, 1)):
        folder = tmp_path / str(across)
        folder.mkdir()
        cache = {"across_owners": across}
        async with serving(folder, ENVIRON, clients=CLIENTS, cache=cache) as service:
            doors = Doors(service, {})
            for who in ("alice", "bob", "alice"):
                await doors.json(who, "POST", "/tasks", json=body)
            await until(
                partial(doors.json, "boss", "GET", "/health"),
                partial(_runs, calls),
            )
            model = (await doors.json("boss", "GET", "/models"))["models"][0]
            assert model["in_flight"] == calls


async def events_until(socket: ClientConnection, task_id: str) -> list[dict[str, Any]]:
    """All messages up to the end of a task."""
    found = []
    while True:
        found.append(await message(socket))
        last = found[-1]
        if last.get("task_id") == task_id and last["data"].get("status") == "completed":
            return found


async def test_the_feed_of_all_holds_only_the_callers_own(doors: Doors) -> None:
    async with doors.socket("bob") as bobs, doors.socket("boss") as all_of_them:
        for socket in (bobs, all_of_them):
            assert (await ask(socket, op="subscribe", all=True))["op"] == "ok"
        hers = await doors.submit("alice", "[[sim:tokens=5]] x")
        await events_until(all_of_them, hers)
        his = await doors.submit("bob")
        found = await events_until(bobs, his)
    assert {event["task_id"] for event in found if "task_id" in event} == {his}
    async with doors.socket("bob") as bobs, doors.socket("alice") as alices:
        for socket, owner in ((bobs, "bob"), (alices, "alice")):  # from the disk
            await ask(socket, op="subscribe", all=True, after_id=0)
            last = await doors.submit(owner)
            ids = {event.get("task_id") for event in await events_until(socket, last)}
            listed = await doors.json(owner, "GET", "/tasks?limit=500")
            assert ids - {None} <= {task["task_id"] for task in listed["tasks"]}


async def test_a_clients_own_limits(tmp_path: Path) -> None:
    clients = {
        "few": {"token_env": "FEW", "max_unfinished": 2},
        "slow": {"token_env": "SLOW", "rpm": 3},
    }
    environ = {"ASYNCSVC_TOKENS": "the first token", "FEW": "few", "SLOW": "slow"}
    async with serving(tmp_path, environ, clients=clients) as service:
        doors = Doors(service, {})
        ids = [await doors.submit("few", HANG) for _ in range(2)]
        answer = await doors.ask("few", "POST", "/tasks", json={"content": "x"})
        assert "max_unfinished" in refused(answer, 429, "queue_full")["message"]
        assert int(answer.headers["retry-after"]) >= 1
        two = {"tasks": [{"content": "x"}] * 2}
        await doors.ask("few", "POST", f"/tasks/{ids[0]}/cancel")
        refused(await doors.ask("few", "POST", "/tasks/batch", json=two), 429, "queue_full")
        await doors.submit("few", HANG)
        refused(await doors.ask("few", "POST", f"/tasks/{ids[0]}/retry"), 429, "queue_full")
        await doors.submit("administrator")

        refused(
            await doors.ask("slow", "POST", "/tasks/batch", json={"tasks": two["tasks"] * 2}),
            429,
            "rate_limited",
        )
        await doors.json("slow", "POST", "/tasks/batch", json=two)
        key = {"idempotency-key": "again"}
        for _ in range(2):  # the same task again is no new one
            await doors.json("slow", "POST", "/tasks", json={"content": "x"}, headers=key)
        answer = await doors.ask("slow", "POST", "/tasks", json={"content": "x"})
        assert "rpm" in refused(answer, 429, "rate_limited")["message"]
        assert 50 <= int(answer.headers["retry-after"]) <= 60
        chat = {"model": "fast", "messages": [{"role": "user", "content": "x"}]}
        answer = await doors.ask("slow", "POST", "/v1/chat/completions", json=chat)
        assert answer.status_code == 429
        await doors.submit("administrator")


async def test_a_reload_takes_clients_in_and_shuts_them_out(tmp_path: Path) -> None:
    clients = {"alice": {"token_env": "ALICE_TOKEN"}, "reader": {"token_env": "READER_TOKEN"}}
    later = {
        "reader": {"token_env": "READER_TOKEN", "scopes": ["read"]},
        "bob": CLIENTS["bob"],
    }
    reread = {"clients": later}
    async with serving(tmp_path, ENVIRON, reread=reread, clients=clients) as service:
        doors = Doors(service, {})
        task_id = await doors.submit("alice")
        async with doors.socket("alice") as alices, doors.socket("administrator") as others:
            changed = await doors.json("administrator", "POST", "/admin/reload")
            assert (changed["added"], changed["removed"]) == (["client bob"], ["client alice"])
            assert changed["changed"]["clients.reader.scopes"]["to"] == ["read"]
            assert (await rest(alices))[1] == 1008
            assert (await ask(others, op="ping"))["op"] == "ok"
        assert (await doors.ask("alice", "GET", "/tasks")).status_code == 401
        refused(await doors.ask("bob", "GET", f"/tasks/{task_id}"), 404, "task_not_found")
        answer = await doors.ask("reader", "POST", "/tasks", json={"content": "x"})
        refused(answer, 403, "forbidden_scope")


async def _followed_to_its_end(answer: httpx.Response) -> bool:
    """Whether a stream comes to its end, and is not cut."""
    try:
        async for _ in answer.aiter_bytes():
            pass
    except httpx.RemoteProtocolError:
        return False
    return True


async def test_a_reload_ends_what_a_client_without_a_token_follows_over_plain_http(
    tmp_path: Path,
) -> None:
    clients = {name: CLIENTS[name] for name in ("alice", "boss")}
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            serving(
                tmp_path, ENVIRON, reread={"clients": {"boss": CLIENTS["boss"]}}, clients=clients
            )
        )
        doors = Doors(service, {})
        task_id = await doors.submit("alice", HANG)
        asked = {"model": "fast", "input": HANG, "background": True}
        background = (await doors.json("alice", "POST", "/v1/responses", json=asked))["id"]
        chat = {"model": "fast", "messages": [{"role": "user", "content": HANG}]}

        async def followed(who: str, method: str, path: str, **how: Any) -> httpx.Response:
            headers = bearer(who) | {"accept": "text/event-stream"}
            opened = service.http.stream(method, path, headers=headers, **how)
            answer: httpx.Response = await stack.enter_async_context(opened)
            return answer

        events = f"/tasks/{task_id}/events"
        cut = [
            await followed("alice", "GET", events),
            await followed("alice", "GET", f"/v1/responses/{background}?stream=true"),
            await followed("alice", "POST", "/v1/chat/completions", json=chat | {"stream": True}),
        ]
        others = await followed("administrator", "GET", events)
        async with asyncio.TaskGroup() as group:
            held = group.create_task(doors.ask("alice", "POST", "/v1/chat/completions", json=chat))
            await until(
                partial(doors.json, "boss", "GET", "/tasks"), lambda found: len(found["tasks"]) == 4
            )
            await doors.json("administrator", "POST", "/admin/reload")
        assert [await _followed_to_its_end(one) for one in cut] == [False] * 3
        refused(held.result(), 401, "unauthorized")
        assert len(service.parts.journal.live) == 4, "the tasks go on"
        await doors.json("administrator", "POST", f"/tasks/{task_id}/cancel")
        assert await _followed_to_its_end(others)


async def test_a_reload_with_one_token_for_two_changes_nothing(tmp_path: Path) -> None:
    same = {name: {"token_env": "ALICE_TOKEN"} for name in ("alice", "bob")}
    reread = {"clients": same}
    async with serving(tmp_path, ENVIRON, reread=reread, clients=CLIENTS) as service:
        doors = Doors(service, {})
        answer = await doors.ask("administrator", "POST", "/admin/reload")
        message = refused(answer, 422, "invalid_request")["message"]
        assert message == "clients.bob: its token is another's already; give each its own"
        await doors.submit("bob")


async def test_files_from_before_clients_are_an_administrators_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        doors = Doors(service, {})
        ids = await made(doors, "anybody")
    async with serving(tmp_path, ENVIRON, clients=CLIENTS) as service:
        doors = Doors(service, ids)
        for path in (f"/tasks/{ids['task_id']}", f"/v1/files/{ids['file_id']}"):
            assert (await doors.ask("alice", "GET", path)).status_code == 404
            assert (await doors.ask("boss", "GET", path)).status_code == 200


async def test_without_tokens_everything_is_everybodys(service: Service) -> None:
    doors = Doors(service, {})
    answer = await service.http.post("/tasks", json={"content": "x"}, headers={"x-user": "alice"})
    task_id = answer.json()["task_id"]
    answer = await service.http.get(f"/tasks/{task_id}", headers={"x-user": "bob"})
    assert expect(answer, 200)["owner"] == "alice"
    assert (await doors.ask(None, "GET", "/metrics")).status_code == 200
