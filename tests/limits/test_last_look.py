"""An account that closes between a permit and its call: the call is not made, at no cost."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import RateLimited, UpstreamOverloaded
from asyncsvc.execution.execution import Executor
from asyncsvc.execution.recovery import Recovery
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.scripted import HANG, HEAD
from tests.virtual_time import virtual

DOWN = UpstreamOverloaded("down")
TWO = {"a": model(concurrency=2)}
BREAKER = {"failures": 1, "cooldown_s": 30}
SLOW_S = 5.0
"""How long the disk takes for the tasks that are called `slow`."""
Step = Callable[[Any, Any], Awaitable[Any]]


def late(step: Step, before: bool) -> Step:
    """The same, with a disk that takes its time before or after it, once."""
    met: set[str] = set()

    async def slowly(self: Any, call: Any) -> Any:
        slow = call.leader.request.preview.startswith("slow") and not met
        met.update([call.leader.id] if slow else [])
        if before and slow:
            await asyncio.sleep(SLOW_S)
        found = await step(self, call)
        if not before and slow:
            await asyncio.sleep(SLOW_S)
        return found

    return slowly


DELAYS = pytest.mark.parametrize(
    ("owner", "name", "written"),
    [(Recovery, "prepare", False), (Executor, "_start", True)],
    ids=["before the start is written", "after it"],
)


def checked(
    tmp_path: Path, owner: type, name: str, check: Callable[[EngineServices], Awaitable[None]]
) -> None:
    @virtual
    async def play() -> None:
        step = late(getattr(owner, name), before=owner is Recovery)
        with patch.object(owner, name, step):
            async with EngineServices(tmp_path, TWO, breaker=BREAKER) as services:
                await check(services)

    play()


@DELAYS
def test_no_call_follows_the_failure_that_opens_the_breaker(
    tmp_path: Path, owner: type, name: str, written: bool
) -> None:
    async def check(services: EngineServices) -> None:
        bad = await services.submit_script("bad", [HEAD, 1.0, DOWN], max_retries=0)
        slow = await services.submit_script("slow", ["ok"])
        await services.finished(bad)
        task = await services.finished(slow)
        assert (task.state, task.attempts) == (State.COMPLETED, 1)
        assert [round(call.started) for call in services.client.of("slow")] == [31]
        deferred = ["started", "attempt", "retry", "deferred"] if written else []
        kinds = ["submitted", *deferred, "started", "attempt", "chunk", "completed"]
        assert await services.kinds(slow) == kinds

    checked(tmp_path, owner, name, check)


@DELAYS
def test_a_second_probe_does_not_slip_in_by_an_old_permit(
    tmp_path: Path, owner: type, name: str, written: bool
) -> None:
    async def check(services: EngineServices) -> None:
        with patch("tests.limits.test_last_look.SLOW_S", 33.0):
            bad = await services.submit_script("bad", [1.0, DOWN], max_retries=0)
            slow = await services.submit_script("slow", ["ok"])
            probe = await services.submit_script("probe", [HEAD, 10.0, "ok"])
            for task_id in (bad, slow, probe):
                await services.finished(task_id)
        probing, late_one = services.client.of("probe")[0], services.client.of("slow")[0]
        assert round(probing.started) == 31
        assert probing.ended is not None
        assert late_one.started >= probing.ended

    checked(tmp_path, owner, name, check)


@DELAYS
def test_no_call_follows_a_refusal_before_its_pause_is_over(
    tmp_path: Path, owner: type, name: str, written: bool
) -> None:
    async def check(services: EngineServices) -> None:
        refusal = RateLimited("slow down", retry_after=60.0)
        await services.submit_script("refused", [1.0, refusal], ["ok"])
        slow = await services.submit_script("slow", ["ok"])
        assert (await services.finished(slow)).attempts == 1
        assert [round(call.started) for call in services.client.of("slow")] == [61]

    checked(tmp_path, owner, name, check)


@DELAYS
def test_no_call_to_a_model_that_is_held_meanwhile(
    tmp_path: Path, owner: type, name: str, written: bool
) -> None:
    async def check(services: EngineServices) -> Any:
        slow = await services.submit_script("slow", ["ok"])
        await asyncio.sleep(1.0)
        gate = services.services.catalogue.gates[0]
        gate.pause("a is paused")
        await asyncio.sleep(100.0)
        assert not services.client.calls
        gate.pause(None)
        assert (await services.finished(slow)).state is State.COMPLETED

    checked(tmp_path, owner, name, check)


@DELAYS
def test_the_time_of_a_task_that_was_not_called_has_not_begun(
    tmp_path: Path, owner: type, name: str, written: bool
) -> None:
    async def check(services: EngineServices) -> None:
        await services.submit_script("bad", [1.0, DOWN], max_retries=0)
        slow = await services.submit_script("slow", ["ok"], timeout_s=10)
        assert (await services.finished(slow)).state is State.COMPLETED

    checked(tmp_path, owner, name, check)


@virtual
async def test_time_that_ends_in_a_call_after_refusals_is_a_rate_limit(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        refusal = RateLimited("slow down", retry_after=4.0)
        task_id = await services.submit_script("x", [refusal], [HANG], timeout_s=10)
        task = await services.finished(task_id)
        assert task.error is not None
        assert (task.error["code"], task.error["message"]) == ("rate_limited", "slow down")
        assert services.services.catalogue.gates[0].wait() <= 0


@virtual
async def test_time_that_ends_in_an_answer_is_a_timeout_even_after_refusals(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        refusal = RateLimited("slow down", retry_after=4.0)
        task_id = await services.submit_script("x", [refusal], [HEAD, "par", HANG], timeout_s=10)
        task = await services.finished(task_id)
        assert task.error is not None
        assert task.error["code"] == "timeout"
