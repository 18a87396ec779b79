import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncsvc.errors import (
    IllegalTransition,
    QueueFull,
    RateLimited,
    TaskNotFound,
    UpstreamRejected,
)
from asyncsvc.intake.commands import Control
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State, Task
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, ScriptedClient
from tests.virtual_time import loop, virtual

Prepare = Callable[[EngineServices], Awaitable[str]]


async def _scheduled(services: EngineServices) -> str:
    return await services.submit("x", delay_s=100)


async def _pending(services: EngineServices) -> str:
    await services.submit_script("busy", [50.0, "ok"], priority=9)
    task_id = await services.submit("x")
    await asyncio.sleep(MOMENT)
    return task_id


async def _running(services: EngineServices) -> str:
    task_id = await services.submit_script("x", ["some ", 30.0, "more"])
    await asyncio.sleep(1)
    return task_id


async def _paused(services: EngineServices) -> str:
    task_id = await _running(services)
    await services.services.control.pause(task_id)
    return task_id


async def _completed(services: EngineServices) -> str:
    task_id = await services.submit("x")
    await services.finished(task_id)
    return task_id


async def _failed(services: EngineServices) -> str:
    task_id = await services.submit_script("x", [UpstreamRejected("no")])
    await services.finished(task_id)
    return task_id


async def _cancelled(services: EngineServices) -> str:
    task_id = await _running(services)
    await services.services.control.cancel(task_id)
    return task_id


UNFINISHED: list[Prepare] = [_scheduled, _pending, _running, _paused]
FINISHED: list[Prepare] = [_completed, _failed, _cancelled]
LEGAL: dict[str, list[Prepare]] = {
    "cancel": UNFINISHED,
    "pause": [_scheduled, _pending, _running],
    "resume": [_paused],
    "retry": FINISHED,
    "delete": FINISHED,
}
ILLEGAL = [(v, p) for v, good in LEGAL.items() for p in UNFINISHED + FINISHED if p not in good]


async def _do(services: EngineServices, verb: str, task_id: str) -> Task | None:
    found: Task | None = await getattr(services.services.control, verb)(task_id)
    return found


@pytest.mark.parametrize(("verb", "prepare"), ILLEGAL)
def test_what_is_illegal_changes_nothing(tmp_path: Path, verb: str, prepare: Prepare) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await prepare(services)
            before, events = await services.task(task_id), await services.events(task_id)
            with pytest.raises(IllegalTransition):
                await _do(services, verb, task_id)
            assert await services.task(task_id) == before
            assert await services.events(task_id) == events
            if prepare is _running:
                assert services.client.running == ["x"]

    check()


@pytest.mark.parametrize("verb", LEGAL)
def test_an_unknown_task_is_not_found(tmp_path: Path, verb: str) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            with pytest.raises(TaskNotFound):
                await _do(services, verb, "no-such-task")

    check()


@pytest.mark.parametrize("prepare", UNFINISHED)
def test_what_is_cancelled_is_never_called(tmp_path: Path, prepare: Prepare) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await prepare(services)
            task = await services.services.control.cancel(task_id)
            assert task.state is State.CANCELLED
            assert task.finished_at == services.now()
            calls = len(services.client.of("x"))
            await asyncio.sleep(1000)
            assert len(services.client.of("x")) == calls
            assert await services.state(task_id) is State.CANCELLED
            assert len(services.services.scheduler) == 0

    check()


@pytest.mark.parametrize("prepare", LEGAL["pause"])
def test_what_is_paused_waits_for_being_resumed(tmp_path: Path, prepare: Prepare) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await prepare(services)
            assert (await services.services.control.pause(task_id)).state is State.PAUSED
            calls = len(services.client.of("x"))
            await asyncio.sleep(1000)
            assert len(services.client.of("x")) == calls
            await services.services.control.resume(task_id)
            task = await services.finished(task_id)
            assert (task.state, task.attempts) == (State.COMPLETED, 1)

    check()


@virtual
async def test_cancelling_closes_the_call_at_once_and_keeps_the_text(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _running(services)
        await services.services.control.cancel(task_id)
        (call,) = services.client.calls
        assert call.cancelled
        assert call.ended == 1
        assert await services.result(task_id) == await services.streamed(task_id) == "some "
        assert (await services.kinds(task_id))[-1] == "cancelled"
        kind, data = (await services.events(task_id))[-1]
        assert (kind, data["cause"], data["closed_ms"]) == ("status", "cancelled", 0)


@virtual
async def test_pausing_keeps_the_text_until_the_next_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _running(services)
        task = await services.services.control.pause(task_id)
        assert services.client.calls[0].cancelled
        assert task.attempts == 0
        assert await services.streamed(task_id) == "some "
        assert await services.result(task_id) is None
        await services.services.control.resume(task_id)
        await services.finished(task_id)
        assert await services.streamed(task_id) == await services.result(task_id) == "some more"


@virtual
async def test_resuming_before_its_time_schedules_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _scheduled(services)
        await services.services.control.pause(task_id)
        assert (await services.services.control.resume(task_id)).state is State.SCHEDULED
        await services.finished(task_id)
        assert since() == 100


@virtual
async def test_resuming_after_its_time_queues(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _scheduled(services)
        await services.services.control.pause(task_id)
        await asyncio.sleep(500)
        assert (await services.services.control.resume(task_id)).state is State.PENDING
        await services.finished(task_id)
        assert since() == 500


@virtual
async def test_cancelling_a_paused_task_keeps_its_text(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _paused(services)
        await services.services.control.cancel(task_id)
        assert await services.result(task_id) == await services.streamed(task_id) == "some "


@virtual
async def test_a_retry_needs_room_in_the_queue(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, queue={"max_length": 1}) as services:
        task_id = await _completed(services)
        other = await services.submit_script("busy", [50.0, "ok"])
        with pytest.raises(QueueFull):
            await services.services.control.retry(task_id)
        assert (await services.services.journal.task(task_id)).state is State.COMPLETED
        with pytest.raises(IllegalTransition):
            await services.services.control.retry(other)
        await services.finished(other)
        assert (await services.services.control.retry(task_id)).state is State.PENDING
        with pytest.raises(QueueFull):
            await services.submit("no room beside it")


@pytest.mark.parametrize("prepare", FINISHED)
def test_a_retry_starts_anew_under_the_same_id(tmp_path: Path, prepare: Prepare) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await prepare(services)
            starts = (await services.task(task_id)).starts
            services.client.on("x", [1.0, "anew"])
            task = await services.services.control.retry(task_id)
            assert (task.state, task.error, task.tries) == (State.PENDING, None, 0)
            assert await services.result(task_id) is None
            task = await services.finished(task_id)
            assert (task.state, task.starts) == (State.COMPLETED, starts + 1)
            assert await services.result(task_id) == "anew"

    check()


@virtual
async def test_two_retries_at_once_are_one(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _failed(services)
        services.client.on("x", [HANG])
        retry = services.services.control.retry
        tried = await asyncio.gather(retry(task_id), retry(task_id), return_exceptions=True)
        (refused,) = [found for found in tried if not isinstance(found, Task)]
        assert isinstance(refused, IllegalTransition)
        assert refused.state in ("pending", "running")


@virtual
async def test_a_deleted_task_is_gone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _completed(services)
        await services.services.control.delete(task_id)
        with pytest.raises(TaskNotFound):
            await services.task(task_id)


@virtual
async def test_a_task_is_deleted_with_its_workspace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    removed: list[str] = []

    async def remove(task_id: str) -> None:
        removed.append(task_id)
        raise OSError("the disk is away")

    async with EngineServices(tmp_path) as services:
        parts = services.services
        control = Control(parts.journal, parts.scheduler, parts.executor, parts.intake, remove)
        task_id = await _running(services)
        with pytest.raises(IllegalTransition):
            await control.delete(task_id)
        assert removed == []
        await services.finished(task_id)
        await control.delete(task_id)
        with pytest.raises(TaskNotFound):
            await services.task(task_id)
        assert removed == [task_id]
        assert "is still there: the disk is away" in caplog.text


@virtual
async def test_cancelling_what_is_paused_while_it_stops(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _running(services)
        control = services.services.control
        paused, cancelled = await asyncio.gather(control.pause(task_id), control.cancel(task_id))
        assert (paused.state, cancelled.state) == (State.PAUSED, State.CANCELLED)


@virtual
async def test_cancelling_what_is_asked_to_slow_down(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [5.0, RateLimited("slow", retry_after=60)])
        await asyncio.sleep(5 - MOMENT)
        services.client.before = lambda _: None
        await asyncio.sleep(MOMENT)
        assert (await services.services.control.cancel(task_id)).state is State.CANCELLED
        await asyncio.sleep(100)
        assert len(services.client.calls) == 1


@pytest.mark.parametrize("turns", range(6))
def test_cancelling_at_the_moment_when_it_is_due(tmp_path: Path, turns: int) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await services.submit_script("x", [HANG], delay_s=100)
            await asyncio.sleep(100)  # its alarm rings at this very moment
            for _ in range(turns):
                await asyncio.sleep(0)
            assert (await services.services.control.cancel(task_id)).state is State.CANCELLED

    check()


@virtual
async def test_a_cancellation_is_carried_out_though_its_caller_has_gone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=2)}) as services:
        head = await services.submit_script("head", [HANG], session_id="s")
        following = await services.submit("next", session_id="s")
        await asyncio.sleep(1)
        caller = asyncio.create_task(services.services.control.cancel(head))
        await asyncio.sleep(0)
        caller.cancel()
        assert (await services.finished(following)).state is State.COMPLETED
        assert await services.state(head) is State.CANCELLED


@virtual
async def test_a_retry_is_carried_out_though_its_caller_has_gone(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await _completed(services)
        caller = asyncio.create_task(services.services.control.retry(task_id))
        commit = services.services.journal.store.commit

        async def cut(batch: Commit) -> None:
            caller.cancel()
            await commit(batch)

        services.services.journal.store.commit = cut  # type: ignore[method-assign]
        await asyncio.wait({caller})
        assert caller.cancelled()
        await asyncio.sleep(MOMENT)
        assert (await services.task(task_id)).starts == 2


@virtual
async def test_a_cancelled_call_leaves_its_slot_at_once(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        first = await services.submit("first")
        await services.submit("second")
        await asyncio.sleep(1)
        await services.services.control.cancel(first)
        await asyncio.sleep(MOMENT)
        assert services.client.running == ["second"]


@virtual
async def test_a_refusal_without_its_caller_is_not_logged(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        complaints: list[str] = []
        loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        task_id = await _completed(services)
        caller = asyncio.create_task(services.services.control.pause(task_id))
        caller_again = asyncio.create_task(services.services.control.resume(task_id))
        for _ in range(2):
            await asyncio.sleep(0)
        caller.cancel()
        caller_again.cancel()
        await asyncio.sleep(MOMENT)
        gc.collect()
        assert caller.cancelled()
        assert caller_again.cancelled()
        assert not complaints
