from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.scheduling.fair_queue import LANE_SLACK_S, PRIORITY_SLACK_S, Entry, Line, entry_of
from asyncsvc.tasks.state import Request, Task

Move = tuple[str, int, float]
moves = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "leave", "take"]),
        st.integers(1, 12),
        st.floats(0, 5, allow_nan=False).map(lambda key: round(key, 1)),
    ),
    max_size=80,
)
arrivals = st.lists(
    st.tuples(
        st.integers(0, 5_000),
        st.sampled_from(sorted(LANE_SLACK_S)),
        st.integers(0, 9),
    ),
    min_size=2,
    max_size=30,
)


def _play(line: Line, model: dict[str, Entry], move: Move) -> None:
    """The same move in the lane and in a plain dict, which must give the same."""
    verb, n, key = move
    entry = Entry(key, n, f"t{n}")
    if verb == "enter":
        line.enter(entry)
        model.setdefault(entry.task_id, entry)
    elif verb == "leave":
        assert line.leave(entry.task_id) == (model.pop(entry.task_id, None) is not None)
    elif model:
        best = min(model.values())
        assert line.head() == best
        line.leave(best.task_id)
        del model[best.task_id]


@given(moves)
def test_a_line_is_a_sorted_list_of_those_that_wait(played: list[Move]) -> None:
    line, model = Line(), dict[str, Entry]()
    for move in played:
        _play(line, model, move)
        order = sorted(model.values())
        assert len(line) == len(order)
        assert line.head() == (order[0] if order else None)
        assert [line.ahead_of(entry.rank) for entry in order] == list(range(len(order)))


@given(arrivals)
def test_none_is_overtaken_by_what_comes_after_its_slack(
    comers: list[tuple[int, str, int]],
) -> None:
    tasks = [
        Task(Request(f"t{n}", lane=lane, priority=priority), queued_at=at * 1000, n=n)
        for n, (at, lane, priority) in enumerate(sorted(comers), 1)
    ]
    for task in tasks:
        request = task.request
        slack = LANE_SLACK_S[request.lane] + PRIORITY_SLACK_S * (9 - request.priority)
        ahead = [other for other in tasks if entry_of(other) < entry_of(task)]
        assert all(other.queued_at <= task.queued_at + slack * 1000 for other in ahead)


@given(arrivals, st.integers(0, 1_000))
def test_a_later_start_of_the_clock_changes_no_order(
    comers: list[tuple[int, str, int]], shift: int
) -> None:
    def order(offset: int) -> list[str]:
        tasks = [
            Task(Request(f"t{n}", lane=lane, priority=prio), queued_at=(at + offset) * 1000, n=n)
            for n, (at, lane, prio) in enumerate(comers, 1)
        ]
        return [entry.task_id for entry in sorted(map(entry_of, tasks))]

    assert order(0) == order(shift)
