"""Equal tasks that come, go and come back at any moment."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.errors import IllegalTransition, RateLimited, UpstreamDisconnected
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.memory import folder as in_memory
from tests.properties.test_engine_properties import _check_sound, few
from tests.scripted import Call, Script
from tests.virtual_time import run_virtual

pytestmark = pytest.mark.slow

MODELS = {"a": model(concurrency=3, rpm=30, rpm_window_s=20), "b": model(concurrency=2)}
KEYS = ("one", "two")
pauses = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.5, 4.0])
scripts = st.lists(
    st.sampled_from(
        [
            ["a ", 1.0, "b ", 1.0, "c"],
            [1.0, "a ", 3.0],
            ["lost", 0.5, UpstreamDisconnected("cut")],
            [RateLimited("slow", retry_after=2)],
            ["ok"],
        ]
    ),
    max_size=4,
)
comers = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        pauses,
        st.sampled_from(["priority", "short", "long"]),
        st.sampled_from([None, None, "s"]),
        st.sampled_from([None, 2.0, 500.0]),
    ),
    min_size=1,
    max_size=10,
)
moves = st.lists(
    st.tuples(
        pauses, st.integers(0, 9), st.sampled_from(["cancel", "pause", "resume", "retry", "crash"])
    ),
    max_size=8,
)
Comer = tuple[str, float, str, str | None, float | None]


async def _come(services: EngineServices, wanted: list[Comer], ids: list[str]) -> None:
    for key, pause, lane, session, timeout in wanted:
        fields: dict[str, Any] = {"lane": lane, "session_id": session, "timeout_s": timeout}
        ids.append(await services.submit_fields(content=key, cache=True, max_retries=20, **fields))
        await asyncio.sleep(pause)


async def _steer(services: EngineServices, ids: list[str], index: int, verb: str) -> None:
    if ids:
        with suppress(IllegalTransition):
            await getattr(services.services.control, verb)(ids[index % len(ids)])


async def _play(
    folder: Path, played: list[Script], wanted: list[Comer], moved: list[tuple[float, int, str]]
) -> None:
    async with EngineServices(folder, MODELS, cache={"ttl_s": 3}) as services:
        for key in KEYS:
            services.client.on(key, *played, ["x ", 1.0, "y"])
        ids: list[str] = []
        twice: list[Call] = []

        def look(call: Call) -> None:
            if services.client.running.count(call.prompt) > 1:
                twice.append(call)

        services.client.before = look
        coming = asyncio.create_task(_come(services, wanted, ids))
        steps: list[asyncio.Task[None]] = []
        for pause, index, verb in moved:
            await asyncio.sleep(pause)
            if verb == "crash":
                await asyncio.gather(coming, *steps)
                await services.restart()
            else:
                steps.append(asyncio.create_task(_steer(services, ids, index, verb)))
        await asyncio.gather(coming, *steps)
        for index in range(len(ids)):
            await _steer(services, ids, index, "resume")
        for task_id in ids:
            async with asyncio.timeout(5_000):
                task = await services.finished(task_id)
            code = (task.error or {}).get("code")
            assert task.state in (State.COMPLETED, State.CANCELLED) or code in (
                "timeout", "rate_limited", "upstream_disconnected",
            )  # fmt: skip
            await _check_sound(services, task_id)
        assert twice == [], "two calls for one answer at a time"
        assert len(services.services.scheduler) == 0
        assert not services.services.executor.executions
        assert all(
            u.gate.busy == u.gate.long_busy == 0 for u in services.services.catalogue.upstreams
        )


@few
@given(scripts, comers, moves)
def test_there_is_never_more_than_one_call_for_an_answer(
    played: list[Script], wanted: list[Comer], moved: list[tuple[float, int, str]]
) -> None:
    with in_memory() as folder:
        run_virtual(_play(Path(folder), played, wanted, moved))
