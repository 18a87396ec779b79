"""One call for all who ask for the same."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.config.settings import Routes
from asyncsvc.errors import StorageUnavailable
from asyncsvc.providers.answers.answer import Delta
from asyncsvc.routing.router import Router
from asyncsvc.scheduling.candidates import Chooser
from asyncsvc.scheduling.scheduler import Dispatch
from asyncsvc.scheduling.single_flight import Flights
from asyncsvc.tasks.state import Request, State, Task
from tests.engine_house import MOMENT, EngineHouse, since
from tests.scripted import HANG, Call
from tests.sharing import STREAM, WIDE, ask, calls_on_disk, is_whole
from tests.virtual_time import virtual


@virtual
async def test_fifty_equal_tasks_are_one_call(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", [Delta("hm", True), *STREAM])
        ids = await ask(house, 50)
        for task_id in ids:
            await is_whole(house, task_id)
            kinds = await house.kinds(task_id)
            assert kinds[:4] == ["submitted", "started", "attempt", "reasoning"]
            assert kinds[4:] == ["chunk"] * 10 + ["completed"]
            task = await house.task(task_id)
            assert (task.attempts, task.cached, task.latency) == (1, False, 10.0)
            assert task.usage is not None
        assert len(house.client.calls) == calls_on_disk(tmp_path) == 1
        gate = house.house.catalogue.upstreams[0].gate
        assert (gate.calls, gate.busy, len(gate.starts)) == (1, 0, 1)
        assert (house.house.cache.shared, house.house.cache.misses) == (49, 1)
        assert since() == 10


@virtual
async def test_all_starts_are_on_the_disk_before_the_call(tmp_path: Path) -> None:
    seen: list[list[tuple[str, int]]] = []

    def look(_: Call) -> None:
        with sqlite3.connect(tmp_path / "tasks.db") as other:
            seen.append(other.execute("SELECT state, starts FROM tasks").fetchall())
        other.close()

    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.before = look
        for task_id in await ask(house):
            await house.finished(task_id)
    assert seen == [[("running", 1)] * 3]


@virtual
async def test_the_attempt_says_who_shares(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        ids = await ask(house, 2)
        whys = []
        for task_id in ids:
            await house.finished(task_id)
            whys.append(dict(await house.events(task_id))["attempt"]["why"])
        assert whys == ["the model for simple tasks", "shares the call of an equal task"]


@virtual
async def test_a_latecomer_has_the_text_so_far_and_goes_on_live(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", [Delta("hm", True), *STREAM])
        (first,) = await ask(house, 1)
        await asyncio.sleep(4.5)
        (late,) = await ask(house, 1)
        await asyncio.sleep(MOMENT)
        assert await house.said(late) == "0 1 2 3 "
        await is_whole(house, first)
        await is_whole(house, late)
        events = [(k, d["text"]) for k, d in await house.events(late) if "text" in d]
        assert events[:3] == [("reasoning", "hm"), ("chunk", "0 1 2 3 "), ("chunk", "4 ")]
        assert len(house.client.calls) == 1
        assert (await house.task(late)).latency == 5.5


@virtual
async def test_one_that_comes_when_the_call_is_over_has_the_answer(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", STREAM)
        (first,) = await ask(house, 1)
        await asyncio.sleep(5)
        store = house.house.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await asyncio.sleep(6)
            assert await house.state(first) is State.RUNNING
        (late,) = await ask(house, 1)
        for task_id in (first, late):
            await is_whole(house, task_id)
        assert (await house.task(late)).cached
        assert len(house.client.calls) == 1


# Leaving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_one_leaves_and_the_others_go_on(tmp_path: Path, index: int, verb: str) -> None:
    @virtual
    async def check() -> None:
        async with EngineHouse(tmp_path, WIDE) as house:
            house.client.on("same", STREAM)
            ids = await ask(house)
            await asyncio.sleep(3.5)
            gone = ids.pop(index)
            await getattr(house.house.control, verb)(gone)
            assert since() == 3.5
            state = await house.state(gone)
            assert state is (State.CANCELLED if verb == "cancel" else State.PAUSED)
            assert await house.said(gone) == "0 1 2 "
            for task_id in ids:
                await is_whole(house, task_id)
            assert await house.said(gone) == "0 1 2 "
            assert (await house.kinds(gone)).count("chunk") == 3
            (call,) = house.client.calls
            assert not call.cancelled

    check()


@virtual
async def test_the_call_is_cut_when_the_last_one_leaves(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", STREAM)
        ids = await ask(house)
        for task_id in ids:
            await asyncio.sleep(1.5)
            assert house.client.running == ["same"]
            await house.house.control.cancel(task_id)
        (call,) = house.client.calls
        assert (call.cancelled, call.ended) == (True, 4.5)
        assert [await house.result(task_id) for task_id in ids] == ["0 ", "0 1 2 ", "0 1 2 3 "]
        assert house.house.catalogue.upstreams[0].gate.busy == 0


@virtual
async def test_whoever_comes_while_the_call_is_being_cut_has_a_new_one(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", [HANG], ["ok"])
        (first,) = await ask(house, 1)
        await asyncio.sleep(1)
        cancelling = asyncio.create_task(house.house.control.cancel(first))
        (second,) = await ask(house, 1)
        await cancelling
        await is_whole(house, second, "ok")
        assert [call.cancelled for call in house.client.calls] == [True, False]


@virtual
async def test_one_that_was_paused_comes_aboard_again(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", STREAM)
        ids = await ask(house)
        await asyncio.sleep(2.5)
        await house.house.control.pause(ids[0])
        await asyncio.sleep(3)
        await house.house.control.resume(ids[0])
        for task_id in ids:
            await is_whole(house, task_id)
        assert len(house.client.calls) == 1
        assert (await house.task(ids[0])).attempts == 1


@virtual
async def test_each_has_its_own_time(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", STREAM)
        (short,) = await ask(house, 1, timeout_s=3.5)
        (long,) = await ask(house, 1)
        assert await house.code(short) == "timeout"
        assert since() == 3.5
        assert await house.result(short) == await house.said(short) == "0 1 2 "
        await is_whole(house, long)


@virtual
async def test_the_call_is_cut_when_the_last_ones_time_is_up(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("same", [HANG])
        ids = [(await ask(house, 1, timeout_s=seconds))[0] for seconds in (20, 10)]
        assert [await house.code(task_id) for task_id in ids] == ["timeout"] * 2
        assert (house.client.calls[0].cancelled, since()) == (True, 20)


# Waiting --------------------------------------------------------------------------------------


async def _behind(house: EngineHouse, **fields: Any) -> list[str]:
    """Three equal tasks behind a busy model."""
    house.client.on("same", ["ok"])
    await house.submit_script("busy", [50.0, "ok"])
    await asyncio.sleep(MOMENT)
    return await ask(house, **fields)


@virtual
async def test_only_one_of_them_stands_in_the_lane(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        ids = await _behind(house)
        assert len(house.house.dispatch) == 1
        await house.house.control.cancel(ids[0])
        assert len(house.house.dispatch) == 1
        await house.house.control.pause(ids[1])
        await is_whole(house, ids[2], "ok")
        assert len(house.house.dispatch) == 0
        await house.house.control.resume(ids[1])
        assert (await house.finished(ids[1])).cached
        assert house.client.prompts == ["busy", "same"]


@virtual
async def test_the_last_one_that_leaves_takes_the_place_in_the_lane_along(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        for task_id in await _behind(house):
            await house.house.control.cancel(task_id)
        assert len(house.house.dispatch) == 0
        await asyncio.sleep(100)
        assert house.client.prompts == ["busy"]


@virtual
async def test_they_stand_where_the_most_urgent_one_would(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        ids = await _behind(house, lane="long")
        other = await house.submit("other")
        ids += await ask(house, 1, lane="priority")
        for task_id in [*ids, other]:
            await house.finished(task_id)
        assert house.client.prompts == ["busy", "same", "other"]


@virtual
async def test_one_behind_the_head_of_its_session_takes_no_part(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, WIDE) as house:
        house.client.on("head", [20.0, "ok"])
        head = await house.submit("head", session_id="s")
        house.client.on("same", STREAM)
        (first,) = await ask(house, 1)
        (behind,) = await ask(house, 1, session_id="s")
        await is_whole(house, first)
        assert await house.state(behind) is State.PENDING
        await house.finished(head)
        await is_whole(house, behind)
        assert (await house.task(behind)).cached
        assert since() == 20


async def test_no_second_call_departs_before_the_first_has_landed() -> None:
    flights = Flights(Dispatch([], Chooser([], Router({}, Routes())), dict))
    one, two, three = (Task(Request(name), n=n) for n, name in enumerate("abc", 1))
    flights.enter("k", one)
    assert flights.depart("k", one, lambda _: False) == [one]
    flights.enter("k", two)
    flights.enter("k", three)
    assert flights.depart("k", two, lambda _: True) == []
    flights.leave(three)
    assert (len(flights), flights.land(one)) == (1, [two])
    assert flights.depart("k", two, lambda _: True) == [two]
