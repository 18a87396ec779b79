"""Requests to `/v1` that share a task by their Idempotency-Key: whose leaving ends it."""

import asyncio
from pathlib import Path

from asyncsvc.access import SERVICE
from asyncsvc.tasks.state import State
from asyncsvc.tasks.submission import Noted
from asyncsvc.web.openai.held_request import hold
from asyncsvc.web.openai.requests import Call
from tests.engine_services import EngineServices
from tests.scripted import HANG
from tests.virtual_time import virtual


def request() -> Call:
    return Call([Noted.model_validate({"content": "x"})], key="same")


@virtual
async def test_a_repeated_request_that_hangs_up_leaves_the_task_to_the_first(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", ["a", 10.0, "b"])
        [first] = await hold(services.services, request(), SERVICE)
        await asyncio.sleep(1)
        for _ in range(2):
            [again] = await hold(services.services, request(), SERVICE)
            assert again.task_id == first.task_id
            await again.give_up()
        task, failure = await first.finished()
        assert task is not None
        assert failure is None
        assert (task.state, task.attempts) == (State.COMPLETED, 1)
        assert await services.result(first.task_id) == "ab"
        assert not services.client.calls[0].cancelled


@virtual
async def test_the_first_request_that_hangs_up_ends_the_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", [HANG], ["ok"])
        [first] = await hold(services.services, request(), SERVICE)
        [again] = await hold(services.services, request(), SERVICE)
        await asyncio.sleep(1)
        await first.give_up()
        assert await services.state(first.task_id) is State.CANCELLED
        assert services.client.running == []
        task, failure = await again.finished()
        assert task is not None
        assert failure is not None
        assert failure.code == "cancelled"


@virtual
async def test_a_request_that_starts_a_cancelled_task_anew_owns_it(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", [HANG])
        [first] = await hold(services.services, request(), SERVICE)
        await asyncio.sleep(1)
        await first.give_up()
        [again] = await hold(services.services, request(), SERVICE)
        await asyncio.sleep(1)
        assert (again.task_id, services.client.running) == (first.task_id, ["x"])
        await again.give_up()
        assert await services.state(first.task_id) is State.CANCELLED
        assert services.client.running == []
