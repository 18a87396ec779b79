"""One task's events as server-sent events."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from asyncsvc.errors import TaskNotFound
from asyncsvc.journal.journal import Event, Journal
from tests.web.serving import Service, expect, refused, seqs

pytestmark = pytest.mark.asyncio(loop_scope="module")

SSE = {"accept": "text/event-stream"}


def parsed(block: str) -> dict[str, Any]:
    """The data of one frame; its id and name must agree with it."""
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    event: dict[str, Any] = json.loads(fields["data"])
    assert fields["event"] == event["type"]
    assert fields.get("id") == (None if event["seq"] is None else str(event["seq"]))
    return event


async def frames(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events as they come."""
    buffered = ""
    async for part in answer.aiter_text():
        *blocks, buffered = (buffered + part).split("\n\n")
        for block in blocks:
            if not block.startswith(":"):
                yield parsed(block)
    assert buffered == ""


@asynccontextmanager
async def followed(
    service: Service, task_id: str, last: int | None = None
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    headers = SSE | ({} if last is None else {"last-event-id": str(last)})
    path = f"/tasks/{task_id}/events"
    async with service.http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield frames(answer)


async def whole(service: Service, task_id: str, last: int | None = None) -> list[dict[str, Any]]:
    """The stored events that a stream brings until it ends."""
    async with followed(service, task_id, last) as events:
        return [event async for event in events if event["seq"] is not None]


async def test_a_stream_brings_what_is_stored_and_ends(service: Service) -> None:
    task_id = await service.submit("x [[sim:tokens=50]][[sim:rate=200]]")
    events = await whole(service, task_id)
    assert events == await service.events(task_id)
    assert events[-1]["data"]["status"] == "completed"


async def test_a_stream_resumes_after_the_last_event_id(service: Service) -> None:
    task_id = await service.submit("x [[sim:tokens=50]][[sim:rate=200]]")
    async with followed(service, task_id) as events:
        seen = [await anext(events) for _ in range(5)]
    later = await whole(service, task_id, seen[-1]["seq"])
    assert seen + later == await service.events(task_id)


async def test_the_header_wins_over_the_query(service: Service) -> None:
    task_id = await service.submit("x")
    await service.done(task_id)
    headers = SSE | {"last-event-id": "3"}
    answer = await service.http.get(f"/tasks/{task_id}/events?after=1", headers=headers)
    assert "id: 3\n" not in answer.text
    assert "id: 4\n" in answer.text


async def test_a_finished_task_tells_an_eventsource_not_to_come_back(service: Service) -> None:
    task_id = await service.submit("x")
    last = (await service.done(task_id))["seq"]
    headers = SSE | {"last-event-id": str(last)}
    answer = await service.http.get(f"/tasks/{task_id}/events", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await service.http.get(f"/tasks/{task_id}/events?after={last}", headers=SSE)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_wrong_last_event_id_is_a_422(service: Service) -> None:
    task_id = await service.submit(delay_s=60)
    for last in ("x", "-1", "99", "1.5"):
        answer = await service.http.get(
            f"/tasks/{task_id}/events", headers=SSE | {"last-event-id": last}
        )
        assert refused(answer, 422, "invalid_request")["param"] == "after"


async def test_progress_comes_while_the_task_waits(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    async with followed(service, task_id) as events:
        assert (await anext(events))["seq"] == 1
        event = await anext(events)
    assert (event["type"], event["seq"], event["id"]) == ("progress", None, None)
    assert event["data"]["status"] == "scheduled"
    assert event["data"]["next_run_at"].endswith("Z")


async def test_a_deleted_task_ends_its_stream(service: Service) -> None:
    task_id = await service.submit(delay_s=3600)
    async with followed(service, task_id) as events:
        await anext(events)
        expect(await service.steer(task_id, "cancel"), 200)
        assert seqs([event async for event in events]) == [2]
    assert (await service.http.delete(f"/tasks/{task_id}")).status_code == 204


async def test_a_task_that_is_deleted_just_before_ends_its_stream_quietly(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await service.submit("x")
    await service.done(task_id)

    async def gone(_: Journal, name: str, after: int) -> AsyncIterator[list[Event]]:
        raise TaskNotFound(name)
        yield []

    monkeypatch.setattr(Journal, "follow", gone)
    assert await whole(service, task_id) == []
