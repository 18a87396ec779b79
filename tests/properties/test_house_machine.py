"""Stories that nobody thought of, told to a real house and judged by an oracle.

`ASYNCSVC_TESTS_STORIES` says how many, `ASYNCSVC_TESTS_SEED` which; the seed is printed. The long
form is `python -m tests.benchmarks.stories`.
"""

import os
import random

import pytest

from tests.properties.explore import explore
from tests.properties.runner import tell
from tests.properties.steps import Crash, Do, Fault, Repeat, Restart, Story, Submit, Tick

STORIES = int(os.environ.get("ASYNCSVC_TESTS_STORIES", "150"))
SEED = int(os.environ.get("ASYNCSVC_TESTS_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.mark.timeout(120 + STORIES)
def test_no_story_breaks_a_law(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{STORIES} stories, ASYNCSVC_TESTS_SEED={SEED}")

    explore(STORIES, SEED)


REMEMBERED = {
    "somebody who hangs up is refused": Story([Submit(), Do("resume", how="leave")], 0),
    "two cancel the same": Story([Submit(), Do(how="later"), Do()]),
    "a pause taken back before it is answered": Story(
        [Submit(), Submit(), Do("pause", how="later"), Do("resume"), Do("resume")], 0
    ),
    "a slowed task over a crash": Story(
        [Submit(), Fault("slow_down"), Submit(timeout_s=3.0), Tick(), Crash(), Tick(7.0)]
    ),
    "a session over crashes, its head paused": Story(
        [
            *[Submit(session="s")] * 3,
            Tick(0.5),
            Do("pause"),
            Crash(power=True),
            Do("retry", 1),
            Tick(70.0),
            Do("resume"),
            Restart(2.0),
        ]
    ),
    "equal tasks, one leaves, one is cut off": Story(
        [*[Submit(shared=True)] * 3, Tick(0.5), Do("cancel", 1), Fault("cut"), Crash(), Tick()]
    ),
    "a key over a crash and a delete": Story(
        [Submit(keyed=True, how="later"), Crash(), Repeat(), Tick(7.0), Do("delete"), Repeat()]
    ),
}


@pytest.mark.parametrize("name", REMEMBERED)
def test_a_story_that_is_remembered(name: str) -> None:
    assert tell(REMEMBERED[name])["told"] == 1
