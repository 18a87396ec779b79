"""Reloads at any moment under load: no limit broken, no task lost."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asyncsvc.errors import ModelNotFound, NoModel
from asyncsvc.limits.account import Permit
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.memory import folder as in_memory
from tests.virtual_time import loop, run_virtual

pytestmark = pytest.mark.slow

few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
)
SPAN_S = 20.0
NAMES = ("a", "b", "c")
seconds = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0])
limits = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 5),
        "rpm": st.sampled_from([0, 1, 3, 6]),
        "tpm": st.sampled_from([0, 0, 5_000]),
        "model": st.sampled_from(["id", "other"]),
        "enabled": st.sampled_from([True, True, True, False]),
    }
)
sets = st.dictionaries(st.sampled_from(NAMES), limits, max_size=3)
Reload = tuple[float, dict[str, dict[str, Any]]]
reloads = st.lists(st.tuples(seconds, sets), max_size=6)
tasks = st.lists(
    st.tuples(
        seconds,
        seconds,
        st.fixed_dictionaries(
            {
                "lane": st.sampled_from(["priority", "short", "long"]),
                "model": st.sampled_from([None, None, "a", "b"]),
                "session_id": st.sampled_from([None, None, "s"]),
                "cache": st.sampled_from([None, True]),
            }
        ),
    ),
    min_size=1,
    max_size=10,
)
FIRST = {"concurrency": 2, "rpm": 3, "tpm": 0, "model": "id", "enabled": True}


def _models(wanted: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: model(rpm_window_s=SPAN_S, **limit) for name, limit in wanted.items()}


class Watched:
    """Holds every call that is let in against the settings in force at that moment. What was let
    in before may still run: it counts, but it need not be taken back."""

    def __init__(self, services: EngineServices) -> None:
        self.services = services
        self.admitted: dict[str, list[Permit]] = {name: [] for name in NAMES}
        self.broken: list[str] = []

    async def __aenter__(self) -> None:
        def reserve(permit: Permit, *given: Any) -> None:
            self.reserved(permit, *given)

        self._patch = patch.object(Permit, "reserve", reserve)
        self._patch.start()

    async def __aexit__(self, *_: object) -> None:
        self._patch.stop()

    def reserved(self, permit: Permit, *given: Any) -> None:
        RESERVE(permit, *given)
        gate, now = permit.limiter, loop().time()
        limit = self.services.settings.models[gate.name]
        permits = self.admitted[gate.name]
        permits.append(permit)
        recent = sum(_counts(each, now) for each in permits)
        assert isinstance(limit.rpm, int)
        assert isinstance(limit.concurrency, int)
        if not limit.enabled:
            self.broken.append(f"{gate.name} is disabled")
        if gate.busy > limit.concurrency:
            self.broken.append(f"{gate.busy} of {limit.concurrency} at {gate.name}")
        if limit.rpm and recent > limit.rpm:
            self.broken.append(f"{recent} of {limit.rpm} in a window at {gate.name}")


RESERVE = Permit.reserve


def _counts(permit: Permit, now: float) -> bool:
    """Whether its call is in the window, or may come to be in it."""
    if permit.sent_at is None:
        return not permit.released
    return permit.sent_at > now - SPAN_S


@few
@given(tasks, reloads)
def test_reloads_break_no_limit_and_lose_no_task(wanted: list[Any], changes: list[Reload]) -> None:
    async def play(folder: Path) -> None:
        first = {"a": FIRST, "b": FIRST}
        services = EngineServices(folder, _models(first))
        watched = Watched(services)

        async with services, watched:
            ids: list[str] = []

            async def submit() -> None:
                for number, (pause, length, asked) in enumerate(wanted):
                    prompt = f"p{number % 4}"
                    services.client.on(prompt, [length, "ok"])
                    with suppress(NoModel, ModelNotFound):  # as it should be
                        ids.append(await services.submit(prompt, **asked))
                    await asyncio.sleep(pause)

            async def change() -> None:
                for pause, models in changes:
                    await asyncio.sleep(pause)
                    await services.reload(_models(models))

            await asyncio.gather(submit(), change())
            await services.reload(_models({name: FIRST for name in NAMES}))
            for task_id in ids:
                async with asyncio.timeout(5_000):
                    task = await services.finished(task_id)
                assert task.state is State.COMPLETED, task.error
                assert task.attempts == 1
                assert await services.result(task_id) == await services.streamed(task_id) == "ok"
            await asyncio.sleep(1)
            assert not watched.broken
            parts = services.services
            assert (
                len(parts.scheduler) == parts.pool.working() == len(parts.executor.executions) == 0
            )
            assert parts.pool.figures()["clerks"] == len(NAMES)
            assert all(gate.busy == gate.long_busy == 0 for gate in parts.catalogue.gates)

    with in_memory() as folder:
        run_virtual(play(Path(folder)))


@few
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(1, 8)), min_size=1, max_size=6
    )
)
def test_the_workers_follow_the_limit(changes: list[tuple[float, int]]) -> None:
    async def play(folder: Path) -> None:
        async with EngineServices(folder, {"a": model()}) as services:
            services.client.default = [2.0, "ok"]
            # Eight at once, each for two seconds, are always at work in the twenty that this takes.
            await services.submit_many([str(n) for n in range(100)])
            until: list[tuple[float, int]] = []  # when each limit was replaced
            limit = 1
            for pause, wanted in changes:
                await asyncio.sleep(pause)
                until.append((loop().time(), limit))
                limit = wanted
                await services.reload({"a": model(concurrency=limit)})
                await asyncio.sleep(0.01)
                # Those in flight may be as many as were allowed when they began.
                old = [was for at, was in until if at > loop().time() - 2.1]
                assert services.services.pool.working() <= max(limit, *old, 0)
            await asyncio.sleep(2.5)
            assert services.services.pool.working() == len(services.client.running) == limit

    with in_memory() as folder:
        run_virtual(play(Path(folder)))
