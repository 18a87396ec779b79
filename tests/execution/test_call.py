"""Calls that the disk or a client cuts, and the states of a call."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import StorageUnavailable, UpstreamOverloaded
from asyncsvc.execution.call import TRANSITIONS, CallState
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import Cause, State
from tests.engine_services import MOMENT, EngineServices, since
from tests.scripted import HANG, HEAD, Script, ScriptedClient
from tests.virtual_time import virtual

STREAM: Script = [step for n in range(10) for step in (1.0, f"{n} ")]
WHOLE = "0 1 2 3 4 5 6 7 8 9 "


@asynccontextmanager
async def _full(services: EngineServices) -> AsyncGenerator[None]:
    """The disk takes nothing meanwhile."""
    store = services.services.journal.store
    with patch.object(store, "commit", side_effect=StorageUnavailable("disk full")):
        yield


class WithDeadline(ScriptedClient):
    """A client whose calls have a deadline, as those over HTTP have."""

    async def chat(self, *given: Any, **named: Any) -> Any:
        deadline = asyncio.timeout(None)
        async with deadline:
            return await super().chat(*given, **named)


@virtual
async def test_nothing_of_a_cancelled_call_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=WithDeadline()) as services:
        task_id = await services.submit_script("x", STREAM)
        await asyncio.sleep(3.5)
        call = weakref.ref(services.services.executor.executions[task_id].call)
        gc.collect()
        gc.disable()
        try:
            await services.services.control.cancel(task_id)
            assert (await services.finished(task_id)).state is State.CANCELLED
            await asyncio.sleep(1)
            assert call() is None
        finally:
            gc.enable()


@virtual
async def test_a_stream_outlives_a_full_disk(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", STREAM)
        await asyncio.sleep(3.5)
        async with _full(services):
            await asyncio.sleep(4)
        await asyncio.sleep(1)
        assert await services.streamed(task_id) == WHOLE[: 2 * 8]
        task = await services.finished(task_id)
        assert (task.state, task.attempts, len(services.client.calls)) == (State.COMPLETED, 1, 1)
        assert await services.streamed(task_id) == await services.result(task_id) == WHOLE


@virtual
async def test_an_end_is_recorded_when_the_disk_returns(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", STREAM)
        await asyncio.sleep(5.5)
        async with _full(services):
            await asyncio.sleep(100)
            assert await services.state(task_id) is State.RUNNING
        task = await services.finished(task_id)
        assert (task.state, len(services.client.calls)) == (State.COMPLETED, 1)
        assert await services.streamed(task_id) == await services.result(task_id) == WHOLE


@virtual
async def test_a_full_disk_during_a_flood_repeats_the_call(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [1.0, *["y" * 700_000] * 4])
        await asyncio.sleep(0.5)
        async with _full(services):
            await asyncio.sleep(10)
        task = await services.finished(task_id)
        assert (task.state, task.attempts, len(services.client.calls)) == (State.COMPLETED, 1, 2)
        assert await services.streamed(task_id) == await services.result(task_id) == "y" * 2_800_000


@virtual
async def test_no_call_is_made_while_its_start_cannot_be_recorded(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        blocker = await services.submit_script("blocker", [1.0, "ok"])
        await asyncio.sleep(MOMENT)
        task_id = await services.submit("x")
        async with _full(services):
            await asyncio.sleep(60)
            assert services.client.prompts == ["blocker"]
        for each in (blocker, task_id):
            task = await services.finished(each)
            assert (task.state, task.attempts) == (State.COMPLETED, 1)


@virtual
async def test_a_body_that_cannot_be_read_is_read_later(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        journal = services.services.journal
        with patch.object(journal, "body", side_effect=StorageUnavailable("unreadable")):
            task_id = await services.submit("x")
            await asyncio.sleep(10)
            assert await services.state(task_id) is State.PENDING
        assert (await services.finished(task_id)).attempts == 1


@virtual
async def test_a_cancelled_stream_keeps_all_text_received(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", STREAM)
        await asyncio.sleep(3.5)
        async with _full(services):
            await asyncio.sleep(2)
            cancelling = asyncio.create_task(services.services.control.cancel(task_id))
            await asyncio.sleep(2)
            with pytest.raises(StorageUnavailable):
                await cancelling
        assert (await services.finished(task_id)).state is State.CANCELLED
        assert await services.streamed(task_id) == await services.result(task_id) == WHOLE[: 2 * 5]
        assert since() < 10


@virtual
async def test_a_retry_is_recorded_when_the_disk_returns(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        down = UpstreamOverloaded("down", retry_after=1)
        task_id = await services.submit_script("x", [1.0, down], ["ok"])
        await asyncio.sleep(0.5)
        async with _full(services):
            await asyncio.sleep(30)
        task = await services.finished(task_id)
        assert (task.state, task.attempts) == (State.COMPLETED, 2)


@pytest.mark.parametrize(
    ("cause", "state", "attempts"),
    [
        (Cause.INTERRUPTED, State.PENDING, 0),
        (Cause.PAUSED, State.PAUSED, 0),
        (Cause.CANCELLED, State.CANCELLED, 1),
    ],
)
def test_a_stop_during_the_start_leaves_no_task_running(
    tmp_path: Path, cause: Cause, state: State, attempts: int
) -> None:
    plain = Database.commit

    async def slow(self: Database, batch: Commit) -> None:
        await asyncio.sleep(10)
        await plain(self, batch)

    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await services.submit("x")
            with patch.object(Database, "commit", slow):
                await asyncio.sleep(5)
                assert await services.state(task_id) is State.PENDING
                services.services.scheduler.stop()
                assert await services.services.executor.stop(task_id, cause)
                await asyncio.sleep(60)
            task = await services.task(task_id)
            assert (task.state, task.attempts, services.client.calls) == (state, attempts, [])

    check()


@pytest.mark.parametrize("state", CallState)
def test_no_state_follows_closed_and_every_state_may_close(state: CallState) -> None:
    assert state not in TRANSITIONS[CallState.CLOSED]
    if state is not CallState.CLOSED:
        assert CallState.CLOSED in TRANSITIONS[state]


@virtual
async def test_a_call_goes_through_its_states_and_refuses_others(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [1.0, HEAD, "a", HANG])
        await asyncio.sleep(0.5)
        call = services.services.executor.executions[task_id].call
        assert (call.state, call.begun, call.open) == (CallState.STARTED, False, True)
        await asyncio.sleep(1)
        assert (call.state, call.begun, call.open) == (CallState.STREAMING, True, True)
        with pytest.raises(RuntimeError, match="cannot go from streaming to prepared"):
            call.move(CallState.PREPARED)
        assert await services.services.executor.stop(task_id, Cause.CANCELLED)
        assert (call.state, call.begun, call.open) == (CallState.CLOSED, True, False)
