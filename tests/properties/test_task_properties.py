"""Any run through the table, legal or not."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.errors import IllegalTransition
from asyncsvc.tasks.state import (
    FINISHED,
    TRANSITIONS,
    Cause,
    Draft,
    EventType,
    Request,
    State,
    apply,
    create,
)

FACTS = st.fixed_dictionaries(
    {},
    optional={
        "usage": st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
        "latency": st.floats(0, 1e6),
        "error": st.fixed_dictionaries({"code": st.text(max_size=5)}),
        "cached": st.booleans(),
        "next_run_at": st.integers(0, 1 << 40),
    },
)


@st.composite
def statuses(draw: st.DrawFn) -> Draft:
    cause = draw(st.sampled_from(list(Cause)))
    return Draft(EventType.STATUS, {"cause": cause.value} | draw(FACTS))


ATTEMPTS = st.builds(
    lambda name: Draft(EventType.ATTEMPT, {"name": name, "model": name, "route": None}),
    st.text(max_size=5),
)
OF_AGENTS = [Draft(kind, {"step": 1}) for kind in (EventType.MESSAGE, EventType.TOOL_CALL)]
STORED = (EventType.STATUS, EventType.ATTEMPT, EventType.STEP)
"""The types of events that change more of a task than its number."""
OTHERS = st.sampled_from(
    [Draft(kind, {"text": "x", "number": 1}) for kind in list(EventType)[2:]] + OF_AGENTS
)
DRAFTS = st.lists(st.one_of(statuses(), statuses(), ATTEMPTS, OTHERS), max_size=40)
REQUESTS = st.builds(Request, st.just("t1"), run_at=st.none() | st.integers(0, 100))


@given(REQUESTS, DRAFTS)
def test_whatever_is_asked_of_it_a_task_stays_sound(request: Request, drafts: list[Draft]) -> None:
    task, _ = create(request, 50)
    for at, draft in enumerate(drafts, 51):
        try:
            after = apply(task, draft, at)
        except IllegalTransition:
            continue
        assert after.seq == task.seq + 1
        assert after.request is task.request
        assert after.version == task.version + (draft.type in STORED or draft in OF_AGENTS)
        assert (after.finished_at is not None) == (after.state in FINISHED)
        assert 0 <= after.forgiven <= after.attempts
        assert (after.state is State.RUNNING) <= (after.tries >= 1)
        task = after


@given(REQUESTS, DRAFTS)
def test_the_legal_events_alone_make_the_same_task(request: Request, drafts: list[Draft]) -> None:
    new, _ = create(request, 50)
    task, kept = new, []
    for at, draft in enumerate(drafts, 51):
        try:
            task = apply(task, draft, at)
        except IllegalTransition:
            continue
        kept.append((draft.type.value, orjson.dumps(draft.data), at))
    again = new
    for kind, data, at in kept:
        again = apply(again, Draft(EventType(kind), orjson.loads(data)), at)
    assert again == task


def test_every_state_can_be_reached_and_left() -> None:
    reached: set[State | None] = {None}
    while True:
        further = {to for state in reached for to in TRANSITIONS[state].values()}
        if further <= reached:
            break
        reached |= further
    assert reached == {None, *State}
    assert all(TRANSITIONS[state] for state in reached)
