"""The way of a task through the code does not become longer: bounds that are only ever lowered."""

from tests.benchmarks import path

TRIES = 3
"""A busy machine cuts an answer into other pieces: the shortest of a few ways counts."""
MODULES, CALLS, SUBMIT_CALLS, FRAMES = 85, 6_900, 240, 5
"""A little above the figures of November 2026. Lower them with each shortening; the goals stand in
`path` (40, 3,500, 250, 5). The traces of tasks and the recorder have modules of their own."""


async def test_the_way_of_a_task_does_not_grow() -> None:
    for _ in range(TRIES):
        whole, submit = await path.measure()
        seen = len(whole.modules), whole.ours, submit.ours, whole.deepest
        bounds = MODULES, CALLS, SUBMIT_CALLS, FRAMES
        if all(figure <= bound for figure, bound in zip(seen, bounds, strict=True)):
            return
    raise AssertionError(f"modules, calls, calls of a submit, frames: {seen}, at most {bounds}")
