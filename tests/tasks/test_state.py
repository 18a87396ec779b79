"""The table of states, arrow by arrow."""

from dataclasses import replace
from typing import Any

import pytest

from asyncsvc.errors import IllegalTransition
from asyncsvc.tasks.state import (
    FINISHED,
    REFUNDED,
    UNFINISHED,
    Cause,
    Draft,
    EventType,
    Request,
    State,
    Task,
    apply,
    create,
    status,
    target,
)
from tests.builders import attempt, chunk

ARROWS = """
    new        submitted    pending
    new        delayed      scheduled
    scheduled  due          pending
    scheduled  paused       paused
    scheduled  cancelled    cancelled
    scheduled  failed       failed
    pending    started      running
    pending    paused       paused
    pending    cancelled    cancelled
    pending    failed       failed
    running    completed    completed
    running    failed       failed
    running    retrying     scheduled
    running    deferred     pending
    running    interrupted  pending
    running    paused       paused
    running    cancelled    cancelled
    paused     resumed      pending
    paused     postponed    scheduled
    paused     cancelled    cancelled
    paused     failed       failed
    completed  rerun        pending
    failed     rerun        pending
    cancelled  rerun        pending
"""
EXPECTED = {(a, b): c for a, b, c in (line.split() for line in ARROWS.split("\n") if line.strip())}
PAIRS = [(state, cause) for state in [None, *State] for cause in Cause]


def standing(state: State, **fields: Any) -> Task:
    return replace(Task(Request("t1"), state, seq=7, version=3, updated_at=1), **fields)


def status_of(cause: Cause, **facts: Any) -> Draft:
    """A status event that has not been checked against the table."""
    return Draft(EventType.STATUS, {"cause": cause.value, **facts})


def walked(*causes: Cause, at: int = 10) -> Task:
    """A task after these causes, a millisecond apart."""
    task, _ = create(Request("t1"), at)
    for later, cause in enumerate(causes, at + 1):
        task = apply(task, status(cause, task.state), later)
    return task


def test_every_state_is_finished_or_not() -> None:
    assert set(State) == FINISHED | UNFINISHED
    assert {s for s in State if standing(s).finished} == FINISHED
    assert {State.COMPLETED, State.FAILED, State.CANCELLED} == FINISHED


@pytest.mark.parametrize(("state", "cause"), PAIRS)
def test_an_arrow_leads_where_the_table_says_or_does_not_exist(
    state: State | None, cause: Cause
) -> None:
    expected = EXPECTED.get((state.value if state else "new", cause.value))
    if expected is None:
        with pytest.raises(IllegalTransition):
            target(state, cause)
        with pytest.raises(IllegalTransition):
            status(cause, state)
    else:
        assert target(state, cause).value == expected
        assert status(cause, state).data == {"status": expected, "cause": cause.value}


@pytest.mark.parametrize(("state", "cause"), [pair for pair in PAIRS if pair[0]])
def test_apply_moves_or_changes_nothing(state: State, cause: Cause) -> None:
    task = standing(state)
    before = replace(task)
    expected = EXPECTED.get((state.value, cause.value))
    if expected is None:
        with pytest.raises(IllegalTransition) as caught:
            apply(task, status_of(cause), 5)
        assert (caught.value.state, caught.value.cause) == (state.value, cause.value)
    else:
        after = apply(task, status_of(cause), 5)
        assert (after.state, after.seq, after.version, after.updated_at) == (expected, 8, 4, 5)
        assert after.finished_at == (5 if after.finished else None)
    assert task == before


@pytest.mark.parametrize("cause", [c for s, c in EXPECTED if s == "running"])
def test_only_a_refunded_cause_gives_the_attempt_back(cause: str) -> None:
    running = standing(State.RUNNING, attempts=2, starts=5)
    after = apply(running, status_of(Cause(cause)), 5)
    assert after.attempts == (1 if Cause(cause) in REFUNDED else 2)
    assert after.starts == 5


def test_what_is_refunded() -> None:
    assert {Cause.DEFERRED, Cause.INTERRUPTED, Cause.PAUSED} == REFUNDED


@pytest.mark.parametrize("state", [State.PENDING, State.SCHEDULED])
def test_a_pause_before_the_start_refunds_nothing(state: State) -> None:
    assert apply(standing(state, attempts=2), status_of(Cause.PAUSED), 5).attempts == 2


def test_a_start_counts_and_clears_what_the_last_one_left() -> None:
    left = {"error": {"code": "x"}, "usage": {"n": 1}, "latency": 2.0}
    task = apply(standing(State.PENDING, attempts=1, **left), status_of(Cause.STARTED), 9)
    assert (task.attempts, task.started_at) == (2, 9)
    assert (task.error, task.usage, task.latency) == (None, None, None)


def test_the_first_start_is_kept_over_a_retry() -> None:
    task = walked(Cause.STARTED, Cause.RETRYING, Cause.DUE, Cause.STARTED)
    assert (task.started_at, task.attempts) == (11, 2)


def test_a_task_that_has_not_started_queues_when_it_is_due() -> None:
    task, draft = create(Request("t1", run_at=50), 10)
    assert (task.state, task.queued_at, task.next_run_at) == (State.SCHEDULED, 50, 50)
    assert draft.data["next_run_at"] == 50
    due = apply(task, status_of(Cause.DUE), 53)
    assert (due.queued_at, due.next_run_at) == (53, None)


def test_a_resumed_task_queues_anew_unless_it_has_started() -> None:
    assert walked(Cause.PAUSED, Cause.RESUMED).queued_at == 12
    assert walked(Cause.STARTED, Cause.PAUSED, Cause.RESUMED).queued_at == 10
    assert walked(Cause.STARTED, Cause.RETRYING, Cause.DUE).queued_at == 10


@pytest.mark.parametrize("run_at", [None, 9, 10])
def test_a_task_is_pending_at_once_unless_its_time_is_to_come(run_at: int | None) -> None:
    task, draft = create(Request("t1", run_at=run_at), 10)
    assert (task.state, task.seq, task.version, task.queued_at) == (State.PENDING, 1, 1, 10)
    assert draft.data == {"status": "pending", "cause": "submitted"}


def test_a_rerun_writes_the_attempts_off_and_begins_anew() -> None:
    task = walked(Cause.STARTED, Cause.RETRYING, Cause.DUE, Cause.STARTED, Cause.FAILED)
    task = replace(task, error={"code": "x"}, usage={"n": 1}, latency=1.0)
    again = apply(task, status_of(Cause.RERUN), 99)
    assert (again.attempts, again.forgiven, again.tries) == (2, 2, 0)
    assert (again.queued_at, again.started_at, again.finished_at) == (99, None, None)
    assert (again.error, again.usage, again.latency) == (None, None, None)
    assert apply(again, status_of(Cause.STARTED), 100).tries == 1


def test_the_facts_of_an_event_become_the_task_s() -> None:
    facts = {"usage": {"total_tokens": 3}, "latency": 0.5, "cached": True, "error": {"code": "x"}}
    task = apply(standing(State.RUNNING), status_of(Cause.COMPLETED, **facts), 5)
    assert (task.usage, task.latency) == (facts["usage"], facts["latency"])
    assert (task.cached, task.error) == (facts["cached"], facts["error"])


def test_a_retry_says_when() -> None:
    task = apply(standing(State.RUNNING), status_of(Cause.RETRYING, next_run_at=77), 5)
    assert (task.state, task.next_run_at) == (State.SCHEDULED, 77)


@pytest.mark.parametrize("state", [s for s in State if s is not State.RUNNING])
@pytest.mark.parametrize("kind", [t for t in EventType if t is not EventType.STATUS])
def test_only_a_running_task_says_anything(state: State, kind: EventType) -> None:
    if (state, kind) == (State.PAUSED, EventType.APPROVAL):
        return  # a person decides while the task is paused
    with pytest.raises(IllegalTransition, match=f"{state.value}.*{kind.value}"):
        apply(standing(state), Draft(kind, {}), 5)


def test_an_attempt_names_the_model_and_counts_as_a_start() -> None:
    task = apply(standing(State.RUNNING), attempt("fast"), 5)
    assert (task.name, task.model, task.route) == ("fast", "fast-model", {"why": 1})
    assert (task.starts, task.seq, task.version, task.attempts) == (1, 8, 4, 0)


def test_an_agent_counts_its_steps_and_calls_until_it_is_retried() -> None:
    task = apply(standing(State.RUNNING), Draft(EventType.STEP, {"number": 3}), 5)
    task = apply(task, Draft(EventType.TOOL_CALL, {"id": "c1", "step": 3}), 6)
    assert (task.steps, task.tool_calls, task.version, task.seq) == (3, 1, 5, 9)
    task = apply(task, status(Cause.FAILED, State.RUNNING), 7)
    assert (task.steps, task.tool_calls) == (3, 1)
    task = apply(task, status(Cause.RERUN, State.FAILED), 8)
    assert (task.steps, task.tool_calls) == (0, 0)


def test_a_decision_about_a_call_comes_while_the_task_is_paused() -> None:
    paused = standing(State.PAUSED)
    assert apply(paused, Draft(EventType.APPROVAL, {"id": "c1"}), 5) == replace(paused, seq=8)


def test_text_moves_nothing_but_the_number() -> None:
    running = standing(State.RUNNING)
    assert apply(running, chunk("x"), 5) == replace(running, seq=8)


def test_a_cause_that_no_client_knows_is_no_arrow() -> None:
    with pytest.raises(ValueError, match="exploded"):
        apply(standing(State.RUNNING), Draft(EventType.STATUS, {"cause": "exploded"}), 5)


def test_the_id_is_the_request_s() -> None:
    assert standing(State.PENDING).id == "t1"
