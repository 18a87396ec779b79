"""A free account slot left free for a faster one, and the reserved slot of real-time work."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import RateLimited, UpstreamAuth
from asyncsvc.limits.account import AccountLimiter
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import loop, virtual

FAST, SLOW = 2.0, 20.0
PAIR = {"fast": model(), "slow": model(concurrency=2), "other": model(good_at=["reasoning"])}
BOTH = {"simple": ["slow", "fast"]}


def _at_each(services: EngineServices) -> dict[str, list[str]]:
    """The prompts that each model was asked."""
    found: dict[str, list[str]] = {}
    for call in services.client.calls:
        found.setdefault(call.name, []).append(call.prompt)
    return found


def _gate(services: EngineServices, name: str) -> AccountLimiter:
    return services.services.catalogue.of(name)[0].gate


def _pair(folder: Path, **sections: Any) -> EngineServices:
    services = EngineServices(folder, PAIR, ScriptedClient(), routes=BOTH, **sections)
    services.client.of_model = {"fast": [FAST, "ok"], "slow": [SLOW, "ok"]}
    return services


async def _measured(services: EngineServices, *names: str) -> None:
    """Let the service find out how long they take."""
    for name in names:
        await services.finished(await services.submit("measured", model=name))
    services.client.calls.clear()


@virtual
async def test_a_task_waits_for_the_faster_model_while_the_slower_is_free(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        ids = [await services.submit(f"hello {n}") for n in range(2)]
        for task_id in ids:
            await services.finished(task_id)
        assert _at_each(services) == {"fast": ["hello 0", "hello 1"]}


@virtual
async def test_without_balance_the_order_decides_and_none_waits(tmp_path: Path) -> None:
    async with _pair(tmp_path, routing={"balance": False}) as services:
        await _measured(services, "fast", "slow")
        ids = [await services.submit(f"hello {n}") for n in range(2)]
        for task_id in ids:
            await services.finished(task_id)
        assert _at_each(services) == {"slow": ["hello 0", "hello 1"]}


@virtual
async def test_what_was_never_measured_is_not_waited_for(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast")
        ids = [await services.submit(f"hello {n}") for n in range(3)]
        for task_id in ids:
            await services.finished(task_id)
        assert sorted(_at_each(services)) == ["fast", "slow"]


@virtual
async def test_a_free_model_is_used_after_the_time_by_which_it_is_slower(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        services.client.on("hello stuck", [HANG])
        await services.submit("hello stuck")
        start = loop().time()
        last = await services.submit("hello last")
        await services.finished(last)
        call = services.client.of("hello last")[0]
        assert (call.name, round(call.started - start, 2)) == ("slow", SLOW - FAST)


@virtual
async def test_a_hold_back_begins_again_when_no_task_has_waited_meanwhile(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        services.client.on("hello stuck", [HANG])
        await services.submit("hello stuck")
        first = await services.submit("hello first")
        await asyncio.sleep(10)
        await services.services.control.cancel(first)
        start = loop().time()
        await services.finished(await services.submit("hello last"))
        assert round(services.client.of("hello last")[0].started - start, 2) == SLOW - FAST


@virtual
async def test_where_many_wait_the_slower_is_used_at_once(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        start = loop().time()
        await services.submit_many([f"hello {n}" for n in range(9)])
        await asyncio.sleep(0.1)
        assert {name: len(prompts) for name, prompts in _at_each(services).items()} == {
            "fast": 1,
            "slow": 2,
        }
        assert since(start) < 1


@virtual
async def test_a_task_that_can_go_nowhere_else_takes_what_is_left_free(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        services.client.on("hello stuck", [HANG])
        await services.submit_many(["hello stuck", "hello waits"])
        start = loop().time()
        await services.finished(await services.submit("x", model="slow"))
        assert (_at_each(services)["slow"][0], since(start)) == ("x", SLOW)


@virtual
async def test_a_dry_run_names_the_faster_one_and_starts_no_clock(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        services.client.on("hello stuck", [HANG])
        await services.submit("hello stuck")
        task = await services.task(await services.submit("hello waits"))
        assert services.services.scheduler.explain(task.request, task.queued_at)["chosen"] == "fast"


@virtual
async def test_a_faster_model_out_of_service_is_not_waited_for(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        services.client.on("hello stuck", [HANG])
        await services.submit("hello stuck")
        last = await services.submit("hello last")
        await asyncio.sleep(1)
        _gate(services, "fast").disable(UpstreamAuth("bad key"))
        start = loop().time()
        await services.finished(last)
        assert since(start) == SLOW


RESERVED = {
    "quick": model(good_at=["realtime", "simple"]),
    "wide": model(good_at=["simple"], concurrency=2),
}


@pytest.mark.parametrize(("waiting", "taken"), [(1, 0), (12, 1)])
def test_the_slot_of_real_time_work_is_lent_where_many_wait(
    tmp_path: Path, waiting: int, taken: int
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, RESERVED) as services:
            services.client.of_model = {"quick": [2.0, "ok"], "wide": [3.0, "ok"]}
            await _urgent(services, gap_s=0.5)
            ids = await _one_by_one(services, waiting + 2)
            await asyncio.sleep(0.1)
            assert len(_at_each(services).get("quick", [])) == taken
            if taken:
                borrower = _at_each(services)["quick"][0]
                task = await services.finished(ids[borrower])
                route = task.route or {}
                assert route["why"].startswith("the reserved slot:")
                assert route["candidates"][0]["eligible"] is True

    check()


@virtual
async def test_real_time_work_goes_first_when_its_slot_comes_back(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, RESERVED) as services:
        services.client.of_model = {"quick": [2.0, "ok"], "wide": [3.0, "ok"]}
        await _urgent(services, gap_s=0.5)
        services.client.calls.clear()
        await _one_by_one(services, 15)
        await asyncio.sleep(1)
        await services.submit("/fast y")
        await asyncio.sleep(2)
        first, second = _at_each(services)["quick"][:2]
        assert (first.split()[0], second) == ("hello", "/fast y")


@virtual
async def test_no_slot_is_kept_free_where_only_such_slots_could_serve(tmp_path: Path) -> None:
    single = model(good_at=["realtime", "simple"])
    async with EngineServices(tmp_path, {"quick": single, "second": single}) as services:
        await services.finished(await services.submit("/fast y"))
        start = loop().time()
        await services.finished(await services.submit("hello"))
        assert services.client.of("hello")[0].started == start


async def _urgent(services: EngineServices, gap_s: float) -> None:
    """Real-time tasks one after another, and a measurement of the others."""
    await _measured(services, "wide")
    for n in range(4):
        await services.finished(await services.submit(f"/fast {n}"))
        await asyncio.sleep(gap_s)
    services.client.calls.clear()


async def _one_by_one(services: EngineServices, count: int) -> dict[str, str]:
    """The ids by prompt. A moment after each the next worker stands at its gate."""
    ids = {}
    for n in range(count):
        ids[f"hello {n}"] = await services.submit(f"hello {n}")
        await asyncio.sleep(MOMENT)
    return ids


@virtual
async def test_a_faster_model_that_rests_for_longer_is_not_waited_for(tmp_path: Path) -> None:
    async with _pair(tmp_path) as services:
        await _measured(services, "fast", "slow")
        _gate(services, "fast").failed(RateLimited("slow down", retry_after=SLOW + FAST))
        start = loop().time()
        await services.finished(await services.submit("hello"))
        call = services.client.of("hello")[0]
        assert (call.name, call.started) == ("slow", start)
