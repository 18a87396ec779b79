"""One call for all who ask for the same."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.scheduling.groups import SingleFlight
from asyncsvc.tasks.state import Request, State, Task
from tests.engine_services import MOMENT, EngineServices, since
from tests.scripted import HANG, Call
from tests.sharing import STREAM, WIDE, ask, calls_on_disk, is_whole
from tests.virtual_time import virtual


@virtual
async def test_fifty_equal_tasks_are_one_call(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [Delta("hm", True), *STREAM])
        ids = await ask(services, 50)
        for task_id in ids:
            await is_whole(services, task_id)
            kinds = await services.kinds(task_id)
            assert kinds[:4] == ["submitted", "started", "attempt", "reasoning"]
            assert kinds[4:] == ["chunk"] * 10 + ["completed"]
            task = await services.task(task_id)
            assert (task.attempts, task.cached, task.latency) == (1, False, 10.0)
            assert task.usage is not None
        assert len(services.client.calls) == calls_on_disk(tmp_path) == 1
        gate = services.services.catalogue.upstreams[0].gate
        assert (gate.statistics.calls, gate.busy, len(gate.statistics.starts)) == (1, 0, 1)
        assert (services.services.cache.shared, services.services.cache.misses) == (49, 1)
        assert since() == 10


@virtual
async def test_all_starts_are_on_the_disk_before_the_call(tmp_path: Path) -> None:
    seen: list[list[tuple[str, int]]] = []

    def look(_: Call) -> None:
        with sqlite3.connect(tmp_path / "tasks.db") as other:
            seen.append(other.execute("SELECT state, starts FROM tasks").fetchall())
        other.close()

    async with EngineServices(tmp_path, WIDE) as services:
        services.client.before = look
        for task_id in await ask(services):
            await services.finished(task_id)
    assert seen == [[("running", 1)] * 3]


@virtual
async def test_the_attempt_records_that_a_task_shares_a_call(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        ids = await ask(services, 2)
        whys = []
        for task_id in ids:
            await services.finished(task_id)
            whys.append(dict(await services.events(task_id))["attempt"]["why"])
        assert whys == ["the model for simple tasks", "shares the call of an equal task"]


@virtual
async def test_a_latecomer_has_the_since_attempt_and_goes_on_live(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [Delta("hm", True), *STREAM])
        (first,) = await ask(services, 1)
        await asyncio.sleep(4.5)
        (late,) = await ask(services, 1)
        await asyncio.sleep(MOMENT)
        assert await services.streamed(late) == "0 1 2 3 "
        await is_whole(services, first)
        await is_whole(services, late)
        events = [(k, d["text"]) for k, d in await services.events(late) if "text" in d]
        assert events[:3] == [("reasoning", "hm"), ("chunk", "0 1 2 3 "), ("chunk", "4 ")]
        assert len(services.client.calls) == 1
        assert (await services.task(late)).latency == pytest.approx(5.5)


@virtual
async def test_one_that_comes_when_the_call_is_over_has_the_answer(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        (first,) = await ask(services, 1)
        await asyncio.sleep(5)
        store = services.services.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await asyncio.sleep(6)
            assert await services.state(first) is State.RUNNING
        (late,) = await ask(services, 1)
        for task_id in (first, late):
            await is_whole(services, task_id)
        assert (await services.task(late)).cached
        assert len(services.client.calls) == 1


# Leaving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_one_leaves_and_the_others_go_on(tmp_path: Path, index: int, verb: str) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, WIDE) as services:
            services.client.on("same", STREAM)
            ids = await ask(services)
            await asyncio.sleep(3.5)
            gone = ids.pop(index)
            await getattr(services.services.control, verb)(gone)
            assert since() == pytest.approx(3.5)
            state = await services.state(gone)
            assert state is (State.CANCELLED if verb == "cancel" else State.PAUSED)
            assert await services.streamed(gone) == "0 1 2 "
            for task_id in ids:
                await is_whole(services, task_id)
            assert await services.streamed(gone) == "0 1 2 "
            assert (await services.kinds(gone)).count("chunk") == 3
            (call,) = services.client.calls
            assert not call.cancelled

    check()


@virtual
async def test_the_call_is_cut_when_the_last_one_leaves(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        ids = await ask(services)
        for task_id in ids:
            await asyncio.sleep(1.5)
            assert services.client.running == ["same"]
            await services.services.control.cancel(task_id)
        (call,) = services.client.calls
        assert (call.cancelled, call.ended) == (True, 4.5)
        assert [await services.result(task_id) for task_id in ids] == ["0 ", "0 1 2 ", "0 1 2 3 "]
        assert services.services.catalogue.upstreams[0].gate.busy == 0


@virtual
async def test_a_task_that_comes_while_the_call_is_being_cut_has_a_new_call(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [HANG], ["ok"])
        (first,) = await ask(services, 1)
        await asyncio.sleep(1)
        cancelling = asyncio.create_task(services.services.control.cancel(first))
        (second,) = await ask(services, 1)
        await cancelling
        await is_whole(services, second, "ok")
        assert [call.cancelled for call in services.client.calls] == [True, False]


@virtual
async def test_a_paused_task_joins_the_call_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        ids = await ask(services)
        await asyncio.sleep(2.5)
        await services.services.control.pause(ids[0])
        await asyncio.sleep(3)
        await services.services.control.resume(ids[0])
        for task_id in ids:
            await is_whole(services, task_id)
        assert len(services.client.calls) == 1
        assert (await services.task(ids[0])).attempts == 1


@virtual
async def test_each_has_its_own_time(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", STREAM)
        (short,) = await ask(services, 1, timeout_s=3.5)
        (long,) = await ask(services, 1)
        assert await services.code(short) == "timeout"
        assert since() == pytest.approx(3.5)
        assert await services.result(short) == await services.streamed(short) == "0 1 2 "
        await is_whole(services, long)


@virtual
async def test_the_call_is_cut_when_the_last_ones_time_is_up(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("same", [HANG])
        ids = [(await ask(services, 1, timeout_s=seconds))[0] for seconds in (20, 10)]
        assert [await services.code(task_id) for task_id in ids] == ["timeout"] * 2
        assert (services.client.calls[0].cancelled, since()) == (True, 20)


# Waiting --------------------------------------------------------------------------------------


async def _behind(services: EngineServices, **fields: Any) -> list[str]:
    """Three equal tasks behind a busy model."""
    services.client.on("same", ["ok"])
    await services.submit_script("busy", [50.0, "ok"])
    await asyncio.sleep(MOMENT)
    return await ask(services, **fields)


@virtual
async def test_only_the_leader_waits_in_the_lane(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        ids = await _behind(services)
        assert len(services.services.scheduler) == 1
        await services.services.control.cancel(ids[0])
        assert len(services.services.scheduler) == 1
        await services.services.control.pause(ids[1])
        await is_whole(services, ids[2], "ok")
        assert len(services.services.scheduler) == 0
        await services.services.control.resume(ids[1])
        assert (await services.finished(ids[1])).cached
        assert services.client.prompts == ["busy", "same"]


@virtual
async def test_the_lane_is_empty_when_the_last_equal_task_leaves(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        for task_id in await _behind(services):
            await services.services.control.cancel(task_id)
        assert len(services.services.scheduler) == 0
        await asyncio.sleep(100)
        assert services.client.prompts == ["busy"]


@virtual
async def test_equal_tasks_wait_at_the_rank_of_the_most_urgent(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        ids = await _behind(services, lane="long")
        other = await services.submit("other")
        ids += await ask(services, 1, lane="priority")
        for task_id in [*ids, other]:
            await services.finished(task_id)
        assert services.client.prompts == ["busy", "same", "other"]


@virtual
async def test_one_behind_the_head_of_its_session_takes_no_part(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("head", [20.0, "ok"])
        head = await services.submit("head", session_id="s")
        services.client.on("same", STREAM)
        (first,) = await ask(services, 1)
        (behind,) = await ask(services, 1, session_id="s")
        await is_whole(services, first)
        assert await services.state(behind) is State.PENDING
        await services.finished(head)
        await is_whole(services, behind)
        assert (await services.task(behind)).cached
        assert since() == 20


async def test_no_second_call_departs_before_the_first_has_landed() -> None:
    single_flight = SingleFlight()
    one, two, three = (Task(Request(name), n=n) for n, name in enumerate("abc", 1))
    single_flight.enter("k", one)
    assert single_flight.start("k", one, lambda _: False) == [one]
    single_flight.enter("k", two)
    single_flight.enter("k", three)
    assert single_flight.start("k", two, lambda _: True) == []
    single_flight.leave(three)
    assert (len(single_flight), single_flight.finish(one)) == (1, [two])
    assert single_flight.start("k", two, lambda _: True) == [two]
