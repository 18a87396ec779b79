import asyncio
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.errors import ContentFiltered, Overloaded, QueueFull, StorageUnavailable
from asyncsvc.journal import counters as module
from asyncsvc.journal.counters import Tally
from asyncsvc.tasks.state import Request, State, Task
from tests.builders import AT, Commits
from tests.engine_house import EngineHouse, model
from tests.scripted import HANG
from tests.virtual_time import virtual


def _tally(house: EngineHouse) -> Tally:
    return house.house.tally


@virtual
async def test_a_task_is_counted_at_each_turn_of_its_life(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, {"a": model()}) as house:
        house.client.on("bad", [ContentFiltered("no")])
        for content in ("good", "bad"):
            await house.finished(await house.submit(content, lane="priority"))
        hung = await house.submit_script("h", [HANG])
        await asyncio.sleep(1)
        await house.house.control.cancel(hung)
        tally = _tally(house)
        assert tally.accepted == {"priority": 2, "short": 1}
        assert tally.finished == {
            ("completed", "priority"): 1,
            ("failed", "priority"): 1,
            ("cancelled", "short"): 1,
        }
        assert tally.failed == {"content_filtered": 1}
        assert tally.attempts == {"a": 3}
        assert tally.submit.count == 3


@virtual
async def test_done_again_is_no_new_task_but_a_new_attempt(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        task_id = await house.submit("x")
        await house.finished(task_id)
        await house.house.control.retry(task_id)
        await house.finished(task_id)
        tally = _tally(house)
        assert tally.accepted == {"short": 1}
        assert (tally.attempts, tally.finished) == ({"a": 2}, {("completed", "short"): 2})


@virtual
async def test_an_answer_from_the_cache_is_no_attempt(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        for _ in range(2):
            await house.finished(await house.submit("x", cache=True))
        tally = _tally(house)
        assert (tally.attempts, tally.accepted["short"]) == ({"a": 1}, 2)
        assert tally.finished == {("completed", "short"): 2}


@virtual
async def test_refusals_are_counted_by_code(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, queue={"max_length": 1}) as house:
        await house.submit_script("h", [HANG])
        with pytest.raises(QueueFull):
            await house.submit("y")
        house.house.intake.overload = lambda: Overloaded("no", retry_after=1)
        with pytest.raises(Overloaded):
            house.house.intake.turn_away()
        house.house.intake.overload = lambda: None  # it has just passed
        house.house.intake.turn_away()
        assert _tally(house).refused == {"queue_full": 1, "overloaded": 1}


@virtual
async def test_a_refusal_of_the_disk_is_counted(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        Commits(house.house.journal.store).refuse()
        with pytest.raises(StorageUnavailable):
            await house.submit("x")
        assert _tally(house).refused == {"storage": 1}


# The promise --------------------------------------------------------------------------------


@virtual
async def test_the_promised_start_is_compared_with_the_real_one(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.finished(await house.submit_script("first", [10.0, "ok"]))
        assert _tally(house).error.count == 1  # started at once, as was said
        await house.submit_script("slow", [30.0, "ok"])
        answer = await house.answer("behind")
        assert answer["eta_s"] == pytest.approx(10.0, abs=0.1)
        await house.finished(answer["task_id"])
        tally = _tally(house)
        assert tally.error.count == 3
        assert tally.late == pytest.approx(20.0, abs=0.2)
        assert tally.bias_s == pytest.approx(20.0 / 3, abs=0.1)
        assert tally._promised == {}
        assert tally.waited["short"].total == pytest.approx(30.0, abs=0.1)


@virtual
async def test_who_starts_early_counts_as_an_error_too(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.finished(await house.submit_script("first", [10.0, "ok"]))
        await house.submit_script("quick", [4.0, "ok"])
        await house.finished((await house.answer("behind"))["task_id"])
        tally = _tally(house)
        assert tally.late == pytest.approx(-6.0, abs=0.2)
        assert tally.error.total == pytest.approx(6.0, abs=0.2)


@virtual
async def test_a_promise_ends_with_a_pause_and_with_the_task(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path) as house:
        await house.finished(await house.submit_script("x", [1.0, "ok"]))
        hanging = await house.submit_script("h", [HANG])
        while await house.state(hanging) is not State.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        paused, cancelled = await house.submit("p"), await house.submit("c")
        assert _tally(house)._promised.keys() == {paused, cancelled}
        await house.house.control.pause(paused)
        await house.house.control.cancel(cancelled)
        assert _tally(house)._promised == {}


def test_promises_are_bounded() -> None:
    tally = Tally()
    with patch.object(module, "PROMISES", 3):
        for n in range(10):
            tally.promised(Task(Request(f"t{n}"), queued_at=AT), 1.0)
        tally.promised(Task(Request("none")), None)
    assert list(tally._promised) == ["t7", "t8", "t9"]
    assert tally.bias_s is None


def test_text_is_no_change() -> None:
    tally, task = Tally(), Task(Request("t"), version=3, starts=1)
    tally.changed(task, replace(task, seq=9, starts=5))
    assert tally.attempts == {}
