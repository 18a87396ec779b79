import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import UpstreamRejected
from asyncsvc.execution.call import Call
from asyncsvc.execution.recorder import Recorder
from asyncsvc.execution.workers import CLOSE_WITHIN_S, EVERY_S, MARGIN_S, Watchdog
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, HEAD, Script, ScriptedClient
from tests.virtual_time import virtual

LATE = MARGIN_S + 2 * EVERY_S
SILENCE_S = 10.0 + 120.0 + MARGIN_S


def _deaf(services: EngineServices) -> tuple[list[float], asyncio.Event]:
    """Let calls ignore that they are cut; when they began, and what ends them all."""
    began: list[float] = []
    free = asyncio.Event()

    async def chat(*_: Any, **__: Any) -> Any:
        began.append(since())
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        raise UpstreamRejected("far too late")

    services.client.chat = chat  # type: ignore[method-assign]
    return began, free


@virtual
async def test_a_call_without_its_timer_is_cut_at_its_deadline(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        task_id = await services.submit("x", timeout_s=20)
        await asyncio.sleep(1)
        alarm = services.services.executor.executions[task_id].alarm
        assert alarm is not None
        alarm.cancel()
        assert await services.code(task_id) == "timeout"
        assert 20 + MARGIN_S < since() <= 20 + LATE
        assert services.services.pool.watchdog.cut == 1
        await asyncio.sleep(MOMENT)
        assert services.services.pool.working() == 0
        assert services.client.calls[0].cancelled


@virtual
async def test_whatever_ends_in_time_is_never_cut_by_the_watchdog(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=4)}) as services:
        services.client.default = [HEAD, 50.0, "a", 50.0, "b"]
        ids = await services.submit_many([str(n) for n in range(9)])
        ids.append(await services.submit("late", timeout_s=10))
        for task_id in ids:
            await services.finished(task_id)
        assert services.services.pool.figures() == {
            "clerks": 1,
            "working": 0,
            "restarts": 0,
            "cut": 0,
            "left_behind": 0,
        }


@virtual
async def test_a_call_that_does_not_end_when_it_is_cut_is_left_behind(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        began, free = _deaf(services)
        first = await services.submit("x", timeout_s=20)
        second = await services.submit("y", timeout_s=20)
        assert await services.code(first) == "timeout"
        assert since() <= 20 + CLOSE_WITHIN_S + 2 * EVERY_S
        pool = services.services.pool
        await asyncio.sleep(1)
        assert len(began) == 2
        assert pool.watchdog.left_behind == 1
        free.set()
        assert await services.code(second) == "upstream_rejected"
        assert (await services.task(first)).state is State.FAILED
        assert services.services.scheduler.account_slots[0].gate.busy == 0


@virtual
async def test_a_cancelled_task_whose_call_does_not_end_is_cancelled_all_the_same(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        _, free = _deaf(services)
        task_id = await services.submit("x")
        await asyncio.sleep(1)
        await services.services.control.cancel(task_id)
        assert (await services.task(task_id)).state is State.CANCELLED
        assert since() <= 1 + CLOSE_WITHIN_S + 2 * EVERY_S
        free.set()


@pytest.mark.parametrize("script", [[HANG], [HEAD, "a", HANG]])
def test_a_call_to_a_silent_provider_is_cut_and_retried(tmp_path: Path, script: Script) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            services.client.watched = True
            task_id = await services.submit_script("x", script, ["ok"], timeout_s=1000)
            assert (await services.finished(task_id)).state is State.COMPLETED
            assert SILENCE_S < since() <= SILENCE_S + 2 * EVERY_S + 1
            why = next(
                data["why"] for kind, data in await services.events(task_id) if kind == "retry"
            )
            assert why["code"] == "idle_timeout"

    check()


@virtual
async def test_all_who_share_a_silent_call_are_tried_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.watched = True
        services.client.on("x", [HANG], ["ok"])
        ids = [await services.submit("x", cache=True, timeout_s=1000) for _ in range(3)]
        for task_id in ids:
            task = await services.finished(task_id)
            assert (task.state, task.attempts) == (State.COMPLETED, 2)


@virtual
async def test_waiting_for_the_rate_is_no_silence(tmp_path: Path) -> None:
    models = {"e": model(type="embedding", preset="dashscope", rpm=1, rpm_window_s=400.0)}
    async with EngineServices(tmp_path, models) as services:
        services.client.watched = True
        texts = [str(n) for n in range(15)]
        task_id = await services.submit_fields(type="embedding", input=texts, timeout_s=1000)
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert since() > SILENCE_S
        assert services.services.pool.watchdog.cut == 0


@virtual
async def test_a_disk_that_cannot_keep_up_is_no_silence(tmp_path: Path) -> None:
    async def wait(self: Call) -> None:
        self.heard_at = None
        await asyncio.sleep(500)
        self.alive()

    async with EngineServices(tmp_path) as services:
        services.client.watched = True
        full = property(lambda self: True)
        with patch.object(Call, "full", full), patch.object(Call, "drained", wait):
            task_id = await services.submit_script("x", ["a", "b"], timeout_s=2000)
            assert (await services.finished(task_id)).state is State.COMPLETED
        assert services.services.pool.watchdog.cut == 0


@virtual
async def test_a_watchdog_that_fails_once_goes_on(tmp_path: Path) -> None:
    failed: list[int] = []
    plain = Watchdog.look

    def look(self: Watchdog) -> None:
        if not failed:
            failed.append(1)
            raise RuntimeError("a fault")
        plain(self)

    with patch.object(Watchdog, "look", look):
        async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
            task_id = await services.submit("x", timeout_s=20)
            await asyncio.sleep(1)
            alarm = services.services.executor.executions[task_id].alarm
            assert alarm is not None
            alarm.cancel()
            assert await services.code(task_id) == "timeout"
            assert failed


@virtual
async def test_a_gate_that_always_breaks_is_tried_again_after_pauses(tmp_path: Path) -> None:
    tries: list[float] = []

    async def acquire(self: object) -> None:
        tries.append(since())
        raise RuntimeError("a gate breaks")

    with patch("asyncsvc.limits.account.AccountLimiter.acquire", acquire):
        async with EngineServices(tmp_path) as services:
            await asyncio.sleep(300)
            assert tries[:5] == [0, 0, 0.1, 0.3, 0.7]
            assert tries[-1] - tries[-2] == pytest.approx(30)
            assert len(tries) < 25
            assert services.services.pool.restarts == len(tries)


@virtual
async def test_a_disk_that_takes_nothing_gathers_no_workers(tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async def record(self: Recorder, *_: Any) -> None:
        await stuck.wait()

    with patch.object(Recorder, "write", record):
        async with EngineServices(tmp_path, {"a": model(concurrency=3)}) as services:
            await services.submit_many([str(n) for n in range(20)])
            await asyncio.sleep(10)
            assert services.services.pool.working() == len(services.client.calls) == 3


@virtual
async def test_a_call_is_left_alone_up_to_the_very_end_of_the_margin(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([HANG])) as services:
        task_id = await services.submit("x")
        await asyncio.sleep(1)
        watchdog = services.services.pool.watchdog
        execution = services.services.executor.executions[task_id]
        execution.deadline = 0.0
        await asyncio.sleep(MARGIN_S - since())
        watchdog.look()
        assert (since(), watchdog.cut) == (MARGIN_S, 0)
        execution.deadline -= MOMENT
        watchdog.look()
        assert watchdog.cut == 1
