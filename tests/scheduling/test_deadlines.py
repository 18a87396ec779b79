import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.errors import GateClosed, RateLimited, TaskTimeout, UpstreamOverloaded
from asyncsvc.scheduling.deadlines import Allowances
from asyncsvc.tasks.state import Request, Task
from tests.virtual_time import virtual

TASK = Task(Request("t"))
TRIED = Task(Request("t"), attempts=1)
SLOW, DOWN, CLOSED = RateLimited("slow down"), UpstreamOverloaded("down"), GateClosed("open")


@pytest.mark.parametrize(
    ("request_", "limit_s"),
    [
        (Request("t"), 300),
        (Request("t", lane="priority"), 300),
        (Request("t", lane="long"), 86400),
        (Request("t", lane="long", timeout_s=7), 7),
    ],
)
def test_the_time_is_the_tasks_own_or_its_lanes(request_: Request, limit_s: float) -> None:
    assert Allowances(Settings()).limit_s(Task(request_)) == limit_s


@virtual
async def test_what_was_told_last_says_what_the_time_went_on() -> None:
    allowances = Allowances(Settings())
    allowances.begin(TASK)
    assert isinstance(allowances.over(TASK, begun=False), TaskTimeout)
    allowances.blame(TASK, SLOW)
    assert allowances.over(TASK, begun=False) is SLOW
    assert isinstance(allowances.over(TASK, begun=True), TaskTimeout)
    allowances.blame(TASK, CLOSED)  # nobody said anything
    assert allowances.over(TASK, begun=False) is SLOW
    allowances.blame(TASK, DOWN)
    assert isinstance(allowances.over(TASK, begun=False), TaskTimeout)


@virtual
async def test_a_gate_that_closed_stops_the_clock_of_who_was_never_called() -> None:
    allowances = Allowances(Settings())
    allowances.begin(TASK)
    allowances.blame(TASK, CLOSED)
    assert allowances.of(TASK) is None
    allowances.begin(TRIED)
    allowances.blame(TRIED, CLOSED)
    assert allowances.of(TRIED) is not None


def test_who_has_not_started_is_blamed_for_nothing() -> None:
    allowances = Allowances(Settings())
    allowances.blame(TASK, SLOW)
    assert allowances.of(TASK) is None
    assert isinstance(allowances.over(TASK, begun=False), TaskTimeout)
