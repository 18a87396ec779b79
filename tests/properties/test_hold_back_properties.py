import asyncio
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.memory import folder as in_memory
from tests.scripted import Call, Script, ScriptedClient
from tests.virtual_time import loop, run_virtual

FAST, SLOW, EPSILON = 2.0, 20.0, 0.05
MODELS = {"fast": model(), "slow": model(concurrency=2)}
comers = st.lists(
    st.tuples(
        st.floats(0, 60).map(lambda at: round(at, 1)),
        st.sampled_from([0.1, FAST, 50.0, 200.0]),
        st.sampled_from(["short", "priority", "long"]),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=14,
)


class Provider(ScriptedClient):
    """The slow model is as slow as ever; the fast one may take longer than was measured."""

    def _script(self, call: Call) -> Script:
        return [SLOW, "ok"] if call.name == "slow" else super()._script(call)


class Run:
    """What came when, and when each call was made and over."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.calls: list[tuple[str, float, float]] = []

    async def play(self, folder: Path, arrivals: list[tuple[float, float, str, int]]) -> None:
        async with EngineServices(
            folder, MODELS, Provider([FAST, "ok"]), cache={"enabled": False}
        ) as services:
            for name in MODELS:
                await services.finished(await services.submit("measured", model=name))
            services.client.calls.clear()
            start = loop().time()
            ids = []
            for n, (at, takes, lane, priority) in enumerate(sorted(arrivals)):
                await asyncio.sleep(max(start + at - loop().time(), 0))
                prompt = f"hello {n}"
                services.client.on(prompt, [takes, "ok"])
                self.came.append(loop().time())
                ids.append(await services.submit(prompt, lane=lane, priority=priority))
            for task_id in ids:
                assert (await services.finished(task_id)).state is State.COMPLETED
            self.calls = [(c.name, c.started, c.ended or 0.0) for c in services.client.calls]

    def idle_s(self, name: str, slots: int) -> float:
        """The longest that the model had room while a task waited."""
        moments = sorted({*self.came, *(t for _, *both in self.calls for t in both)})
        longest = since = 0.0
        for now, then in itertools.pairwise(moments):
            waiting = sum(at <= now for at in self.came) - sum(s <= now for _, s, _ in self.calls)
            busy = sum(m == name and s <= now < e for m, s, e in self.calls)
            idle = waiting > 0 and busy < slots and then - now > EPSILON
            since = since + then - now if idle else 0.0
            longest = max(longest, since)
        return longest


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(comers)
def test_no_task_waits_longer_beside_a_free_model_than_it_is_slower(
    arrivals: list[tuple[float, float, str, int]],
) -> None:
    run = Run()
    with in_memory() as folder:
        run_virtual(run.play(Path(folder), arrivals))
    assert len(run.calls) == len(arrivals)
    # Long tasks leave one slot to the others, so that the second is not theirs to take.
    assert run.idle_s("slow", 1) <= SLOW + EPSILON
