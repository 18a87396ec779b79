"""Random stories, played on a real service and judged by an oracle.

`ASYNCSVC_TESTS_STORIES` says how many, `ASYNCSVC_TESTS_SEED` which; a failure shows the seed. The
long form is `python -m tests.benchmarks.stories`.
"""

import os
import random

import pytest

from tests.properties.explore import explore
from tests.properties.runner import tell
from tests.properties.steps import (
    Crash,
    Do,
    Fault,
    Repeat,
    Restart,
    Step,
    Story,
    Submit,
    Tick,
    Turn,
)

STORIES = int(os.environ.get("ASYNCSVC_TESTS_STORIES", "100"))
SEED = int(os.environ.get("ASYNCSVC_TESTS_SEED", random.SystemRandom().randrange(1 << 32)))


PARTS = 4
"""So that they can run at once."""


@pytest.mark.stories
@pytest.mark.timeout(120 + STORIES)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_story_breaks_a_law(part: int) -> None:
    print(f"{STORIES // PARTS} stories, ASYNCSVC_TESTS_SEED={SEED}, part {part}")  # if it fails
    explore(STORIES // PARTS, SEED + part)


REMEMBERED = {
    "a client that hangs up is refused": Story([Submit(), Do("resume", how="leave")], 0),
    "two cancel the same": Story([Submit(), Do(how="later"), Do()]),
    "a pause taken back before it is answered": Story(
        [*[Submit()] * 2, Do("pause", 1, "later"), Do("resume", 1), Do("resume", 1)], 0
    ),
    "a slowed task over a crash": Story(
        [Submit(), Fault("slow_down"), Submit(timeout_s=3.0), Tick(), Crash(), Tick(7.0)]
    ),
    "a session over crashes, its head paused": Story(
        [
            *[Submit(session="s")] * 3,
            Tick(0.5),
            Do("pause", 2),
            Crash(power=True),
            Do("retry", 1),
            Tick(70.0),
            Do("resume", 2),
            Restart(2.0),
        ]
    ),
    "equal tasks, one leaves, one is cut off": Story(
        [*[Submit(shared=True)] * 3, Tick(0.5), Do("cancel", 1), Fault("cut"), Crash(), Tick()]
    ),
    "cancelled, done again and finished between two looks": Story(
        [
            Submit(),
            *[Submit(shared=True)] * 2,
            Fault("slow_down"),
            Tick(3.0),
            Do(),
            Do("retry", how="later"),
            Tick(),
        ],
        0,
    ),
    "a key over a crash and a delete": Story(
        [Submit(keyed=True, how="later"), Crash(), Repeat(), Tick(7.0), Do("delete"), Repeat()]
    ),
}


@pytest.mark.parametrize("name", REMEMBERED)
def test_a_story_that_is_remembered(name: str) -> None:
    assert tell(REMEMBERED[name])["played"] == 1


@pytest.mark.parametrize("turns", range(20))
def test_an_equal_task_may_come_at_any_turn_of_the_end_of_a_call(turns: int) -> None:
    same = Submit(shared=True)
    assert tell(Story([same, Tick(0.5), Tick(1.0), Turn(turns), same], 2))["played"] == 1


@pytest.mark.parametrize("turns", range(16))
def test_a_task_may_be_cancelled_at_any_turn_of_its_start(turns: int) -> None:
    """It had been started before, so its text is read from the disk first."""
    steps: list[Step] = [Submit(), Tick(0.25), Do("pause"), Submit(), Tick(0.25), Do("resume", 1)]
    ends: list[Step] = [Do("cancel", how="later"), Turn(turns), Do("cancel", 1, "later"), Tick(7.0)]
    assert tell(Story([*steps, *ends], 3))["played"] == 1
