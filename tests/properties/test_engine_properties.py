"""The engine under scripts, crashes and cancellations that were not thought of beforehand."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from asyncsvc.errors import IllegalTransition, RateLimited, UpstreamDisconnected, UpstreamOverloaded
from asyncsvc.tasks.state import FINISHED, State
from tests.engine_services import EngineServices, model
from tests.lifecycle.test_restart import most_in_a_window
from tests.memory import folder as in_memory
from tests.scripted import Call, Script, ScriptedClient
from tests.virtual_time import run_virtual

pytestmark = pytest.mark.slow

few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
)
seconds = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0])
faults = st.sampled_from(
    [
        RateLimited("slow"),
        RateLimited("slow", retry_after=7),
        UpstreamOverloaded("down"),
        UpstreamDisconnected("cut"),
    ]
)
good = st.tuples(seconds, st.sampled_from(["a", "bc"]), seconds, st.just("d"))
bad = st.tuples(seconds, st.sampled_from(["lost", 0.5]), faults)
scripts = st.tuples(st.lists(bad, max_size=2), good).map(lambda both: [*both[0], both[1]])
fields = st.fixed_dictionaries(
    {
        "lane": st.sampled_from(["priority", "short", "long"]),
        "priority": st.integers(0, 9),
        "model": st.sampled_from([None, None, "a", "b"]),
        "session_id": st.sampled_from([None, None, "s", "t"]),
        "delay_s": st.sampled_from([None, None, 5.0, 40.0]),
    }
)
Request = tuple[list[Script], dict[str, Any], float]
submissions = st.lists(st.tuples(scripts, fields, seconds), min_size=1, max_size=8)
SPAN_S, RPM = 20.0, 5
MODELS = {
    "a": model(concurrency=1),
    "b": model(concurrency=3, rpm=RPM, rpm_window_s=SPAN_S),
}


def _in_a_service(
    play: Callable[[EngineServices], Awaitable[None]], client: ScriptedClient | None = None
) -> None:
    async def run(folder: Path) -> None:
        services = EngineServices(folder, MODELS, client, breaker={"failures": 3, "cooldown_s": 5})
        async with services:
            await play(services)

    with in_memory() as folder:
        run_virtual(run(Path(folder)))


async def _submit(services: EngineServices, wanted: list[Request]) -> list[str]:
    ids = []
    for number, (played, asked, pause) in enumerate(wanted):
        ids.append(await services.submit_script(f"p{number}", *played, max_retries=50, **asked))
        await asyncio.sleep(pause)
    return ids


async def _check_sound(services: EngineServices, task_id: str) -> None:
    """What must be true of every finished task, however it came to its end."""
    task, kinds = await services.task(task_id), await services.kinds(task_id)
    assert task.seq == len(kinds)
    if task.state is State.COMPLETED:
        assert 1 <= kinds.count("completed") <= 1 + kinds.count("rerun")
    assert (await services.result(task_id) or "") == await services.streamed(task_id)
    free = sum(kinds.count(cause) for cause in ("deferred", "interrupted", "paused"))
    assert task.attempts <= kinds.count("started")
    assert task.attempts >= kinds.count("started") - free


def _check_gates(services: EngineServices) -> None:
    calls = [call for call in services.client.calls if call.name == "b"]
    if calls:
        assert most_in_a_window([call.started for call in calls], SPAN_S) <= RPM
    for name, most in (("a", 1), ("b", 3)):
        of = [call for call in services.client.calls if call.name == name]
        for call in of:
            during = [c for c in of if c.started <= call.started < _end(c)]
            assert len(during) <= most


def _end(call: Call) -> float:
    return math.inf if call.ended is None else call.ended


@few
@given(submissions)
def test_every_task_is_completed_in_the_end(wanted: list[Request]) -> None:
    async def play(services: EngineServices) -> None:
        ids = await _submit(services, wanted)
        for task_id in ids:
            async with asyncio.timeout(5_000):
                assert (await services.finished(task_id)).state is State.COMPLETED
            await _check_sound(services, task_id)
        _check_gates(services)
        assert len(services.services.scheduler) == 0
        assert not services.services.executor.executions
        assert all(
            u.gate.busy == u.gate.long_busy == 0 for u in services.services.catalogue.upstreams
        )

    _in_a_service(play)


@few
@given(submissions, st.lists(st.floats(0, 15), min_size=1, max_size=4))
def test_crashes_lose_nothing_and_cost_nothing(wanted: list[Request], crashes: list[float]) -> None:
    async def play(services: EngineServices) -> None:
        ids = await _submit(services, wanted)
        for pause in crashes:
            await asyncio.sleep(pause)
            await services.restart()
        for task_id in ids:
            async with asyncio.timeout(5_000):
                assert (await services.finished(task_id)).state is State.COMPLETED
            await _check_sound(services, task_id)
        _check_gates(services)

    _in_a_service(play)


@few
@given(st.integers(0, 60), st.lists(st.sampled_from([0.0, 0.5]), min_size=1, max_size=3))
def test_a_crash_between_any_two_steps_loses_no_accepted_task(
    steps: int, pauses: list[float]
) -> None:
    """Not at a point of time but in the middle of what happens at one."""

    async def play(services: EngineServices) -> None:
        services.client.default = ["one ", 0.5, "two ", "three"]
        accepted: list[str] = []

        async def submit() -> None:
            for number in range(4):
                task_id = await services.submit(f"p{number}", max_retries=0, model="b")
                accepted.append(task_id)

        for pause in pauses:
            submitting = asyncio.create_task(submit())
            await asyncio.sleep(pause)
            for _ in range(steps):
                await asyncio.sleep(0)
            await services.crash()
            assert submitting.done()
            await services.reopen()
        for task_id in accepted:
            assert (await services.finished(task_id)).state is State.COMPLETED
            assert await services.streamed(task_id) == "one two three"
            await _check_sound(services, task_id)
        _check_gates(services)

    _in_a_service(play)


Steering = tuple[float, int, str]
steering = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, 4.0, 5.0, 10.0]),
        st.integers(0, 7),
        st.sampled_from(["cancel", "pause", "resume", "retry", "pause", "resume"]),
    ),
    max_size=12,
)
SCHEDULED: Request = ([["ok"]], {"delay_s": 5.0}, 0.0)


@few
@given(submissions, steering)
@example([SCHEDULED], [(5.0, 0, "cancel")])
@example([SCHEDULED], [(5.0, 0, "pause"), (0.0, 0, "resume")])
def test_steering_at_any_moment_leaves_every_task_with_a_next_step(
    wanted: list[Request], moves: list[Steering]
) -> None:
    async def play(services: EngineServices) -> None:
        ids = await _submit(services, wanted)
        steps = []
        for pause, index, verb in moves:
            await asyncio.sleep(pause)
            step = _steer(services, ids[index % len(ids)], verb)
            steps.append(asyncio.create_task(step))
        await asyncio.gather(*steps)
        for task_id in ids:
            with suppress(IllegalTransition):
                await services.services.control.resume(task_id)
        for task_id in ids:
            async with asyncio.timeout(5_000):
                task = await services.finished(task_id)
            assert task.state in (State.COMPLETED, State.CANCELLED)
            await _check_sound(services, task_id)
        _check_gates(services)
        assert len(services.services.scheduler) == 0

    _in_a_service(play)


async def _steer(services: EngineServices, task_id: str, verb: str) -> None:
    """A verb may be refused only from a state of which the table refuses it."""
    refused = {
        "cancel": FINISHED,
        "pause": FINISHED | {State.PAUSED},
        "resume": frozenset(State) - {State.PAUSED},
        "retry": frozenset(State) - FINISHED,
    }
    state = None
    try:
        await getattr(services.services.control, verb)(task_id)
    except IllegalTransition as error:
        state = error.state
    assert state is None or state in refused[verb]
