import asyncio
from pathlib import Path

from asyncsvc.errors import ConcurrencyLimited, RateLimited
from asyncsvc.lifecycle.learned_limits import EVERY_S, KIND, learned
from tests.builders import Commits
from tests.engine_house import EngineHouse, model
from tests.scripted import HEAD, ScriptedClient
from tests.virtual_time import virtual

AUTO = {"a": model(concurrency="auto", rpm="auto")}


async def refuse(house: EngineHouse, prompt: str = "x") -> None:
    """A task that is refused once, beside another, and then completes."""
    other = await house.submit_script(f"beside {prompt}", [HEAD, 1.0, "ok"])
    await asyncio.sleep(0.5)
    refused = ConcurrencyLimited("too many at once")
    task_id = await house.submit_script(prompt, [refused], ["ok"])
    for waited in (task_id, other):
        await house.finished(waited)


def limits(house: EngineHouse) -> tuple[int, int]:
    gate = house.house.catalogue.upstreams[0].gate
    return gate.concurrency, gate.window.limit


@virtual
async def test_what_was_learned_outlives_the_process(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AUTO) as house:
        assert limits(house) == (2, 30)
        await refuse(house)
        assert limits(house) == (1, 30)
        await asyncio.sleep(EVERY_S + 1)
        await house.restart()
        assert limits(house) == (1, 30)


@virtual
async def test_a_stop_writes_what_is_not_written_yet(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AUTO) as house:
        await refuse(house)
        await house.close()
        await house.reopen()
        assert limits(house) == (1, 30)


@virtual
async def test_many_changes_are_one_write(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AUTO) as house:
        commits = Commits(house.house.journal.store)
        gate = house.house.catalogue.upstreams[0].gate
        for _ in range(50):
            gate.on_learn()
            await asyncio.sleep(0.05)
        await asyncio.sleep(EVERY_S * 3)
        kept = [row for batch in commits.batches for row in batch.kept if row[0] == KIND]
        assert len(kept) == 1
        assert not commits.batches[0].durable


@virtual
async def test_a_disk_that_refuses_costs_only_the_memory(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, AUTO) as house:
        commits = Commits(house.house.journal.store)
        commits.refuse()
        house.house.catalogue.upstreams[0].gate.on_learn()
        await asyncio.sleep(EVERY_S + 1)
        house.house.catalogue.upstreams[0].gate.on_learn()
        await house.close()
        await house.reopen()
        assert await learned(house.house.journal.store) == {}


@virtual
async def test_limits_that_were_set_are_not_written(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient()) as house:
        task_id = await house.submit_script("x", [RateLimited("slow")], ["ok"])
        await house.finished(task_id)
        await asyncio.sleep(EVERY_S + 1)
        assert await house.house.journal.store.kept(KIND) == []


@virtual
async def test_the_pool_is_staffed_for_what_may_come(tmp_path: Path) -> None:
    client = ScriptedClient([HEAD, 10.0, "ok"])
    async with EngineHouse(tmp_path, {"a": model(concurrency="auto")}, client) as house:
        await house.submit_many([str(n) for n in range(40)])
        await asyncio.sleep(5)
        assert (len(client.running), limits(house)[0]) == (32, 32)
