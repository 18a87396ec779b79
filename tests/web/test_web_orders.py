"""Lists in the order of the queue and of the ends, ids by their end, and whose progress is sent."""

import asyncio
from typing import Any

import pytest

from asyncsvc.web.http.state import LONG_READS_AT_ONCE
from asyncsvc.web.tasks.websocket import WAITING
from tests.web.serving import HANG, Service, ask, expect, message, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
MANY = WAITING + 20


async def listed(service: Service, **query: Any) -> list[str]:
    answer = expect(await service.http.get("/tasks", params=query), 200)
    return [task["task_id"] for task in answer["tasks"]]


async def many(service: Service, **fields: Any) -> list[str]:
    tasks = [{"content": f"task {number}", **fields} for number in range(MANY)]
    answer = expect(await service.http.post("/tasks/batch", json={"tasks": tasks}), 202)
    return [task["task_id"] for task in answer["tasks"]]


async def full(service: Service) -> list[str]:
    """Tasks in all five slots of the model, so that any other one waits."""
    return [await service.running(HANG, model="fast") for _ in range(5)]


@pytest.mark.parametrize("state", ["scheduled", "paused"])
async def test_the_feed_sends_the_progress_of_the_next_ones_behind_hundreds_of(
    fresh: Service, state: str
) -> None:
    ids = await many(fresh, delay_s=3600)
    if state == "paused":
        await asyncio.gather(*(fresh.parts.control.pause(task_id) for task_id in ids))
    await full(fresh)
    next_ones = [await fresh.submit("next", model="fast") for _ in range(3)]
    async with fresh.ws() as socket:
        await ask(socket, op="subscribe", all=True)
        places: dict[str, int] = {}
        while len(places) < 3:
            event = await message(socket)
            if event["task_id"] in next_ones:
                places[event["task_id"]] = event["data"]["position"]
    assert [places[task_id] for task_id in next_ones] == [1, 2, 3]


async def test_the_feed_sends_the_progress_of_the_next_ones_and_not_of_the_oldest(
    fresh: Service,
) -> None:
    await full(fresh)
    await many(fresh, model="fast", priority=1)
    urgent = await fresh.submit("urgent", model="fast", lane="priority")
    async with fresh.ws() as socket:
        await ask(socket, op="subscribe", all=True)
        while (event := await message(socket))["task_id"] != urgent:
            pass
    assert event["data"]["position"] == 1


async def test_the_order_of_the_queue_is_running_then_next_then_scheduled_then_paused(
    fresh: Service,
) -> None:
    paused = await fresh.submit("held", delay_s=3600)
    await fresh.steer(paused, "pause")
    later = await fresh.submit(delay_s=7200, session_id="s")
    sooner = await fresh.submit(delay_s=3600)
    running = await full(fresh)
    waits = await fresh.submit(model="fast")
    urgent = await fresh.submit("be Quick", model="fast", lane="priority", session_id="s")
    wanted = [*running, urgent, waits, sooner, later, paused]
    assert await listed(fresh, order="queue") == wanted
    assert await listed(fresh, order="queue", limit=6) == wanted[:6]
    for filters, found in (
        ({"status": "scheduled", "limit": 1}, [sooner]),
        ({"session_id": "s"}, [urgent, later]),
        ({"q": "bE qUICK"}, [urgent]),
        ({"lane": "priority"}, [urgent]),
        ({"model": "fast", "status": "pending"}, [urgent, waits]),
        ({"id_ends": later[-9:]}, [later]),
        ({"type": "agent"}, []),
        ({"owner": "nobody"}, []),
        ({"waiting_for": "approval"}, []),
    ):
        assert await listed(fresh, order="queue", **filters) == found, filters


async def test_users_wait_in_turn_in_the_order_of_the_queue(fresh: Service) -> None:
    await full(fresh)
    first = [await fresh.submit(model="fast") for _ in range(3)]
    answer = await fresh.http.post(
        "/tasks", json={"content": "x", "model": "fast"}, headers={"X-User": "bob"}
    )
    other = expect(answer, 202)["task_id"]
    assert await listed(fresh, order="queue", status="pending") == [first[0], other, *first[1:]]


async def test_the_order_of_ends_has_the_latest_first_whatever_its_age(fresh: Service) -> None:
    old = await fresh.submit(delay_s=3600)
    young = [await fresh.submit(delay_s=3600) for _ in range(3)]
    for task_id in (young[1], old):
        await fresh.steer(task_id, "cancel")
    assert await listed(fresh, order="ended") == [old, young[1]]
    assert await listed(fresh, order="ended", limit=1) == [old]
    assert await listed(fresh, order="ended", id_ends=young[1][-10:]) == [young[1]]
    assert await listed(fresh, order="ended", status="failed") == []


async def test_an_order_has_its_own_name_and_no_cursor(fresh: Service) -> None:
    await fresh.submit(delay_s=3600)
    await fresh.submit(delay_s=3600)
    answer = await fresh.http.get("/tasks", params={"order": "oldest"})
    assert refused(answer, 422, "invalid_request")["param"] == "order"
    page = expect(await fresh.http.get("/tasks", params={"limit": 1}), 200)
    for order in ("queue", "ended"):
        query = {"order": order, "cursor": page["next_cursor"]}
        answer = await fresh.http.get("/tasks", params=query)
        assert refused(answer, 422, "invalid_request")["param"] == "cursor"
        one = expect(await fresh.http.get("/tasks", params={"order": order, "limit": 1}), 200)
        assert one["next_cursor"] is None


async def test_an_id_is_found_by_its_end(fresh: Service) -> None:
    wanted, other = await fresh.submit(delay_s=3600), await fresh.submit(delay_s=3600)
    assert await listed(fresh, id_ends=wanted[-8:]) == [wanted]
    assert await listed(fresh, id_ends=wanted) == [wanted]
    assert await listed(fresh, id_ends=wanted[-8:], status="running") == []
    assert set(await listed(fresh, id_ends="")) == {wanted, other}
    for none in ("%", "_" * 8, f"x{wanted}", "' OR 1 --", "\ud800".encode("utf-8", "replace")):
        assert await listed(fresh, id_ends=none) == []


async def test_a_list_waits_for_other_long_reads_alone(fresh: Service) -> None:
    """A place among the long lists is for those that are read by an index."""
    task_id = await fresh.submit("hello", delay_s=3600)
    slots = fresh.parts.long_reads
    for _ in range(LONG_READS_AT_ONCE):
        await slots.acquire()
    try:
        long = asyncio.create_task(listed(fresh, limit=500))
        beside: list[dict[str, Any]] = [
            {"limit": 50}, {"q": "hello"}, {"id_ends": task_id[-6:]}, {"lane": "short"},
            {"model": "fake"}, {"status": ["scheduled", "failed"]},
        ]  # fmt: skip
        for query in beside:
            await listed(fresh, **({"limit": 500} | query))
        assert not long.done()
    finally:
        for _ in range(LONG_READS_AT_ONCE):
            slots.release()
    assert await long == [task_id]
