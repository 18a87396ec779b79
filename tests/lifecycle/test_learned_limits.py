import asyncio
from pathlib import Path

from asyncsvc.errors import ConcurrencyLimited, RateLimited
from asyncsvc.lifecycle.restart import EVERY_S, KIND, learned
from tests.builders import Commits
from tests.engine_services import EngineServices, model
from tests.scripted import HEAD, ScriptedClient
from tests.virtual_time import virtual

AUTO = {"a": model(concurrency="auto", rpm="auto")}


async def refuse(services: EngineServices, prompt: str = "x") -> None:
    """A task that is refused once, beside another, and then completes."""
    other = await services.submit_script(f"beside {prompt}", [HEAD, 1.0, "ok"])
    await asyncio.sleep(0.5)
    refused = ConcurrencyLimited("too many at once")
    task_id = await services.submit_script(prompt, [refused], ["ok"])
    for waited in (task_id, other):
        await services.finished(waited)


def limits(services: EngineServices) -> tuple[int, int]:
    gate = services.services.catalogue.upstreams[0].gate
    return gate.concurrency, gate.window.limit


@virtual
async def test_what_was_learned_outlives_the_process(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AUTO) as services:
        assert limits(services) == (2, 30)
        await refuse(services)
        assert limits(services) == (1, 30)
        await asyncio.sleep(EVERY_S + 1)
        await services.restart()
        assert limits(services) == (1, 30)


@virtual
async def test_a_stop_writes_what_is_not_written_yet(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AUTO) as services:
        await refuse(services)
        await services.close()
        await services.reopen()
        assert limits(services) == (1, 30)


@virtual
async def test_many_changes_are_one_write(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AUTO) as services:
        commits = Commits(services.services.journal.store)
        gate = services.services.catalogue.upstreams[0].gate
        for _ in range(50):
            services.services.catalogue.listener.on_learn(gate)
            await asyncio.sleep(0.05)
        await asyncio.sleep(EVERY_S * 3)
        kept = [row for batch in commits.batches for row in batch.values if row[0] == KIND]
        assert len(kept) == 1
        assert not commits.batches[0].durable


@virtual
async def test_a_disk_that_refuses_costs_only_the_memory(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AUTO) as services:
        commits = Commits(services.services.journal.store)
        commits.refuse()
        catalogue = services.services.catalogue
        catalogue.listener.on_learn(catalogue.gates[0])
        await asyncio.sleep(EVERY_S + 1)
        catalogue.listener.on_learn(catalogue.gates[0])
        await services.close()
        await services.reopen()
        assert await learned(services.services.journal.store) == {}


@virtual
async def test_limits_that_were_set_are_not_written(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient()) as services:
        task_id = await services.submit_script("x", [RateLimited("slow")], ["ok"])
        await services.finished(task_id)
        await asyncio.sleep(EVERY_S + 1)
        assert await services.services.journal.store.persisted_values(KIND) == []


@virtual
async def test_the_pool_is_staffed_for_what_may_come(tmp_path: Path) -> None:
    client = ScriptedClient([HEAD, 10.0, "ok"])
    async with EngineServices(tmp_path, {"a": model(concurrency="auto")}, client) as services:
        await services.submit_many([str(n) for n in range(40)])
        await asyncio.sleep(5)
        assert (len(client.running), limits(services)[0]) == (32, 32)
