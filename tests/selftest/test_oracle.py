"""The oracle finds each fault that a service could have, in a recorded run changed in one place."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from asyncsvc.selftest import oracle
from asyncsvc.selftest.oracle import Findings, judge
from asyncsvc.selftest.records import Evidence
from asyncsvc.storage.audit import Life
from tests.selftest.stories import calls, finished, life, sent, story, whole


def kinds(found: Findings) -> set[str]:
    """The names of the findings that hold something."""
    return {field.name for field in fields(found) if getattr(found, field.name)}


def test_a_run_that_holds_has_no_findings() -> None:
    assert judge(story()).all() == []


def lost(run: Evidence) -> None:
    run.lives.compare(run.lives.finished, {"t"}, {"t", "u"})


def run_again(run: Evidence) -> None:
    again = {"t": replace(finished(run.tasks[0]), starts=3, version=9)}
    run.lives.compare(again, {"t", "u"}, {"t", "u"})


def finished_and_gone(run: Evidence) -> None:
    run.lives.compare({}, {"t", "u"}, {"t", "u"})


def paid_again(run: Evidence) -> None:
    run.calls = [*run.calls, *calls()[1:]]


def event_twice_to_the_feed(run: Evidence) -> None:
    run.feed.take(run.feed.events[run.feed.last])


def event_twice_to_a_follower(run: Evidence) -> None:
    run.followed[0].events.append(run.followed[0].events[-1])


def event_not_sent(run: Evidence) -> None:
    del run.feed.events[5]


def event_never_stored(run: Evidence) -> None:
    run.feed.take(sent(run.tasks[0], (99, 11, "chunk", {"text": "c"})))


def event_sent_otherwise(run: Evidence) -> None:
    run.feed.events[4] = sent(run.tasks[0], (4, 4, "chunk", {"text": "x"}))


def event_stored_twice(run: Evidence) -> None:
    task = run.tasks[0]
    task.events.insert(3, task.events[2])


def follower_of_a_lost_task(run: Evidence) -> None:
    run.followed[0].task_id = "gone"


def limit_exceeded(run: Evidence) -> None:
    run.figures["models"]["limited"]["violations"]["rate"] = 2


def stored_twice(run: Evidence) -> None:
    run.tasks[1].content = run.tasks[0].content


def attempt_counted_for_a_kill(run: Evidence) -> None:
    events = run.tasks[0].events
    events[4] = (5, 5, "status", {"cause": "retrying"})
    run.tasks[0].attempts = 2


def cancelled_and_completed(run: Evidence) -> None:
    run.ledger.cancelled.add("t")


def left_running(run: Evidence) -> None:
    run.tasks[0].state = "running"


def failed_without_its_retries(run: Evidence) -> None:
    run.tasks[0].state = "failed"


def odd_answer(run: Evidence) -> None:
    run.ledger.odd.append("a submit was answered 500: {}")


def database_damaged(run: Evidence) -> None:
    run.integrity = "row 3 missing from index"


FAULTS: list[tuple[Callable[[Evidence], None], set[str]]] = [
    (lost, {"lost"}),
    (run_again, {"rerun"}),
    (finished_and_gone, {"rerun"}),
    (paid_again, {"against_provider"}),
    (event_twice_to_the_feed, {"followers"}),
    (event_twice_to_a_follower, {"followers"}),
    (event_not_sent, {"followers"}),
    (event_never_stored, {"followers"}),
    (event_sent_otherwise, {"followers"}),
    (event_stored_twice, {"tasks", "followers"}),
    (follower_of_a_lost_task, {"followers"}),
    (limit_exceeded, {"limits"}),
    (stored_twice, {"twins"}),
    (attempt_counted_for_a_kill, {"attempts", "followers"}),
    (cancelled_and_completed, {"ends"}),
    (left_running, {"ends"}),
    (failed_without_its_retries, {"ends"}),
    (odd_answer, {"odd"}),
    (database_damaged, {"integrity"}),
]


@pytest.mark.parametrize(("spoil", "named"), FAULTS, ids=[each[0].__name__ for each in FAULTS])
def test_the_oracle_finds(spoil: Callable[[Evidence], None], named: set[str]) -> None:
    run = story()
    spoil(run)
    assert named <= kinds(judge(run))
    assert kinds(judge(run)) <= named | {"against_provider", "tasks"}


def test_a_lost_task_is_reported_once() -> None:
    run = story()
    lost(run)
    lost(run)
    assert judge(run).lost == ["u"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (whole(shift=1), "gaps"),
        (whole(shift=-2), "do not grow"),
        (whole(text="c"), "its chunks give"),
        (life((1, 1, "attempt", {}), (2, 2, "chunk", {"text": "ab"}), attempts=2), "2 attempts"),
        (life((1, 1, "chunk", {"text": "ab"}), attempts=0), "starts"),
        (life(), "by None"),
    ],
)
def test_a_task_by_itself(wrong: Life, named: str) -> None:
    assert any(named in fault for fault in oracle.inspect(wrong, most_attempts=1))


CALL: dict[str, Any] = {"outcome": "completed", "text": "ab"}


@pytest.mark.parametrize(
    "made", [[], [CALL] * 3, [{**CALL, "text": "x"}], [{**CALL, "outcome": "reset"}]]
)
def test_a_task_and_the_calls_of_its_provider(made: list[dict[str, str]]) -> None:
    assert oracle.against_calls(whole(), [CALL]) == []
    assert oracle.against_calls(whole(), made) != []


def test_a_kill_costs_no_attempt() -> None:
    retried = life((1, 1, "status", {"cause": "retrying"}), (2, 2, "status", {"cause": "failed"}))
    outcomes = ["500", "disconnected", "429-after", "rejected", "completed", None, "reset"]
    made = [{"outcome": outcome} for outcome in outcomes]
    assert oracle.uncaused(retried, made) == []
    assert oracle.uncaused(retried, made[:-1]) != []


def test_a_window_is_half_open_and_slides() -> None:
    assert oracle.most_within([0, 1, 9.9, 10, 10.5], 10) == 4
    assert oracle.most_within([0, 10, 20], 10) == 1


def call(at: float, until: float, left: bool = False) -> dict[str, Any]:
    return {"arrived_at": at, "finished_at": until, "client_left": left}


def test_calls_at_once_are_counted_from_arrival_to_end() -> None:
    assert oracle.most_at_once([call(0, 3), call(1, 2), call(2, 4)]) == 2
    assert oracle.most_at_once([call(0, 3), call(1, 4), call(2.5, 4)]) == 3
    assert oracle.most_at_once([call(0, 3, left=True), call(2.99, 4)]) == 1
    assert oracle.most_at_once([call(0, 3, left=True), call(2.9, 4)]) == 2


def test_many_faults_are_shortened() -> None:
    assert oracle.shortened(["a", "b"], "task") == ["task: a", "task: b"]
    assert oracle.shortened("abcdefg", "task")[0] == "task: 7 in all"
    assert len(oracle.shortened("abcdefg", "task")) == 1 + oracle.MOST_SHOWN
