import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.execution.execution import Executor
from asyncsvc.execution.recorder import Recorder
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.tasks.state import State, Task
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import ScriptedClient
from tests.virtual_time import virtual

plain_run = Executor.run


class _Dying:
    """Executor.run that dies the first times, before or after the task has run."""

    def __init__(self, times: int = 1, late: bool = False) -> None:
        self.left = times
        self.late = late

    async def run(self, executor: Executor, *given: Any) -> None:
        self.left -= 1
        dying = self.left >= 0
        if self.late or not dying:
            await plain_run(executor, *given)
        if dying:
            raise RuntimeError("a worker dies")


def _dying(monkeypatch: pytest.MonkeyPatch, times: int = 1, late: bool = False) -> None:
    dying = _Dying(times, late)

    async def run(self: Executor, *given: Any) -> None:
        await dying.run(self, *given)

    monkeypatch.setattr(Executor, "run", run)


def test_a_failed_worker_is_replaced_and_its_task_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dying(monkeypatch)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task = await services.finished(await services.submit("x"))
            assert (task.state, task.attempts) == (State.COMPLETED, 2)
            assert services.services.pool.restarts == 1
            assert services.services.catalogue.upstreams[0].gate.busy == 0

    check()


def test_a_task_that_fails_its_workers_fails_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dying(monkeypatch, times=100)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            for allowed in (0, 2):
                task = await services.finished(await services.submit("x", max_retries=allowed))
                assert task.error is not None
                assert task.error["code"] == "internal"
                assert task.attempts == allowed + 1

    check()


def test_a_worker_that_fails_after_the_end_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dying(monkeypatch, late=True)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            for prompt in "xy":
                await services.finished(await services.submit(prompt))
            await asyncio.sleep(60)
            assert services.client.prompts == ["x", "y"]
            assert services.services.pool.restarts == 1

    check()


def test_a_running_task_whose_worker_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[int] = []

    async def record(self: Recorder, *args: Any) -> Task | None:
        if not died:
            died.append(1)
            raise RuntimeError("a worker dies")
        return await plain(self, *args)

    plain = Recorder.write
    monkeypatch.setattr(Recorder, "write", record)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task = await services.finished(await services.submit("x"))
            assert (task.state, task.attempts) == (State.COMPLETED, 2)
            assert services.client.prompts == ["x", "x"]

    check()


def test_a_task_that_fails_with_its_worker_keeps_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = AsyncMock(side_effect=RuntimeError("a worker dies"))
    monkeypatch.setattr(Recorder, "write", record)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await services.submit_script("x", ["so far", 1.0], max_retries=0)
            assert await services.code(task_id) == "internal"
            assert await services.result(task_id) == await services.streamed(task_id) == "so far"

    check()


def test_a_task_is_handed_back_when_the_disk_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dying(monkeypatch)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            store = services.services.journal.store
            task_id = await services.submit("x")
            with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
                await asyncio.sleep(30)
            assert (await services.finished(task_id)).state is State.COMPLETED

    check()


def test_a_task_cancelled_while_its_worker_fails_stays_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:

            async def run(self: Executor, task_id: str, *_: object) -> None:
                cancelling = asyncio.create_task(services.services.control.cancel(task_id))
                await asyncio.wait({cancelling}, timeout=0)
                raise RuntimeError("a worker dies")

            monkeypatch.setattr(Executor, "run", run)
            task = await services.finished(await services.submit("x"))
            assert task.state is State.CANCELLED

    check()


@virtual
async def test_a_fault_at_the_gate_costs_no_task(tmp_path: Path) -> None:
    plain = AccountLimiter.acquire
    died: list[int] = []

    async def acquire(self: AccountLimiter) -> Permit:
        if not died:
            died.append(1)
            raise RuntimeError("a gate breaks")
        return await plain(self)

    with patch.object(AccountLimiter, "acquire", acquire):
        async with EngineServices(tmp_path) as services:
            assert (await services.finished(await services.submit("x"))).state is State.COMPLETED
            assert services.services.pool.restarts == 1


@virtual
async def test_as_many_run_at_once_as_the_account_takes(tmp_path: Path) -> None:
    client = ScriptedClient([10.0, "ok"])
    async with EngineServices(tmp_path, {"a": model(concurrency=3)}, client) as services:
        ids = await services.submit_many([str(n) for n in range(7)])
        await asyncio.sleep(MOMENT)
        assert len(client.running) == 3
        for task_id in ids:
            await services.finished(task_id)
        starts = sorted(round(call.started) for call in client.calls)
        assert starts == [0, 0, 0, 10, 10, 10, 20]


@virtual
async def test_closing_the_service_gives_every_permit_back(tmp_path: Path) -> None:
    client = ScriptedClient([1000.0, "ok"])
    services = EngineServices(tmp_path, {"a": model(concurrency=3)}, client)
    async with services:
        await services.submit("x")
        await asyncio.sleep(1)
        gate = services.services.catalogue.upstreams[0].gate
        assert gate.busy == 1
    assert gate.busy == 0
    assert client.calls[0].cancelled
