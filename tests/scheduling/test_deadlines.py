import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.errors import GateClosed, RateLimited, TaskTimeout, UpstreamOverloaded
from asyncsvc.scheduling.timers import Deadlines
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
    assert Deadlines(Settings()).limit_s(Task(request_)) == limit_s


@virtual
async def test_the_last_error_explains_a_deadline_that_is_over() -> None:
    deadlines = Deadlines(Settings())
    deadlines.begin(TASK)
    assert isinstance(deadlines.over(TASK, begun=False), TaskTimeout)
    deadlines.record_error(TASK, SLOW)
    assert deadlines.over(TASK, begun=False) is SLOW
    assert isinstance(deadlines.over(TASK, begun=True), TaskTimeout)
    deadlines.record_error(TASK, CLOSED)  # without an answer of the provider
    assert deadlines.over(TASK, begun=False) is SLOW
    deadlines.record_error(TASK, DOWN)
    assert isinstance(deadlines.over(TASK, begun=False), TaskTimeout)


@virtual
async def test_a_closed_gate_drops_the_deadline_of_a_task_without_a_call() -> None:
    deadlines = Deadlines(Settings())
    deadlines.begin(TASK)
    deadlines.record_error(TASK, CLOSED)
    assert deadlines.of(TASK) is None
    deadlines.begin(TRIED)
    deadlines.record_error(TRIED, CLOSED)
    assert deadlines.of(TRIED) is not None


def test_a_task_that_has_not_started_records_no_error() -> None:
    deadlines = Deadlines(Settings())
    deadlines.record_error(TASK, SLOW)
    assert deadlines.of(TASK) is None
    assert isinstance(deadlines.over(TASK, begun=False), TaskTimeout)
