import asyncio
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.scheduling import scheduler
from asyncsvc.scheduling.candidates import Options
from asyncsvc.scheduling.fair_queue import LANE_SLACK_S, Line, Pools
from asyncsvc.scheduling.timers import Timers
from asyncsvc.tasks.state import Request, State, Task
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import ScriptedClient
from tests.virtual_time import virtual

CHOICES = [Options(str(number), ()) for number in range(3)]


def task(n: int, lane: str, priority: int, owner: str | None) -> Task:
    request = Request(f"t{n}", lane=lane, priority=priority, owner=owner)
    return Task(request, queued_at=1000 * n, n=n)


tasks = st.lists(
    st.tuples(
        st.sampled_from(list(LANE_SLACK_S)),
        st.integers(0, 9),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from(CHOICES),
        st.sampled_from([None, *CHOICES]),
    ),
    max_size=30,
)
Plan = tuple[str, int, str | None, Options, Options | None]


def order(pools: Pools) -> dict[tuple[str | None, str], list[str]]:
    """Who goes when, in each pool's lanes."""
    return {
        (pool.options.name, name): [pools.take(lane).task_id for _ in range(len(lane))]
        for pool in sorted(pools, key=lambda pool: pool.options.name or "")
        for name, lane in pool.lanes.items()
        if len(lane)
    }


@given(tasks, st.sets(st.integers(0, 29)))
def test_regrouped_tasks_wait_as_if_they_had_come_with_these_options(
    plans: list[Plan], left: set[int]
) -> None:
    moved, fresh = Pools({}), Pools({"a": 2.0})
    later: dict[str, Options | None] = {}
    for n, (lane, priority, owner, before, after) in enumerate(plans):
        moved.enter(one := task(n, lane, priority, owner), before)
        if n in left:
            moved.leave(one.id)
            continue
        later[one.id] = after
        if after is not None:
            fresh.enter(one, after)
    moved.regroup({"a": 2.0}, later.get)
    assert len(moved) == len(fresh)
    assert [task_id in moved for task_id in later] == [task_id in fresh for task_id in later]
    assert order(moved) == order(fresh)
    assert len(moved) == 0


@virtual
async def test_a_reload_moves_whole_queues_and_sorts_in_no_task_one_by_one(
    tmp_path: Path,
) -> None:
    two = {"a": model(), "b": model()}
    async with EngineServices(tmp_path, two, ScriptedClient([10.0, "ok"])) as services:
        ids = await services.submit_many([f"{n}" for n in range(1000)])
        ids += await services.submit_many([f"named {n}" for n in range(1000)], model="a")
        await asyncio.sleep(MOMENT)
        was_waiting = len(services.services.scheduler)
        assert was_waiting >= 1990
        with patch.object(Line, "enter", side_effect=AssertionError("one by one")):
            await services.reload({"b": model(), "c": model(), "a": model(concurrency=2)})
            await asyncio.sleep(MOMENT)
        assert (
            len(services.services.scheduler) == was_waiting - 2
        )  # c and a have taken one more each
        assert len(services.client.running) == 4


@virtual
async def test_no_step_of_a_reload_sets_more_than_some_alarms(tmp_path: Path) -> None:
    client = ScriptedClient([1000.0, "ok"])
    async with EngineServices(tmp_path, {"a": model()}, client, queue={"ttl_s": 900.0}) as services:
        ids = await services.submit_many([f"{n}" for n in range(300)])
        await asyncio.sleep(MOMENT)
        steps: list[int] = []
        watch = Timers.after

        def watched(self: Timers, name: str, seconds: float, call: Callable[[str], None]) -> None:
            steps[-1] += 1
            watch(self, name, seconds, call)

        async def turns() -> None:
            while True:
                steps.append(0)
                await asyncio.sleep(0)

        turning = asyncio.create_task(turns())
        await asyncio.sleep(0)
        with (
            patch.object(Timers, "after", watched),
            patch.object(scheduler, "ALARMS_AT_ONCE", 50),
        ):
            await services.reload({"a": model()}, queue={"ttl_s": 100.0})
            for _ in range(100):
                await asyncio.sleep(0)
        turning.cancel()
        assert (max(steps), sum(steps)) == (50, len(ids) - 1)
        await asyncio.sleep(100)
        states = {(await services.task(task_id)).state for task_id in ids[1:]}
        assert states == {State.FAILED}


@pytest.mark.parametrize("owner", [None, "a"])
def test_a_queue_that_was_taken_over_goes_on_as_a_queue(owner: str | None) -> None:
    pools = Pools({})
    for n in (3, 1, 2):
        pools.enter(task(n, "short", 5, owner), CHOICES[0])
    pools.regroup({}, lambda _: CHOICES[1])
    pools.enter(task(0, "short", 5, owner), CHOICES[1])
    assert pools.leave("t2")
    assert not pools.leave("t2")
    assert order(pools) == {("1", "short"): ["t0", "t1", "t3"]}
