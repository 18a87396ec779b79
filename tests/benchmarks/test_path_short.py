"""The way of a task through the code does not become longer: bounds that are only ever lowered."""

import sys

from tests.benchmarks import path

TRIES = 3
"""A busy machine cuts an answer into other pieces: the least of a few counts stands for each."""
MODULES, CALLS, SUBMIT_CALLS, FRAMES = 85, 6_900, 240, 5
"""A little above the figures of November 2026. Lower them with each shortening; the goals stand in
`path` (40, 3,500, 250, 5). The traces of tasks and the recorder have modules of their own."""


async def test_the_way_of_a_task_does_not_grow() -> None:
    bounds, least = (MODULES, CALLS, SUBMIT_CALLS, FRAMES), [sys.maxsize] * 4
    for _ in range(TRIES):
        whole, submit = await path.measure()
        seen = len(whole.modules), whole.ours, submit.ours, whole.deepest
        least = list(map(min, least, seen))
        if all(figure <= bound for figure, bound in zip(least, bounds, strict=True)):
            return
    raise AssertionError(f"modules, calls, calls of a submit, frames: {least}, at most {bounds}")
