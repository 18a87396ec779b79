"""Embedding tasks of more texts than one call takes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import StorageUnavailable, UpstreamOverloaded
from asyncsvc.providers.tokens import summed
from asyncsvc.storage.database import Database
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.virtual_time import loop, virtual

TEXTS = [f"{n:03}" + "x" * (n % 7) for n in range(100)]
BATCHES = ["000", "032xxxx", "064x", "096xxxxx"]
"""The first text of each call of 32."""


def services(folder: Path, **fields: Any) -> EngineServices:
    return EngineServices(folder, {"e": model(type="embedding", preset="siliconflow", **fields)})


async def embed(services: EngineServices, **fields: Any) -> str:
    return await services.submit_fields(type="embedding", input=TEXTS, **fields)


@virtual
async def test_batches_come_back_as_one_list_in_order(tmp_path: Path) -> None:
    async with services(tmp_path) as running:
        running.client.usage = {"prompt_tokens": 5, "total_tokens": 6}
        task_id = await embed(running)
        task = await running.finished(task_id)
        vectors = [[float(len(text))] for text in TEXTS]
        assert await running.result(task_id) == str(vectors).replace(" ", "")
        assert running.client.prompts == BATCHES
        assert task.usage == {"prompt_tokens": 20, "total_tokens": 24}
        assert (task.attempts, running.services.catalogue.upstreams[0].gate.busy) == (1, 0)


@virtual
async def test_each_batch_counts_for_the_rate(tmp_path: Path) -> None:
    async with services(tmp_path, rpm=3) as running:
        task = await running.finished(await embed(running))
        assert task.state is State.COMPLETED
        starts = [call.started for call in running.client.calls]
        assert starts[:3] == [0, 0, 0]
        assert starts[3] == pytest.approx(60, abs=3)
        assert task.latency == pytest.approx(60, abs=3)
        service_s = running.services.catalogue.upstreams[0].gate.statistics.service_s
        assert service_s == pytest.approx(0, abs=0.1), "waiting is no work"


@virtual
async def test_each_batch_is_known_after_a_restart(tmp_path: Path) -> None:
    async with services(tmp_path, rpm=10) as running:
        await running.finished(await embed(running))
        await running.restart()
        gate = running.services.catalogue.upstreams[0].gate
        assert gate.window.used(loop().time()) == 4


@virtual
async def test_one_call_at_a_time(tmp_path: Path) -> None:
    async with services(tmp_path, concurrency=5) as running:
        for prompt in BATCHES:
            running.client.on(prompt, [1.0])
        task = await running.finished(await embed(running))
        assert task.latency == 4
        assert [call.started for call in running.client.calls] == [0, 1, 2, 3]


@virtual
async def test_a_batch_that_fails_is_asked_for_again_with_the_others(tmp_path: Path) -> None:
    async with services(tmp_path) as running:
        running.client.on(BATCHES[1], [UpstreamOverloaded("x")], ["ok"])
        task = await running.finished(await embed(running))
        assert (task.state, task.attempts) == (State.COMPLETED, 2)
        assert running.client.prompts == [*BATCHES[:2], *BATCHES]


@virtual
async def test_cancelled_between_two_batches(tmp_path: Path) -> None:
    async with services(tmp_path, rpm=2) as running:
        task_id = await embed(running)
        await asyncio.sleep(5)
        await running.services.control.cancel(task_id)
        gate = running.services.catalogue.upstreams[0].gate
        assert (await running.state(task_id), len(running.client.calls)) == (State.CANCELLED, 2)
        assert (gate.busy, gate.window.used(loop().time())) == (0, 2)


@virtual
async def test_a_task_may_not_wait_for_its_batches_for_ever(tmp_path: Path) -> None:
    async with services(tmp_path, rpm=1) as running:
        assert await running.code(await embed(running, timeout_s=90, max_retries=0)) == "timeout"
        assert len(running.client.calls) == 2


@virtual
async def test_no_batch_is_asked_for_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services(tmp_path, rpm=50) as running:
        running.client.on(BATCHES[0], [1.0])
        task_id = await embed(running)
        await asyncio.sleep(0.5)
        with monkeypatch.context() as patch:

            async def refuse(*_: object) -> None:
                raise StorageUnavailable("disk full")

            patch.setattr(Database, "commit", refuse)
            await asyncio.sleep(5)
            assert running.client.prompts == BATCHES[:1]
        task = await running.finished(task_id)
        assert (task.state, task.attempts) == (State.COMPLETED, 1)
        assert running.client.prompts == [BATCHES[0], *BATCHES]


@pytest.mark.parametrize(
    ("usages", "total"),
    [
        ([{"total_tokens": 1, "details": {"a": 1}}], {"total_tokens": 1, "details": {"a": 1}}),
        (
            [{"total_tokens": 1, "details": {"a": 1}}, {"total_tokens": 2, "estimated": True}],
            {"total_tokens": 3, "estimated": True},
        ),
        ([{"n": 1, "m": True, "x": None}, {"k": 2}], {"n": 1, "k": 2}),
    ],
)
def test_usage_is_summed(usages: list[dict[str, Any]], total: dict[str, Any]) -> None:
    assert summed(usages) == total
