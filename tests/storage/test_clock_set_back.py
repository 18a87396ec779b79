"""A wall clock that is set back: waits that stand for a duration do not grow, moments move."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from asyncsvc.clock import left_ms, rfc3339
from asyncsvc.errors import UpstreamOverloaded
from asyncsvc.tasks.state import State
from tests.builders import journal_at
from tests.engine_services import EngineServices, at_ms, model, since
from tests.hook_wire import BAD, OK, Wire, delivering, finish, until
from tests.virtual_time import loop, virtual, wall_ms

HOUR_MS = 3_600_000
DOWN = UpstreamOverloaded("down")


@pytest.mark.parametrize(
    ("due", "set_at", "now", "left"),
    [(10, 4, 4, 6), (10, 4, 9, 1), (10, 4, 11, 0), (10, 4, 1, 6), (10, 4, -1000, 6), (4, 4, 0, 0)],
)
def test_what_is_left_of_a_wait(due: int, set_at: int, now: int, left: int) -> None:
    assert left_ms(due, set_at, now) == left


@pytest.mark.parametrize("restarted", [True, False])
def test_a_retry_waits_no_longer_than_its_own_delay(tmp_path: Path, restarted: bool) -> None:
    @virtual
    async def run() -> None:
        named = UpstreamOverloaded("down", retry_after=20)
        async with EngineServices(tmp_path, retry={"base_s": 10, "max_s": 10}) as services:
            ids = [await services.submit_script("a", [DOWN], ["ok"])]
            await services.finished(await services.submit("between"))
            ids.append(await services.submit_script("named", [named], ["ok"]))
            await asyncio.sleep(0.5)
            assert {await services.state(i) for i in ids} == {State.SCHEDULED}
            services.shift_ms = -HOUR_MS
            if restarted:
                await services.restart()
            start = loop().time()
            assert [await services.code(task_id) for task_id in ids] == [None, None]
            assert since(start) <= 21

    run()


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_delay_s_is_a_duration(tmp_path: Path, restarted: bool, paused: bool) -> None:
    @virtual
    async def run() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await services.submit("x", delay_s=30)
            await asyncio.sleep(1)
            services.shift_ms = -HOUR_MS
            if paused:
                await services.services.control.pause(task_id)
            if restarted:
                await services.restart()
            if paused:
                await services.services.control.resume(task_id)
                assert await services.state(task_id) is State.SCHEDULED
            await services.finished(task_id)
            assert 29 <= since() <= 32

    run()


@pytest.mark.parametrize("restarted", [True, False])
def test_run_at_is_a_moment(tmp_path: Path, restarted: bool) -> None:
    @virtual
    async def run() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await services.submit("x", run_at=rfc3339(at_ms(30)))
            await asyncio.sleep(1)
            services.shift_ms = -HOUR_MS
            if restarted:
                await services.restart()
            await services.finished(task_id)
            assert 3600 <= since() <= 3700

    run()


@virtual
async def test_calls_made_before_fill_the_window_once_and_not_for_an_hour(tmp_path: Path) -> None:
    models = {"a": model(rpm=3, concurrency=3)}
    async with EngineServices(tmp_path, models) as services:
        for n in range(3):
            await services.finished(await services.submit(f"first {n}"))
        services.shift_ms = -HOUR_MS
        await services.restart()
        start = loop().time()
        ids = await services.submit_many([f"second {n}" for n in range(3)])
        await asyncio.sleep(50)
        assert {await services.state(i) for i in ids} == {State.PENDING}  # not one too many
        await services.restart()  # and this does not count them anew
        for task_id in ids:
            await services.finished(task_id)
        assert since(start) <= 64


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


class _Clock:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.shift_ms = 0

    def __call__(self) -> int:
        return wall_ms() + self.shift_ms


@pytest.mark.parametrize("restarted", [True, False])
def test_a_delivery_is_tried_again_after_its_own_delay(
    tmp_path: Path, wire: Wire, restarted: bool
) -> None:
    @virtual
    async def run() -> None:
        wire.replies["a"], clock = [BAD, OK], _Clock()
        async with delivering(tmp_path, now=clock) as (journal, hooks):
            await finish(journal, "t")
            await until(lambda: hooks.failures == 1, 1)
            await asyncio.sleep(1)
            clock.shift_ms = -HOUR_MS
            if not restarted:
                await until(lambda: hooks.delivered == 1, 100)
        if restarted:
            async with delivering(tmp_path, now=clock) as (_, hooks):
                await until(lambda: hooks.delivered == 1, 100)
        first, second = wire.times()
        assert second - first <= (7 if restarted else 5.5)

    run()


@pytest.mark.parametrize("set_ms", [-HOUR_MS, HOUR_MS])
def test_a_delivery_that_was_not_tried_yet_is_due_at_once(
    tmp_path: Path, wire: Wire, set_ms: int
) -> None:
    @virtual
    async def run() -> None:
        clock = _Clock()
        async with journal_at(tmp_path / "t.db", clock) as journal:
            await finish(journal, "t")
        clock.shift_ms = set_ms
        start = loop().time()
        async with delivering(tmp_path, now=clock) as (_, hooks):
            await until(lambda: hooks.delivered == 1, 100)
        assert wire.times()[0] - start <= 1

    run()


@virtual
async def _ahead_and_back(folder: Path, wire: Wire) -> None:
    """A clock that is set forward and back again is where it was."""
    wire.replies["a"], clock = [BAD, BAD, OK], _Clock()
    async with delivering(folder, now=clock) as (journal, hooks):
        clock.shift_ms = HOUR_MS
        await finish(journal, "t")
        await until(lambda: hooks.failures == 1, 1)
        clock.shift_ms = 0
        await until(lambda: hooks.delivered == 1, 1000)
    times = wire.times()
    assert [round(b - a) for a, b in pairwise(times)] == [5, 300]


def test_a_clock_that_was_ahead_while_a_delivery_failed(tmp_path: Path, wire: Wire) -> None:
    _ahead_and_back(tmp_path, wire)
