import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.limits.adaptive import ROUNDS, ROUNDS_MOST, Learned


def full(limit: Learned, rounds: int) -> None:
    for _ in range(rounds):
        limit.full_round()


def test_until_the_first_refusal_it_grows_quickly() -> None:
    limit = Learned(2, ceiling=32)
    seen = []
    for _ in range(8):
        limit.full_round()
        seen.append(limit.value)
    assert seen == [3, 4, 6, 9, 14, 21, 32, 32]


def test_the_first_refusal_gives_the_number_itself() -> None:
    limit = Learned(45)
    limit.refused(40)
    assert (limit.value, limit.settled) == (40, True)


def test_no_single_refusal_takes_more_than_half() -> None:
    limit = Learned(40)
    limit.refused(0)
    assert limit.value == 20


def test_refusals_together_are_one() -> None:
    limit = Learned(40)
    limit.refused(30)
    for accepted in (29, 10, 0):
        limit.refused(accepted, again=True)
    assert (limit.value, limit.between) == (20, ROUNDS)


def test_the_floor_holds() -> None:
    limit = Learned(2)
    for _ in range(5):
        limit.refused(0)
    assert limit.value == 1


def test_probes_that_fail_become_rarer() -> None:
    limit, rounds = Learned(41), []
    limit.refused(40)
    for _ in range(7):
        before = 0
        while limit.value == 40:
            limit.full_round()
            before += 1
        assert limit.value == 41
        limit.refused(40)
        rounds.append(before)
    assert rounds == [4, 8, 16, 32, 64, 64, 64]
    assert limit.between == ROUNDS_MOST


def test_a_probe_that_stands_makes_the_next_sooner_and_longer() -> None:
    limit = Learned(41)
    limit.refused(40)
    full(limit, ROUNDS)
    assert limit.value == 41
    seen = []
    for _ in range(4):
        limit.full_round()
        seen.append(limit.value)
    assert seen == [43, 47, 55, 71]


def test_a_limit_that_has_fallen_is_looked_at_again_soon() -> None:
    limit = Learned(41)
    limit.refused(40)
    limit.refused(20)
    assert (limit.value, limit.between) == (20, 2)


def test_what_the_provider_names_is_not_probed() -> None:
    limit = Learned(30)
    limit.named_by_provider(60)
    full(limit, 100)
    assert limit.value == 60
    limit.refused(50)
    assert not limit.named


def test_what_is_kept_is_what_goes_on() -> None:
    limit = Learned(41)
    limit.refused(40)
    full(limit, ROUNDS)
    limit.refused(40)
    other = Learned(30)
    other.restore(limit.as_dict())
    assert (other.value, other.between, other.settled) == (40, 8, True)


def test_what_is_kept_cannot_leave_the_bounds() -> None:
    limit = Learned(2, ceiling=32)
    limit.restore({"value": 10**9, "patience": -3, "settled": 1})
    assert (limit.value, limit.between, limit.settled) == (32, 1, True)
    for broken in ({}, {"value": "x", "patience": 1, "settled": 1}, {"value": None}):
        with pytest.raises((LookupError, TypeError, ValueError)):
            limit.restore(broken)


@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 300), st.booleans()))))
def test_whatever_happens_it_stays_between_one_and_its_ceiling(
    steps: list[tuple[int, bool] | None],
) -> None:
    limit = Learned(30, ceiling=100)
    for step in steps:
        before = limit.value
        if step is None:
            limit.full_round()
            assert limit.value >= before
        else:
            limit.refused(*step)
            assert limit.value <= before
        assert 1 <= limit.value <= 100
