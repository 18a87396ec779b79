"""Traces: what a task did from when on, in a bounded number of spans."""

from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.tasks.marks import CUT, KINDS, SPANS_MOST, Marks, marked, spans
from asyncsvc.tasks.state import (
    Cause,
    Draft,
    EventType,
    Request,
    State,
    Task,
    apply,
    create,
    status,
)

START = 1_000_000


def course(*steps: tuple[int, Draft], run_at: int | None = None) -> Task:
    """A task after these events, each so many ms after it came."""
    task, _ = create(Request("t", created_at=START, run_at=run_at), START)
    for after, draft in steps:
        task = apply(task, draft, START + after)
    return task


def started(source: State = State.PENDING) -> Draft:
    return status(Cause.STARTED, source)


def text(kind: EventType = EventType.CHUNK) -> Draft:
    return Draft(kind, {"text": "x"})


ATTEMPT = Draft(EventType.ATTEMPT, {"name": "m", "model": "sim"})


def test_a_chat_waits_thinks_and_answers() -> None:
    task = course(
        (1500, started()), (1500, ATTEMPT), (2000, text(EventType.REASONING)),
        (2500, text(EventType.REASONING)), (3000, text()), (4000, text()),
        (5000, status(Cause.COMPLETED, State.RUNNING)),
    )  # fmt: skip
    assert task.trace(START + 9999) == [
        ("pending", 1500), ("first_token", 500), ("thinking", 1000), ("answering", 2000),
    ]  # fmt: skip


def test_a_new_task_waits_until_now() -> None:
    assert course().trace(START + 40) == [("pending", 40)]
    assert course(run_at=START + 70).trace(START + 40) == [("scheduled", 40)]
    due = course((70, status(Cause.DUE, State.SCHEDULED)), run_at=START + 70)
    assert due.trace(START + 100) == [("scheduled", 70), ("pending", 30)]


def test_an_attempt_without_an_answer_is_cut() -> None:
    retried = course(
        (10, started()), (10, ATTEMPT), (20, text()),
        (30, status(Cause.RETRYING, State.RUNNING, next_run_at=START + 40)),
        (40, status(Cause.DUE, State.SCHEDULED)), (41, started()), (41, ATTEMPT),
        (50, status(Cause.FAILED, State.RUNNING, error={"code": "x"})),
    )  # fmt: skip
    assert retried.trace(0) == [
        ("pending", 10), ("first_token", 10), ("answering", 10), (CUT, 0), ("retry", 10),
        ("pending", 1), ("first_token", 9), (CUT, 0),
    ]  # fmt: skip
    interrupted = course((10, started()), (20, status(Cause.INTERRUPTED, State.RUNNING)))
    assert interrupted.trace(START + 25) == [
        ("pending", 10), ("first_token", 10), (CUT, 0), ("pending", 5),
    ]  # fmt: skip
    slowed = course((10, started()), (20, status(Cause.DEFERRED, State.RUNNING)))
    assert slowed.trace(START + 25) == [("pending", 10), ("first_token", 10), ("pending", 5)]


def test_a_pause_for_a_person_is_another_one() -> None:
    paused = course((10, status(Cause.PAUSED, State.PENDING)))
    assert paused.trace(START + 15) == [("pending", 10), ("paused", 5)]
    asks = status(Cause.PAUSED, State.RUNNING, error={"code": "needs_approval"})
    agent = course(
        (10, started()), (10, ATTEMPT), (20, text()),
        (30, Draft(EventType.TOOL_STARTED, {"id": "1"})), (45, asks),
        (60, status(Cause.RESUMED, State.PAUSED)), (70, started()),
        (80, Draft(EventType.STEP, {"number": 2})),
    )  # fmt: skip
    assert agent.trace(START + 100) == [
        ("pending", 10), ("first_token", 10), ("answering", 10), ("tool", 15), ("approval", 15),
        ("pending", 10), ("first_token", 30),
    ]  # fmt: skip


def test_a_retry_by_hand_begins_anew() -> None:
    task = course(
        (10, started()), (20, status(Cause.CANCELLED, State.RUNNING, closed_ms=7)),
        (500, status(Cause.RERUN, State.CANCELLED)),
    )  # fmt: skip
    assert (task.trace(START + 530), task.closed_ms) == ([("pending", 30)], None)
    again = apply(task, started(), START + 530)
    assert again.trace(START + 540) == [("pending", 30), ("first_token", 10)]


def test_closing_time_is_kept() -> None:
    task = course((10, started()), (20, status(Cause.CANCELLED, State.RUNNING, closed_ms=7)))
    assert (task.closed_ms, task.trace(0)) == (7, [("pending", 10), ("first_token", 10)])


def test_of_a_task_of_an_older_version_no_trace_is_made_up() -> None:
    task = Task(Request("t", created_at=START), State.RUNNING, started_at=START + 5)
    assert task.trace(START + 10) == []
    assert apply(task, text(), START + 7).trace(START + 10) == []


STEPS = st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(KINDS)), max_size=80)


@given(STEPS)
def test_a_trace_is_short_and_as_long_as_the_task(steps: list[tuple[int, str]]) -> None:
    marks: Marks = ()
    at = START
    for more, kind in steps:
        at += more
        marks = marked(marks, kind, at)
    found = spans(marks, ("pending", START), at + 5)
    assert len(found) <= SPANS_MOST
    assert sum(ms for _, ms in found) == at + 5 - START
    if steps:
        assert marks[-1][0] == steps[-1][1]
