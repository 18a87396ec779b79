"""Subscriptions of WebSockets: many in one message, and how many there may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from asyncsvc.web.tasks import views
from tests.polling import until
from tests.web.serving import HANG, Service, ask, message, rest, serving

SOCKET, ALL = 3, 5
LATER = {"run_at": "2099-01-01T00:00:00Z"}


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Service]:
    limits = {"max_subscriptions_per_socket": SOCKET, "max_subscriptions": ALL}
    async with serving(tmp_path, server=limits) as service:
        yield service


async def waiting(service: Service, count: int) -> list[str]:
    return [await service.submit("later", **LATER) for _ in range(count)]


async def follow(socket: ClientConnection, *ids: str) -> dict[str, Any]:
    return await ask(socket, op="subscribe", tasks=dict.fromkeys(ids, 0))


def overloaded(answer: dict[str, Any]) -> bool:
    return (answer["op"], answer.get("error", {}).get("code")) == ("error", "overloaded")


async def events_of(socket: ClientConnection, ids: set[str]) -> set[str]:
    """The tasks that the next numbered events are about, until there is one of each of `ids`."""
    seen: set[str] = set()
    while not ids <= seen:
        event = await message(socket)
        if event.get("seq"):
            seen.add(event["task_id"])
    return seen


async def test_one_message_subscribes_to_many(narrow: Service) -> None:
    first, second = await waiting(narrow, 2)
    async with narrow.ws() as socket:
        answer = await ask(
            socket, op="subscribe", ref=7, tasks={first: 0, "nothing": 0, second: 99}
        )
        assert (answer["op"], answer["ref"]) == ("ok", 7)
        assert answer["tasks"] == {first: {"status": "scheduled", "seq": 1}}
        codes = {task_id: error["code"] for task_id, error in answer["errors"].items()}
        assert codes == {"nothing": "task_not_found", second: "invalid_request"}
        assert await events_of(socket, {first}) == {first}
        answer = await ask(socket, op="unsubscribe", task_ids=[first, "nothing"])
        assert answer["op"] == "ok"
        await narrow.steer(first, "cancel")
        assert (await ask(socket, op="ping"))["pong"]


async def test_each_task_is_followed_from_its_own_cursor(narrow: Service) -> None:
    ids = [await narrow.submit("hello", model="fast") for _ in range(2)]
    last = [(await narrow.done(task_id))["seq"] for task_id in ids]
    async with narrow.ws() as socket:
        await ask(socket, op="subscribe", tasks={ids[0]: last[0] - 1, ids[1]: last[1] - 2})
        got = [await message(socket) for _ in range(3)]
    seqs = sorted((event["task_id"] == ids[1], event["seq"]) for event in got)
    assert seqs == [(False, last[0]), (True, last[1] - 1), (True, last[1])]


async def test_a_socket_follows_no_more_than_it_may_and_stays_open(narrow: Service) -> None:
    ids = await waiting(narrow, SOCKET + 1)
    async with narrow.ws() as socket:
        for _ in range(7):  # it is no mistake of the kind that closes a socket
            assert overloaded(await follow(socket, *ids))
        for task_id in ids[:SOCKET]:
            assert (await ask(socket, op="subscribe", task_id=task_id))["op"] == "ok"
        assert overloaded(await ask(socket, op="subscribe", task_id=ids[-1]))
        assert (await ask(socket, op="subscribe", task_id=ids[0]))["op"] == "ok", "it is no new one"
        assert (await ask(socket, op="subscribe", all=True))["op"] == "ok"
        await ask(socket, op="unsubscribe", task_id=ids[0])
        assert (await follow(socket, ids[-1]))["op"] == "ok"


async def test_a_task_whose_subscription_has_no_room_is_not_stored(narrow: Service) -> None:
    async with narrow.ws() as socket:
        await follow(socket, *await waiting(narrow, SOCKET))
        task = {"content": "x"} | LATER
        assert overloaded(await ask(socket, op="submit", task=task, subscribe=True))
        assert (await ask(socket, op="submit", task=task))["op"] == "ok"
    assert (await narrow.http.get("/tasks/stats")).json()["total"] == SOCKET + 1


async def test_all_sockets_together_follow_no_more_than_they_may(narrow: Service) -> None:
    ids = await waiting(narrow, SOCKET)
    async with narrow.ws() as one, narrow.ws() as other:
        assert (await follow(one, *ids))["op"] == "ok"
        assert overloaded(await follow(other, *ids))
        assert (await follow(other, *ids[: ALL - SOCKET]))["op"] == "ok"
        await one.close()

        async def again() -> dict[str, Any]:
            return await follow(other, *ids)

        await until(again, lambda answer: answer["op"] == "ok")


async def test_subscriptions_end_with_their_task_and_their_socket(narrow: Service) -> None:
    for _ in range(ALL + 1):
        task_id = await narrow.submit("hello", model="fast")
        async with narrow.ws(f"/ws/tasks/{task_id}") as socket:
            _, code = await rest(socket)
            assert code == 1000
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(narrow.ws()) for _ in range(2)]
        ids = await waiting(narrow, SOCKET)
        assert (await follow(sockets[0], *ids))["op"] == "ok"
        assert (await follow(sockets[1], *ids[: ALL - SOCKET]))["op"] == "ok"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"op": "subscribe", "tasks": []}, "tasks"),
        ({"op": "subscribe", "tasks": {}}, "tasks"),
        ({"op": "subscribe", "tasks": {"t": 0}, "task_id": "t"}, "tasks"),
        ({"op": "subscribe", "tasks": {"t": 0}, "after": 1}, "tasks"),
        ({"op": "subscribe", "tasks": {"t": 0}, "all": True}, "tasks"),
        ({"op": "subscribe", "tasks": {"t": -1}}, "tasks.t"),
        ({"op": "subscribe", "tasks": {"t": None}}, "tasks.t"),
        ({"op": "subscribe", "tasks": {"t": 0}, "task_ids": ["t"]}, "task_ids"),
        ({"op": "unsubscribe", "task_ids": "t"}, "task_ids"),
        ({"op": "unsubscribe", "task_ids": [1]}, "task_ids"),
        ({"op": "unsubscribe", "task_ids": ["t"], "task_id": "t"}, "task_ids"),
        ({"op": "unsubscribe", "tasks": {"t": 0}}, "tasks"),
    ],
)
async def test_a_wrong_list_of_tasks_is_refused_by_name(
    narrow: Service, fields: dict[str, Any], param: str
) -> None:
    async with narrow.ws() as socket:
        answer = await ask(socket, **fields)
    assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_request", param)


async def test_the_progress_of_many_tasks_leaves_turns_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {"max_subscriptions_per_socket": 1000}
    async with serving(tmp_path, server=many, concurrency=1) as service:
        await service.running(HANG)
        batch = {"tasks": [{"content": "x", "model": "fast"}] * 1000}
        made = (await service.http.post("/tasks/batch", json=batch)).json()["tasks"]
        turns, most, seen = 0, 0, set()
        # Counts progress events between two turns of the loop.
        before = views.progress_event

        def counted(services: Any, task: Any) -> str:
            nonlocal turns, most
            turns += 1
            most = max(most, turns)
            seen.add(task.id)
            return before(services, task)

        async def turning() -> None:
            nonlocal turns
            while True:
                turns = 0
                await asyncio.sleep(0)

        async with service.ws() as socket:
            ids = [task["task_id"] for task in made]
            assert (await follow(socket, *ids))["op"] == "ok"
            monkeypatch.setattr(views, "progress_event", counted)
            other = asyncio.create_task(turning())
            while len(seen) < len(ids):
                await message(socket)
            other.cancel()
        assert 0 < most <= 50
