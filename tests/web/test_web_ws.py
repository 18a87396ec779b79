"""The WebSocket protocol."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import EventRow
from asyncsvc.storage.protocol import PAGE
from asyncsvc.web.http.sockets import Sockets
from tests.web.serving import HANG, Service, ask, message, reply, rest, seqs, serving, stored, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = "x [[sim:tokens=40]][[sim:rate=100]]"


async def follow(service: Service, task_id: str, after: int = 0) -> list[dict[str, Any]]:
    """What is stored of a task, by a socket that must be closed with 1000."""
    async with service.ws(f"/ws/tasks/{task_id}?after={after}") as socket:
        messages, code = await rest(socket)
    assert code == 1000
    return stored(messages)


# One task ------------------------------------------------------------------------------------


async def test_a_task_is_streamed_live_and_closed_with_1000(service: Service) -> None:
    task_id = await service.submit(SLOW)
    events = await follow(service, task_id)
    assert events == await service.events(task_id)
    assert seqs(events) == list(range(1, len(events) + 1))
    assert [e["type"] for e in events][:4] == ["status", "status", "attempt", "chunk"]
    assert text(events) == (await service.task(task_id))["result"]
    assert "result" not in events[-1]["data"]


async def test_a_finished_task_is_streamed_from_any_after(service: Service) -> None:
    task_id = await service.submit(SLOW)
    await service.done(task_id)
    events = await service.events(task_id)
    for after in (0, 1, 7, len(events) - 1, len(events)):
        assert await follow(service, task_id, after) == events[after:]


async def test_a_client_that_comes_back_misses_nothing(service: Service) -> None:
    task_id = await service.submit(SLOW)
    seen: list[dict[str, Any]] = []
    while not seen or "latency" not in seen[-1]["data"]:
        after = seen[-1]["seq"] if seen else 0
        async with service.ws(f"/ws/tasks/{task_id}?after={after}") as socket:
            for _ in range(4):
                event = await message(socket)
                seen += stored([event])
                if "latency" in event["data"]:
                    break
    assert seen == await service.events(task_id)


async def test_many_readers_see_the_same(service: Service) -> None:
    task_id = await service.submit(SLOW)
    found = await asyncio.gather(*(follow(service, task_id) for _ in range(20)))
    assert all(events == found[0] for events in found)


async def test_progress_is_live_only_and_has_no_number(service: Service) -> None:
    task_id = await service.submit("x [[sim:first=2.5]]")
    async with service.ws(f"/ws/tasks/{task_id}") as socket:
        messages, _ = await rest(socket)
    progress = [m for m in messages if m["type"] == "progress"]
    assert len(progress) >= 2
    assert all(m["seq"] is None and m["id"] is None for m in progress)
    data = progress[-1]["data"]
    assert (data["status"], data["tokens"]) == ("running", 0)
    assert data["elapsed_s"] >= data["running_s"] > 0
    assert all(e["type"] != "progress" for e in await service.events(task_id))


async def test_progress_tells_the_place_of_what_waits(fresh: Service) -> None:
    for _ in range(5):
        await fresh.running(HANG, model="fast")
    task_id = await fresh.submit("x", model="fast")
    async with fresh.ws(f"/ws/tasks/{task_id}?after=1") as socket:
        event = await message(socket)
    assert (event["type"], event["data"]["status"]) == ("progress", "pending")
    assert event["data"]["position"] == 1


async def test_a_retry_streams_on_from_the_last_event(service: Service) -> None:
    task_id = await service.submit("x")
    first = await follow(service, task_id)
    await service.steer(task_id, "retry")
    second = await follow(service, task_id, first[-1]["seq"])
    assert first + second == await service.events(task_id)
    assert second[-1]["data"]["status"] == "completed"
    assert [e["data"]["number"] for e in first + second if e["type"] == "attempt"] == [1, 2]


async def test_a_task_that_is_not_there_is_4404(service: Service) -> None:
    for name in ("unknown", "%00", "%ED%A0%80", "a%20b", "x" * 3000):
        async with service.ws(f"/ws/tasks/{name}") as socket:
            messages, code = await rest(socket)
        assert code == 4404, name
        assert messages[0]["error"]["code"] == "task_not_found"


async def test_a_wrong_after_is_4400(service: Service) -> None:
    task_id = await service.submit(delay_s=60)
    for after in ("x", "-1", "2", "99", "1.5"):
        async with service.ws(f"/ws/tasks/{task_id}?after={after}") as socket:
            messages, code = await rest(socket)
        assert code == 4400
        assert messages[0]["error"]["param"] == "after"


async def test_a_deleted_task_closes_its_stream(service: Service) -> None:
    task_id = await service.submit(delay_s=60)
    async with service.ws(f"/ws/tasks/{task_id}") as socket:
        await message(socket)
        await service.steer(task_id, "cancel")
        await service.http.delete(f"/tasks/{task_id}")
        _, code = await rest(socket)
    assert code == 1000


async def test_the_stream_of_one_task_takes_ops_too(service: Service) -> None:
    task_id = await service.running()
    async with service.ws(f"/ws/tasks/{task_id}") as socket:
        assert (await ask(socket, op="ping"))["op"] == "ok"
        await socket.send(json.dumps({"op": "cancel", "task_id": task_id}))
        messages, code = await rest(socket)
    assert code == 1000
    assert stored(messages)[-1]["data"]["status"] == "cancelled"


# Many tasks ----------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_its_ref(service: Service) -> None:
    async with service.ws() as socket:
        for ref in ("r", 7, None, {"a": [1]}):
            assert await ask(socket, op="ping", ref=ref) == {"op": "ok", "ref": ref, "pong": True}


async def test_a_submit_is_answered_before_its_events(service: Service) -> None:
    async with service.ws() as socket:
        task = {"content": "x", "priority": 9}
        await socket.send(json.dumps({"op": "submit", "ref": "r", "task": task, "subscribe": True}))
        answer = await message(socket)
        assert (answer["op"], answer["ref"], answer["status"]) == ("ok", "r", "pending")
        found: list[dict[str, Any]] = []
        while not found or "latency" not in found[-1]["data"]:
            found += stored([await message(socket)])
    assert found == await service.events(answer["task_id"])


async def test_a_submit_without_subscribe_sends_no_events(service: Service) -> None:
    async with service.ws() as socket:
        answer = await ask(socket, op="submit", task={"content": "x"})
        await service.done(answer["task_id"])
        await socket.send(json.dumps({"op": "ping"}))
        assert (await message(socket))["pong"] is True


async def test_a_refused_submit_is_an_error_that_names_the_field(service: Service) -> None:
    async with service.ws() as socket:
        answer = await ask(socket, op="submit", ref=1, task={"content": "x", "colour": 1})
        assert (answer["op"], answer["ref"]) == ("error", 1)
        assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_request", "colour")
        answer = await ask(socket, op="submit", ref=2, task={"content": "x", "model": "gpt-9"})
        assert answer["error"]["code"] == "model_not_found"


async def test_several_tasks_share_a_socket(service: Service) -> None:
    async with service.ws() as socket:
        ids = [(await ask(socket, op="submit", task={"content": SLOW}, subscribe=True))["task_id"]
               for _ in range(3)]  # fmt: skip
        found: dict[str, list[dict[str, Any]]] = {task_id: [] for task_id in ids}
        # What came before an answer was skipped by `ask`; subscribing again brings it all.
        for task_id in ids:
            await socket.send(json.dumps({"op": "subscribe", "task_id": task_id, "ref": task_id}))
        while not all(events and "latency" in events[-1]["data"] for events in found.values()):
            event = await message(socket)
            if event.get("op") == "ok":
                found[event["ref"]] = []
            else:
                found[event["task_id"]] += stored([event])
    for task_id in ids:
        assert found[task_id] == await service.events(task_id)


async def test_unsubscribe_ends_the_events(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    async with service.ws() as socket:
        answer = await ask(socket, op="subscribe", task_id=task_id, ref=1)
        assert (answer["status"], answer["seq"]) == ("scheduled", 1)
        assert (await message(socket))["seq"] == 1
        await ask(socket, op="unsubscribe", task_id=task_id)
        await ask(socket, op="unsubscribe", task_id="unknown")
        await service.steer(task_id, "cancel")
        await socket.send(json.dumps({"op": "ping"}))
        assert (await message(socket))["op"] == "ok"


async def test_cancel_says_how_it_went(service: Service) -> None:
    task_id = await service.running()
    async with service.ws() as socket:
        assert (await ask(socket, op="cancel", task_id=task_id))["status"] == "cancelled"
        answer = await ask(socket, op="cancel", task_id=task_id, ref="again")
        assert (answer["ref"], answer["error"]["code"]) == ("again", "illegal_transition")
        answer = await ask(socket, op="cancel", task_id="unknown")
        assert answer["error"]["code"] == "task_not_found"


async def test_the_whole_feed_resumes_from_any_id(fresh: Service) -> None:
    ids = [await fresh.submit(SLOW) for _ in range(3)]
    for task_id in ids:
        await fresh.done(task_id)
    expected = sorted(
        itertools.chain.from_iterable([await fresh.events(i) for i in ids]),
        key=lambda event: event["id"],
    )
    for after_id in (0, 1, expected[10]["id"], expected[-1]["id"]):
        wanted = [event for event in expected if event["id"] > after_id]
        async with fresh.ws() as socket:
            answer = await ask(socket, op="subscribe", all=True, after_id=after_id)
            assert (answer["all"], answer["after_id"]) == (True, after_id)
            assert [await message(socket) for _ in wanted] == wanted


async def test_the_whole_feed_begins_now_by_itself(fresh: Service) -> None:
    await fresh.done(await fresh.submit("old"))
    async with fresh.ws() as socket:
        await ask(socket, op="subscribe", all=True)
        task_id = await fresh.submit("new")
        found: list[dict[str, Any]] = []
        while not found or "latency" not in found[-1]["data"]:
            found += stored([await message(socket)])
        assert found == await fresh.events(task_id)
        await ask(socket, op="unsubscribe", all=True)
        await fresh.submit("unheard", delay_s=3600)
        await socket.send(json.dumps({"op": "ping"}))
        assert (await message(socket))["op"] == "ok"


async def test_the_whole_feed_tells_the_progress_of_all(fresh: Service) -> None:
    running = await fresh.running()
    waiting = await fresh.submit(delay_s=3600)
    async with fresh.ws() as socket:
        await ask(socket, op="subscribe", all=True)
        received = {(await message(socket))["task_id"] for _ in range(2)}
    assert received == {running, waiting}


async def test_a_feed_without_text_has_only_where_text_begins(fresh: Service) -> None:
    async with fresh.ws() as whole, fresh.ws() as brief:
        await ask(whole, op="subscribe", all=True)
        answer = await ask(brief, op="subscribe", all=True, text=False)
        assert answer["op"] == "ok"
        task_id = await fresh.submit("[[sim:reasoning=4]]hello")
        await fresh.done(task_id)
        found: dict[str, list[dict[str, Any]]] = {}
        for name, socket in (("whole", whole), ("brief", brief)):
            events = found[name] = []
            while not events or events[-1]["data"].get("status") != "completed":
                if (event := await message(socket))["seq"] is not None:
                    events.append(event)
    kinds = [event["type"] for event in found["brief"]]
    assert kinds == ["status", "status", "attempt", "reasoning", "chunk", "status"]
    assert len(found["whole"]) > len(found["brief"])
    first = {kind: next(e for e in found["whole"] if e["type"] == kind) for kind in set(kinds)}
    assert found["brief"][3] == first["reasoning"]
    assert found["brief"][4] == first["chunk"]
    async with fresh.ws() as socket:
        wrong = await ask(socket, op="subscribe", all=True, text="no")
    assert wrong["error"]["param"] == "text"


async def test_a_feed_is_whole_though_tasks_were_deleted(fresh: Service) -> None:
    ids = [await fresh.submit(f"{i}") for i in range(4)]
    for task_id in ids:
        await fresh.done(task_id)
    for task_id in (ids[0], ids[2], ids[3]):
        await fresh.http.delete(f"/tasks/{task_id}")
    expected = await fresh.events(ids[1])
    async with fresh.ws() as socket:
        await ask(socket, op="subscribe", all=True, after_id=0)
        found: list[dict[str, Any]] = []
        while len([e for e in found if e["task_id"] == ids[1]]) < len(expected):
            found.append(await message(socket))
    assert [event for event in found if event["task_id"] == ids[1]] == expected


# Bad messages --------------------------------------------------------------------------------

BAD: list[tuple[str | bytes, str]] = [
    ("hello", "invalid_json"), ("", "invalid_json"), ("[" * 3000, "invalid_json"),
    ('{"op": "ping", "ref": "\\ud800"}', "invalid_json"), (b"\x00", "invalid_json"),
    ("[]", "invalid_request"), ("null", "invalid_request"), ("{}", "invalid_request"),
    ('{"op": "dance"}', "invalid_request"), ('{"op": []}', "invalid_request"),
    ('{"op": {}}', "invalid_request"), ('{"op": null}', "invalid_request"),
    ('{"op": "ping", "extra": 1}', "invalid_request"), ('{"op": "subscribe"}', "invalid_request"),
    ('{"op": "subscribe", "task_id": 5}', "invalid_request"),
    ('{"op": "subscribe", "all": "yes"}', "invalid_request"),
    ('{"op": "subscribe", "all": true, "after_id": 99}', "invalid_request"),
    ('{"op": "subscribe", "all": true, "after_id": -1}', "invalid_request"),
    ('{"op": "subscribe", "all": true, "after_id": true}', "invalid_request"),
    ('{"op": "subscribe", "all": true, "after_id": 1180591620717411303424}', "invalid_request"),
    ('{"op": "submit", "task": "x"}', "invalid_request"),
    ('{"op": "submit", "task": {}}', "invalid_request"),
    ('{"op": "ping", "ref": ' + "[" * 300 + "]" * 300 + "}", "invalid_request"),
]  # fmt: skip


async def test_bad_messages_are_answered_with_their_error(fresh: Service) -> None:
    for first in range(0, len(BAD), 4):
        async with fresh.ws() as socket:
            for sent, code in BAD[first : first + 4]:
                await socket.send(sent)
                answer = await reply(socket)
                assert (answer["op"], answer["error"]["code"]) == ("error", code), sent
            assert (await ask(socket, op="ping"))["op"] == "ok"


async def test_bad_messages_again_and_again_are_4400(service: Service) -> None:
    async with service.ws() as socket:
        for _ in range(50):
            await socket.send("nonsense")
        messages, code = await rest(socket)
    assert code == 4400
    assert len(messages) >= 2
    assert all(answer["error"]["code"] == "invalid_json" for answer in messages)


async def test_what_cannot_be_done_is_no_bad_message(service: Service) -> None:
    async with service.ws() as socket:
        for _ in range(20):
            answer = await ask(socket, op="subscribe", task_id="unknown")
            assert answer["error"]["code"] == "task_not_found"
        assert (await ask(socket, op="ping"))["op"] == "ok"


async def test_a_binary_message_is_read_as_text(service: Service) -> None:
    async with service.ws() as socket:
        await socket.send(b'{"op": "ping", "ref": 1}')
        assert (await message(socket))["ref"] == 1


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20])
async def test_a_frame_above_a_mebibyte_is_1009(service: Service, size: int) -> None:
    async with service.ws() as socket:
        await socket.send("x" * size)
        assert await rest(socket) == ([], 1009)


async def test_a_frame_of_a_mebibyte_is_taken(service: Service) -> None:
    frame = json.dumps({"op": "submit", "task": {"content": ""}})
    frame = frame.replace('""', '"' + "x" * ((1 << 20) - len(frame)) + '"')
    async with service.ws() as socket:
        await socket.send(frame)
        assert (await message(socket))["op"] == "ok"


async def test_a_stop_sends_all_that_is_committed_and_then_1001(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        task_id = await service.running()
        async with (
            service.ws(f"/ws/tasks/{task_id}") as one,
            service.ws() as some,
            service.ws() as all_,
        ):
            await ask(some, op="subscribe", task_id=task_id)
            await ask(all_, op="subscribe", all=True, after_id=0)
            reading = [asyncio.create_task(rest(socket)) for socket in (one, some, all_)]
            service.stop()
            ends = await asyncio.gather(*reading)
    for messages, code in ends:
        assert code == 1001
        events = stored(messages)
        assert seqs(events) == [1, 2, 3, 4]
        assert events[-1]["data"]["cause"] == "interrupted"


async def test_a_stop_waits_for_a_client_that_is_still_catching_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = asyncio.Event()
    read, close_all = Database.events, Sockets.close_all

    async def late(store: Database, n: int, after: int, limit: int = PAGE) -> list[EventRow]:
        await stopping.wait()
        return await read(store, n, after, limit)

    async def watched(sockets: Sockets) -> None:
        stopping.set()
        await close_all(sockets)

    async with serving(tmp_path) as service:
        task_id = await service.submit(SLOW)
        await service.done(task_id)
        events = await service.events(task_id)
        monkeypatch.setattr(Database, "events", late)
        monkeypatch.setattr(Sockets, "close_all", watched)
        async with service.ws() as socket:
            await ask(socket, op="subscribe", task_id=task_id)
            service.stop()
            messages, code = await rest(socket)
    assert (code, stored(messages)) == (1001, events)
