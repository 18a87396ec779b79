"""Calls that several tasks share, and what the provider, the disk or a crash does to them."""

import asyncio
from pathlib import Path
from unittest.mock import patch

from asyncsvc.errors import (
    RateLimited,
    StorageUnavailable,
    UpstreamDisconnected,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.execution.recorder import Recorder
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.scripted import Script
from tests.sharing import STREAM, WIDE, ask, calls_on_disk, is_whole
from tests.virtual_time import virtual


@virtual
async def test_a_call_that_fails_is_tried_again_for_all_together(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        lost: Script = ["lost", 1.0, UpstreamDisconnected("cut")]
        services.client.on("same", lost, lost, STREAM)
        ids = await ask(services, 20)
        for task_id in ids:
            await is_whole(services, task_id)
            assert (await services.task(task_id)).attempts == 3
        assert len(services.client.calls) == 3


@virtual
async def test_each_is_tried_again_by_its_own_rules(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [UpstreamOverloaded("down")], [1.0, "ok"])
        (never,) = await ask(services, 1, max_retries=0)
        (again,) = await ask(services, 1)
        assert await services.code(never) == "overloaded"
        await is_whole(services, again, "ok")
        assert [(await services.task(i)).attempts for i in (never, again)] == [1, 2]


@virtual
async def test_a_refusal_is_that_of_all(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [UpstreamRejected("no")])
        ids = await ask(services)
        assert [await services.code(task_id) for task_id in ids] == ["upstream_rejected"] * 3
        assert len(services.client.calls) == 1


@virtual
async def test_slow_down_sends_all_back_at_no_cost(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [RateLimited("slow", retry_after=20)], ["ok"])
        for task_id in await ask(services, max_retries=0):
            await is_whole(services, task_id, "ok")
            assert (await services.task(task_id)).attempts == 1
        assert len(services.client.calls) == 2


@virtual
async def test_a_crash_during_a_shared_call_costs_no_task_an_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        ids = await ask(services)
        await asyncio.sleep(3.5)
        await services.restart()
        for task_id in ids:
            await is_whole(services, task_id)
            assert (await services.task(task_id)).attempts == 1
        assert len(services.client.calls) == 2


@virtual
async def test_a_shared_stream_outlives_a_full_disk(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        ids = await ask(services)
        await asyncio.sleep(3.5)
        store = services.services.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await asyncio.sleep(4)
        for task_id in ids:
            await is_whole(services, task_id)
        assert len(services.client.calls) == 1


@virtual
async def test_a_latecomer_whose_start_the_disk_refuses_comes_later(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        (first,) = await ask(services, 1)
        await asyncio.sleep(2.5)
        store = services.services.journal.store
        plain = store.commit

        async def no_starts(batch: Commit) -> None:
            if batch.changed:
                raise StorageUnavailable("full")
            await plain(batch)

        with patch.object(store, "commit", no_starts):
            (late,) = await ask(services, 1)
            await asyncio.sleep(3)
            assert await services.state(late) is State.PENDING
        for task_id in (first, late):
            await is_whole(services, task_id)
        assert (await services.task(late)).attempts == 1
        assert len(services.client.calls) == 1


@virtual
async def test_a_stop_interrupts_all(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        ids = await ask(services)
        await asyncio.sleep(3.5)
        await services.services.executor.interrupt_all()
        assert [await services.state(task_id) for task_id in ids] == [State.PENDING] * 3
        (call,) = services.client.calls
        assert call.cancelled
        await services.restart()
        for task_id in ids:
            await is_whole(services, task_id)


@virtual
async def test_a_worker_that_fails_leaves_no_task_behind(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", ["ok"])
        gate = services.services.catalogue.upstreams[0].gate
        with patch.object(gate, "succeeded", side_effect=RuntimeError("dies")):
            ids = await ask(services)
            await asyncio.sleep(0.5)
        for task_id in ids:
            await is_whole(services, task_id, "ok")
        assert services.services.pool.restarts == 1


@virtual
async def test_a_leader_that_was_cancelled_meanwhile_ends_for_itself_alone(tmp_path: Path) -> None:
    slow_rate = {"a": model(concurrency=2, rpm=1, rpm_window_s=4)}
    async with EngineServices(tmp_path, slow_rate) as services:
        services.client.on("same", STREAM)
        await services.finished(await services.submit("before"))
        await asyncio.sleep(1)
        ids = await ask(services)
        store = services.services.journal.store
        plain = store.commit

        async def slow(batch: Commit) -> None:
            await asyncio.sleep(10)
            await plain(batch)

        with patch.object(store, "commit", slow):
            cancelling = asyncio.create_task(services.services.control.cancel(ids[0]))
            await asyncio.sleep(8)
            assert len(services.services.executor.executions) == 3
        assert (await cancelling).state is State.CANCELLED
        for task_id in ids[1:]:
            await is_whole(services, task_id)
        assert await services.kinds(ids[0]) == ["submitted", "cancelled"]
        assert services.client.prompts == ["before", "same"]
        assert calls_on_disk(tmp_path) == 2


@virtual
async def test_a_worker_that_fails_before_the_record_hands_all_tasks_back(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", ["lost"], ["ok"])
        with patch.object(Recorder, "write", side_effect=RuntimeError("dies")):
            ids = await ask(services)
            await asyncio.sleep(0.001)
        for task_id in ids:
            await is_whole(services, task_id, "ok")
            assert (await services.task(task_id)).attempts == 2
