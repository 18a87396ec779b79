import pytest

from asyncsvc.scheduling.fair_queue import (
    LANE_SLACK_S,
    PRIORITY_SLACK_S,
    Entry,
    Line,
    entry_of,
    newcomer,
)
from asyncsvc.tasks.state import Request, Task


def _entry(key: float, n: int) -> Entry:
    return Entry(key, n, f"t{n}")


def _task(at_s: float, n: int = 1, lane: str = "short", priority: int = 5) -> Task:
    request = Request(f"t{n}", lane=lane, priority=priority)
    return Task(request, queued_at=round(at_s * 1000), n=n)


def _line(*entries: Entry) -> Line:
    line = Line()
    for entry in entries:
        line.enter(entry)
    return line


def _drained(line: Line) -> list[str]:
    found: list[str] = []
    while (head := line.head()) is not None:
        found.append(head.task_id)
        line.leave(head.task_id)
    return found


def test_the_smallest_key_goes_first() -> None:
    assert _drained(_line(_entry(3, 1), _entry(1, 2), _entry(2, 3))) == ["t2", "t3", "t1"]


def test_equal_keys_go_in_order_of_arrival() -> None:
    assert _drained(_line(_entry(1, 2), _entry(1, 10), _entry(1, 1))) == ["t1", "t2", "t10"]


def test_the_head_stays_until_it_is_taken() -> None:
    line = _line(_entry(1, 1))
    assert line.head() == line.head() == _entry(1, 1)
    assert len(line) == 1


def test_an_empty_queue_has_no_head() -> None:
    assert _line().head() is None


def test_a_removed_task_is_passed_over() -> None:
    line = _line(_entry(1, 1), _entry(2, 2))
    assert line.leave("t1")
    assert not line.leave("t1")
    assert _drained(line) == ["t2"]
    assert line.head() is None


def test_a_task_added_again_has_its_new_place_only() -> None:
    line = _line(_entry(1, 1), _entry(2, 2))
    line.leave("t1")
    line.enter(_entry(3, 1))
    assert _drained(line) == ["t2", "t1"]


def test_entering_twice_keeps_the_place() -> None:
    line = _line(_entry(2, 1), _entry(3, 2))
    line.enter(_entry(9, 1))
    assert _drained(line) == ["t1", "t2"]


def test_the_number_ahead_counts_the_waiting_only() -> None:
    line = _line(*(_entry(n, n) for n in range(1, 6)))
    assert [line.ahead_of((n, n)) for n in range(1, 6)] == [0, 1, 2, 3, 4]
    line.leave("t2")
    assert line.ahead_of((5, 5)) == 3
    assert line.ahead_of((0, 9)) == 0


def test_a_new_task_without_a_number_is_behind_equal_tasks() -> None:
    waiting, rank = entry_of(_task(10, n=7)), newcomer(Request("t8"), 10_000)
    assert _line(waiting).ahead_of(rank) == 1


def test_nothing_waits_less_than_the_most_urgent() -> None:
    assert entry_of(_task(100, lane="priority", priority=9)).key == 100


@pytest.mark.parametrize(
    ("more", "less"),
    [(("priority", 0), ("short", 9)), (("short", 0), ("long", 9)), (("short", 6), ("short", 5))],
)
def test_lanes_come_before_priorities(more: tuple[str, int], less: tuple[str, int]) -> None:
    first = entry_of(_task(10, 2, *more))
    assert first < entry_of(_task(10, 1, *less))


def test_a_task_is_overtaken_only_by_what_comes_within_its_slack() -> None:
    least = entry_of(_task(0, 1, "long", 0))
    slack = LANE_SLACK_S["long"] + 9 * PRIORITY_SLACK_S
    assert entry_of(_task(slack - 0.001, 2, "priority", 9)) < least
    assert entry_of(_task(slack, 3, "priority", 9)) > least


def test_an_entry_remembers_its_session() -> None:
    task = Task(Request("t1", session_id="s"), n=1)
    assert entry_of(task).session_id == "s"
