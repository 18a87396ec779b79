from collections import Counter

import pytest

from asyncsvc.scheduling import fair_queue as lanes
from asyncsvc.scheduling.fair_queue import Entry, Lane, Turns


def _entry(n: int, owner: str | None = None, key: float | None = None) -> Entry:
    return Entry(n if key is None else key, n, f"t{n}", owner=owner)


def _lane(*entries: Entry, **weights: float) -> Lane:
    lane = Lane(Turns(weights))
    for entry in entries:
        lane.enter(entry)
    return lane


def _served(lane: Lane, count: int | None = None) -> list[str | None]:
    return [lane.take().owner for _ in range(len(lane) if count is None else count)]


def _many(owner: str, count: int, start: int = 1) -> list[Entry]:
    return [_entry(n, owner) for n in range(start, start + count)]


def test_one_task_of_another_user_is_next_behind_five_thousand() -> None:
    lane = _lane(*_many("busy", 5000))
    assert _served(lane, 100) == ["busy"] * 100
    lane.enter(_entry(6000, "late"))
    assert _served(lane, 2) in (["late", "busy"], ["busy", "late"])


def test_users_take_turns_by_weight() -> None:
    lane = _lane(*_many("a", 100), *_many("b", 100, 101), b=3.0)
    assert Counter(_served(lane, 80)) == {"a": 20, "b": 60}


def test_alone_a_user_s_tasks_go_in_order_of_urgency() -> None:
    lane = _lane(_entry(1, "a", 5), _entry(2, "a", 3), _entry(3, "a", 4))
    assert [lane.take().n for _ in range(3)] == [2, 3, 1]


def test_of_equal_turns_the_more_urgent_goes_first() -> None:
    lane = _lane(_entry(1, "a", 5), _entry(2, "b", 3), _entry(3, None, 4))
    assert _served(lane) == ["b", None, "a"]


def test_a_user_who_was_away_has_saved_nothing_up() -> None:
    lane = _lane(*_many("a", 50))
    _served(lane, 40)
    for entry in _many("b", 50, 100):
        lane.enter(entry)
    assert Counter(_served(lane, 10)) == {"a": 5, "b": 5}


def test_a_user_with_one_task_at_a_time_gets_its_share_and_no_more() -> None:
    lane = _lane(*_many("a", 50), _entry(100, "b"))
    served = []
    for n in range(20):
        served += _served(lane, 1)
        if served[-1] == "b":
            lane.enter(_entry(200 + n, "b"))
    assert Counter(served) == {"a": 10, "b": 10}


def test_lanes_of_other_models_count_for_the_same_turns() -> None:
    turns = Turns()
    one, other = Lane(turns), Lane(turns)
    for entry in _many("a", 10):
        one.enter(entry)
    _served(one, 5)
    other.enter(_entry(20, "a", 1))
    other.enter(_entry(21, "b", 2))
    assert _served(other) == ["b", "a"]


def test_the_position_of_a_new_task_counts_turns_and_not_tasks() -> None:
    lane = _lane(*_many("a", 100))
    assert lane.ahead_of((500, 500), "a") == 100
    assert lane.ahead_of((500, 500), "b") == 1
    assert lane.ahead_of((0, 500), "b") == 0
    lane.enter(_entry(500, "b"))
    assert lane.ahead_of((600, 600), "b") == 3


def test_the_position_counts_by_weight() -> None:
    lane = _lane(*_many("a", 100), _entry(200, "b"), b=2.0)
    assert lane.ahead_of((600, 600), "b") == 1 + 1


def test_the_lane_is_as_urgent_as_its_most_urgent_task() -> None:
    lane = _lane(_entry(1, "a", 7), _entry(2, "b", 9))
    assert lane.rank() == (7, 1)
    _served(lane, 1)
    assert lane.rank() == (9, 2)


def test_a_removed_task_leaves_its_turn_to_others() -> None:
    lane = _lane(_entry(1, "a"), _entry(2, "a"), _entry(3, "b"))
    head = lane.head()
    assert head is not None
    assert head.n == 1
    assert lane.leave("t1")
    assert not lane.leave("t1")
    assert _served(lane) == ["a", "b"]
    assert lane.head() is None


def test_entering_twice_keeps_the_place() -> None:
    lane = _lane(_entry(1, "a"), _entry(2, "a"))
    lane.enter(_entry(1, "a", 9))
    assert [lane.take().n for _ in range(2)] == [1, 2]


def test_users_that_are_long_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "USERS_KEPT", 10)
    lane = _lane()
    for n in range(100):
        lane.enter(_entry(n, f"user {n}"))
        lane.take()
    assert len(lane.turns) <= 11
