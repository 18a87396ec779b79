from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.scheduling.fair_queue import Lane, Turns
from asyncsvc.scheduling.priority_queue import Entry

USERS = "abcd"
weights = st.fixed_dictionaries({user: st.sampled_from([0.5, 1.0, 2.0, 3.0]) for user in USERS})
moves = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "leave", "take"]),
        st.integers(1, 30),
        st.sampled_from([None, *USERS]),
        st.integers(0, 5),
    ),
    max_size=120,
)


@given(weights, st.integers(1, 60))
def test_those_who_wait_are_served_by_weight(given_: dict[str, float], turns: int) -> None:
    """Each is at most one task away from its share, at any moment."""
    lane = Lane(Turns(given_))
    for n in range(400):
        lane.enter(Entry(n, n, f"t{n}", owner=USERS[n * 4 // 400]))
    total = sum(given_.values())
    served: Counter[str | None] = Counter()
    for count in range(1, turns + 1):
        served[lane.take().owner] += 1
        for user, weight in given_.items():
            # One turn of its own, and one of each other user, may be under way.
            assert abs(served[user] - count * weight / total) <= 1 + weight * len(USERS)


@given(moves)
def test_a_lane_loses_none_and_keeps_each_user_s_order(
    played: list[tuple[str, int, str | None, int]],
) -> None:
    lane, model = Lane(Turns()), dict[str, Entry]()
    for verb, n, owner, key in played:
        entry = Entry(key, n, f"t{n}", owner=owner)
        if verb == "enter":
            lane.enter(entry)
            model.setdefault(entry.task_id, entry)
        elif verb == "leave":
            assert lane.leave(entry.task_id) == (model.pop(entry.task_id, None) is not None)
        elif model:
            head = lane.head()
            taken = lane.take()
            assert taken is head
            assert taken == min(one for one in model.values() if one.owner == taken.owner)
            del model[taken.task_id]
        assert len(lane) == len(model)
        assert (lane.head() is None) is not bool(model)
        if model:
            assert lane.rank() == min(one.rank for one in model.values())


@given(moves, st.sampled_from([None, *USERS]))
def test_the_position_that_is_answered_is_the_one_that_it_has(
    played: list[tuple[str, int, str | None, int]], user: str | None
) -> None:
    lane = Lane(Turns())
    for verb, n, owner, key in played:
        if verb == "take" and len(lane):
            lane.take()
        elif verb != "leave":
            lane.enter(Entry(key, n, f"t{n}", owner=owner))
    newcomer = Entry(9, 99, "new", owner=user)
    ahead = lane.ahead_of(newcomer.rank, user)
    lane.enter(newcomer)
    assert [lane.take().task_id for _ in range(ahead + 1)][-1] == "new"
