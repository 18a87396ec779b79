"""A free seat left free for a faster one, and the slot of real-time work lent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import UpstreamAuth
from tests.engine_house import MOMENT, EngineHouse, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import loop, virtual

FAST, SLOW = 2.0, 20.0
PAIR = {"fast": model(), "slow": model(concurrency=2), "other": model(good_at=["reasoning"])}
BOTH = {"simple": ["slow", "fast"]}


def _at_each(house: EngineHouse) -> dict[str, list[str]]:
    """The prompts that each model was asked."""
    found: dict[str, list[str]] = {}
    for call in house.client.calls:
        found.setdefault(call.name, []).append(call.prompt)
    return found


def _pair(folder: Path, **sections: Any) -> EngineHouse:
    house = EngineHouse(folder, PAIR, ScriptedClient(), routes=BOTH, **sections)
    house.client.of_model = {"fast": [FAST, "ok"], "slow": [SLOW, "ok"]}
    return house


async def _measured(house: EngineHouse, *names: str) -> None:
    """Let the service find out how long they take."""
    for name in names:
        await house.finished(await house.submit("measured", model=name))
    house.client.calls.clear()


@virtual
async def test_a_task_waits_for_the_faster_model_while_the_slower_is_free(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        ids = [await house.submit(f"hello {n}") for n in range(2)]
        for task_id in ids:
            await house.finished(task_id)
        assert _at_each(house) == {"fast": ["hello 0", "hello 1"]}


@virtual
async def test_without_balance_the_order_decides_and_none_waits(tmp_path: Path) -> None:
    async with _pair(tmp_path, routing={"balance": False}) as house:
        await _measured(house, "fast", "slow")
        ids = [await house.submit(f"hello {n}") for n in range(2)]
        for task_id in ids:
            await house.finished(task_id)
        assert _at_each(house) == {"slow": ["hello 0", "hello 1"]}


@virtual
async def test_what_was_never_measured_is_not_waited_for(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast")
        ids = [await house.submit(f"hello {n}") for n in range(3)]
        for task_id in ids:
            await house.finished(task_id)
        assert sorted(_at_each(house)) == ["fast", "slow"]


@virtual
async def test_a_free_model_is_used_after_the_time_by_which_it_is_slower(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        house.client.on("hello stuck", [HANG])
        await house.submit("hello stuck")
        start = loop().time()
        last = await house.submit("hello last")
        await house.finished(last)
        call = house.client.of("hello last")[0]
        assert (call.name, round(call.started - start, 2)) == ("slow", SLOW - FAST)


@virtual
async def test_its_time_begins_anew_when_nobody_has_waited_meanwhile(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        house.client.on("hello stuck", [HANG])
        await house.submit("hello stuck")
        first = await house.submit("hello first")
        await asyncio.sleep(10)
        await house.house.control.cancel(first)
        start = loop().time()
        await house.finished(await house.submit("hello last"))
        assert round(house.client.of("hello last")[0].started - start, 2) == SLOW - FAST


@virtual
async def test_where_many_wait_the_slower_is_used_at_once(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        start = loop().time()
        await house.submit_many([f"hello {n}" for n in range(9)])
        await asyncio.sleep(0.1)
        assert {name: len(prompts) for name, prompts in _at_each(house).items()} == {
            "fast": 1,
            "slow": 2,
        }
        assert since(start) < 1


@virtual
async def test_a_task_that_can_go_nowhere_else_takes_what_is_left_free(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        house.client.on("hello stuck", [HANG])
        await house.submit_many(["hello stuck", "hello waits"])
        start = loop().time()
        await house.finished(await house.submit("x", model="slow"))
        assert (_at_each(house)["slow"][0], since(start)) == ("x", SLOW)


@virtual
async def test_a_dry_run_names_the_faster_one_and_starts_no_clock(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        house.client.on("hello stuck", [HANG])
        await house.submit("hello stuck")
        task = await house.task(await house.submit("hello waits"))
        assert house.house.dispatch.explain(task.request, task.queued_at)["chosen"] == "fast"


@virtual
async def test_a_faster_model_out_of_service_is_not_waited_for(tmp_path: Path) -> None:
    async with _pair(tmp_path) as house:
        await _measured(house, "fast", "slow")
        house.client.on("hello stuck", [HANG])
        await house.submit("hello stuck")
        last = await house.submit("hello last")
        await asyncio.sleep(1)
        gate = next(s.gate for s in house.house.dispatch.seats if s.upstream.name == "fast")
        gate.disable(UpstreamAuth("bad key"))
        start = loop().time()
        await house.finished(last)
        assert since(start) == SLOW


LENT = {
    "quick": model(good_at=["realtime", "simple"]),
    "wide": model(good_at=["simple"], concurrency=2),
}


@pytest.mark.parametrize(("waiting", "lent"), [(1, 0), (12, 1)])
def test_the_slot_of_real_time_work_is_lent_where_many_wait(
    tmp_path: Path, waiting: int, lent: int
) -> None:
    @virtual
    async def check() -> None:
        async with EngineHouse(tmp_path, LENT) as house:
            house.client.of_model = {"quick": [2.0, "ok"], "wide": [3.0, "ok"]}
            await _urgent(house, gap_s=0.5)
            ids = await _one_by_one(house, waiting + 2)
            await asyncio.sleep(0.1)
            assert len(_at_each(house).get("quick", [])) == lent
            if lent:
                borrower = _at_each(house)["quick"][0]
                task = await house.finished(ids[borrower])
                route = task.route or {}
                assert route["why"].startswith("lent:")
                assert route["candidates"][0]["eligible"] is True

    check()


@virtual
async def test_real_time_work_goes_first_when_its_slot_comes_back(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, LENT) as house:
        house.client.of_model = {"quick": [2.0, "ok"], "wide": [3.0, "ok"]}
        await _urgent(house, gap_s=0.5)
        house.client.calls.clear()
        await _one_by_one(house, 15)
        await asyncio.sleep(1)
        await house.submit("/fast y")
        await asyncio.sleep(2)
        first, second = _at_each(house)["quick"][:2]
        assert (first.split()[0], second) == ("hello", "/fast y")


async def _urgent(house: EngineHouse, gap_s: float) -> None:
    """Real-time tasks one after another, and a measurement of the others."""
    await _measured(house, "wide")
    for n in range(4):
        await house.finished(await house.submit(f"/fast {n}"))
        await asyncio.sleep(gap_s)
    house.client.calls.clear()


async def _one_by_one(house: EngineHouse, count: int) -> dict[str, str]:
    """The ids by prompt. A moment after each the next worker stands at its gate."""
    ids = {}
    for n in range(count):
        ids[f"hello {n}"] = await house.submit(f"hello {n}")
        await asyncio.sleep(MOMENT)
    return ids
