import asyncio
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.errors import ContentFiltered, Overloaded, QueueFull, StorageUnavailable
from asyncsvc.histogram import Histogram
from asyncsvc.journal import counters as module
from asyncsvc.journal.counters import TaskCounters
from asyncsvc.tasks.state import Request, State, Task
from tests.builders import AT, Commits
from tests.engine_services import EngineServices, model
from tests.scripted import HANG
from tests.virtual_time import virtual


def _task_counters(services: EngineServices) -> TaskCounters:
    return services.services.task_counters


@virtual
async def test_a_task_is_counted_at_each_turn_of_its_life(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        services.client.on("bad", [ContentFiltered("no")])
        for content in ("good", "bad"):
            await services.finished(await services.submit(content, lane="priority"))
        hung = await services.submit_script("h", [HANG])
        await asyncio.sleep(1)
        await services.services.control.cancel(hung)
        task_counters = _task_counters(services)
        assert task_counters.accepted == {"priority": 2, "short": 1}
        assert task_counters.finished == {
            ("completed", "priority"): 1,
            ("failed", "priority"): 1,
            ("cancelled", "short"): 1,
        }
        assert task_counters.failed == {"content_filtered": 1}
        assert task_counters.attempts == {"a": 3}
        assert task_counters.submit.count == 3


@virtual
async def test_done_again_is_no_new_task_but_a_new_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit("x")
        await services.finished(task_id)
        await services.services.control.retry(task_id)
        await services.finished(task_id)
        task_counters = _task_counters(services)
        assert task_counters.accepted == {"short": 1}
        assert (task_counters.attempts, task_counters.finished) == (
            {"a": 2},
            {("completed", "short"): 2},
        )


@virtual
async def test_an_answer_from_the_cache_is_no_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        for _ in range(2):
            await services.finished(await services.submit("x", cache=True))
        task_counters = _task_counters(services)
        assert (task_counters.attempts, task_counters.accepted["short"]) == ({"a": 1}, 2)
        assert task_counters.finished == {("completed", "short"): 2}


@virtual
async def test_refusals_are_counted_by_code(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 1}) as services:
        await services.submit_script("h", [HANG])
        with pytest.raises(QueueFull):
            await services.submit("y")
        services.services.intake.overload = lambda: Overloaded("no", retry_after=1)
        with pytest.raises(Overloaded):
            services.services.intake.turn_away()
        services.services.intake.overload = lambda: None  # it has just passed
        services.services.intake.turn_away()
        assert _task_counters(services).refused == {"queue_full": 1, "overloaded": 1}


@virtual
async def test_a_refusal_of_the_disk_is_counted(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        Commits(services.services.journal.store).refuse()
        with pytest.raises(StorageUnavailable):
            await services.submit("x")
        assert _task_counters(services).refused == {"storage": 1}


# The promise --------------------------------------------------------------------------------


@virtual
async def test_the_promised_start_is_compared_with_the_real_one(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(await services.submit_script("first", [10.0, "ok"]))
        assert _task_counters(services).error.count == 1  # started at once, as promised
        await services.submit_script("slow", [30.0, "ok"])
        answer = await services.answer("behind")
        assert answer["eta_s"] == pytest.approx(10.0, abs=0.1)
        await services.finished(answer["task_id"])
        task_counters = _task_counters(services)
        assert task_counters.error.count == 3
        assert task_counters.late == pytest.approx(20.0, abs=0.2)
        assert task_counters.bias_s == pytest.approx(20.0 / 3, abs=0.1)
        assert task_counters.promises == {}
        assert task_counters.waited["short"].total == pytest.approx(30.0, abs=0.1)


@virtual
async def test_who_starts_early_counts_as_an_error_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(await services.submit_script("first", [10.0, "ok"]))
        await services.submit_script("quick", [4.0, "ok"])
        await services.finished((await services.answer("behind"))["task_id"])
        task_counters = _task_counters(services)
        assert task_counters.late == pytest.approx(-6.0, abs=0.2)
        assert task_counters.error.total == pytest.approx(6.0, abs=0.2)


@virtual
async def test_a_promise_ends_with_a_pause_and_with_the_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(await services.submit_script("x", [1.0, "ok"]))
        hanging = await services.submit_script("h", [HANG])
        while await services.state(hanging) is not State.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        paused, cancelled = await services.submit("p"), await services.submit("c")
        assert _task_counters(services).promises.keys() == {paused, cancelled}
        await services.services.control.pause(paused)
        await services.services.control.cancel(cancelled)
        assert _task_counters(services).promises == {}


def test_promises_are_bounded() -> None:
    task_counters = TaskCounters()
    with patch.object(module, "PROMISES", 3):
        for n in range(10):
            task_counters.promised(Task(Request(f"t{n}"), queued_at=AT), 1.0)
        task_counters.promised(Task(Request("none")), None)
    assert list(task_counters.promises) == ["t7", "t8", "t9"]
    assert task_counters.bias_s is None


def test_text_is_no_change() -> None:
    task_counters, task = TaskCounters(), Task(Request("t"), version=3, starts=1)
    task_counters.changed(task, replace(task, seq=9, starts=5))
    assert task_counters.attempts == {}


@pytest.mark.parametrize(
    ("first_s", "bounds"),
    [
        (0.001, module.SUBMIT_S),
        (0.01, module.WAIT_S),
        (0.05, module.ERROR_S),
        (0.0005, module.COMMIT_S),
    ],
)
def test_the_smallest_values_have_a_bucket_and_the_bounds_rise(
    first_s: float, bounds: tuple[float, ...]
) -> None:
    histogram = Histogram(bounds)
    for value in (first_s, *bounds):
        histogram.observe(value)
    assert histogram.counts == [2, *[1] * (len(bounds) - 1), 0]


def test_a_start_nearly_as_promised_counts_as_the_smallest_error() -> None:
    task_counters, task = TaskCounters(), Task(Request("t"), queued_at=AT, version=2)
    task_counters.promised(task, 1.0)
    task_counters.changed(task, replace(task, version=3, starts=1, started_at=AT + 1050))
    assert task_counters.error.buckets()[0] == ("0.05", 1)
