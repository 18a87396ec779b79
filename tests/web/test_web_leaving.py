"""Clients that leave before their answer: nothing waits for them, and nothing is kept of them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from starlette.requests import Request

from asyncsvc.loop_turns import LoopTurns
from asyncsvc.web.http.resources import REFUSED_MOST
from asyncsvc.web.http.state import LONG_READS_AT_ONCE
from tests.polling import until
from tests.web.serving import Service, refused, serving
from tests.web.wire import chunked, head, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def closed(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service in which no turn comes, and no place among the long lists is free."""

    async def never(spent_s: float = 0.0) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(fresh.parts.turns, "next", never)
    for _ in range(LONG_READS_AT_ONCE):
        await fresh.parts.long_reads.acquire()
    yield fresh
    for _ in range(LONG_READS_AT_ONCE):
        fresh.parts.long_reads.release()


async def requests() -> int:
    """How many requests are under way."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return sum("run_asgi" in getattr(one, "__qualname__", "") for one in coroutines)


PATHS = ["/tasks?limit=500", "/tasks?order=queue", "/tasks/stats", "/models", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_read_that_waits_ends_with_its_client(closed: Service, path: str) -> None:
    async with wire(closed.port) as line:
        line.writer.write(head("GET", path))
        await until(requests, lambda count: count == 1)
    await until(requests, lambda count: count == 0)


async def test_requests_under_way_are_bounded_when_their_clients_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def page(*_: object) -> list[object]:
        await answered.wait()
        return []

    async with serving(tmp_path, server={"max_connections": 3}) as service:
        monkeypatch.setattr(service.parts.journal.store, "page", page)
        for number in range(1, 4):
            async with wire(service.port) as line:
                line.writer.write(head("GET", "/tasks"))
                await until(requests, number.__eq__)
        refused(await service.http.get("/models"), 503, "overloaded")
        assert (await service.http.get("/livez")).status_code == 200
        answered.set()
        await until(requests, (0).__eq__)
        assert (await service.http.get("/models")).status_code == 200


LEFT = {
    "in the middle of a body": head("POST", "/tasks", "content-length: 1000") + b'{"content":',
    "in the middle of a trailer": chunked("/tasks", b'{"content":"x"}')[:-2] + b"x: y",
}


@pytest.mark.parametrize("sent", LEFT.values(), ids=LEFT)
async def test_the_refusal_of_a_client_that_has_left_waits_for_no_turn(
    closed: Service, sent: bytes
) -> None:
    async with wire(closed.port) as line:
        line.writer.write(sent)
        await until(requests, lambda count: count == 1)
    await until(requests, lambda count: count == 0)


async def test_a_refusal_waits_for_its_turn_unless_too_many_wait(
    closed: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asyncio.create_task(closed.http.get("/tasks/absent"))
    await until(requests, lambda count: count == 1)
    assert not first.done()
    monkeypatch.setattr(LoopTurns, "waiting", REFUSED_MOST)
    refused(await closed.http.get("/tasks/absent"), 404, "task_not_found")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_refused_list_leaves_no_cycle(fresh: Service) -> None:
    """What is in a cycle waits for the garbage collector, which seldom comes."""

    async def kept() -> int:
        return sum(isinstance(one, Request) for one in gc.get_objects())

    gc.collect()
    before = await kept()
    gc.disable()
    try:
        async with wire(fresh.port) as line:
            line.writer.write(head("GET", "/tasks?limit=x"))
            assert b"422" in await line.reader.readline()
        await until(kept, lambda count: count <= before, 5)
    finally:
        gc.enable()
