import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.limits.sliding_window import KEPT, Entry, Window


def called(budget: Window, tokens: int, now: float) -> Entry:
    share = budget.reserve(tokens)
    budget.sent(share, now)
    budget.head(share, now)
    return share


def test_without_a_limit_all_fits_but_a_limit_that_comes_later_knows_it() -> None:
    budget = Window(0)
    budget.sent(budget.reserve(10**9), 0.0)
    assert budget.wait(0.0, 10**9) == 0
    budget.limit = 100
    assert budget.wait(1.0, 1) > 60
    assert budget.wait(63.0, 1) == 0


def test_without_a_limit_only_so_many_are_noted() -> None:
    budget = Window(0)
    for _ in range(KEPT + 5):
        called(budget, 1, 0.0)
    assert budget.used(0.0) == KEPT


def test_it_is_whole_again_when_the_latest_call_no_longer_counts() -> None:
    budget = Window(100)
    assert budget.whole(0.0) == 0
    share = budget.reserve(10)
    called(budget, 10, 5.0)
    assert budget.whole(6.0) == math.inf
    budget.refund(share)
    assert 58 < budget.whole(6.0) < 60
    assert budget.whole(66.0) == 0


def test_tokens_stay_where_they_are_when_the_span_changes() -> None:
    budget = Window(100)
    called(budget, 100, 0.0)
    budget.span(10.0)
    assert 0 < budget.wait(5.0, 1) < 6
    budget.span(100.0)
    assert 94 < budget.wait(5.0, 1) < 96


def test_what_does_not_fit_waits_until_enough_has_left() -> None:
    budget = Window(100)
    called(budget, 50, 0.0)
    called(budget, 30, 10.0)
    assert budget.wait(10.0, 20) == 0
    assert budget.wait(10.0, 21) == pytest.approx(50.002)
    assert budget.wait(10.0, 71) == pytest.approx(60.002)


def test_a_call_that_was_not_sent_may_count_for_ever() -> None:
    budget = Window(100)
    budget.reserve(60)
    assert budget.wait(0.0, 50) == math.inf
    assert budget.wait(0.0, 40) == 0


def test_a_call_that_was_never_made_gives_its_tokens_back() -> None:
    budget = Window(100)
    share = budget.reserve(100)
    budget.refund(share)
    assert budget.wait(0.0, 100) == 0


def test_real_usage_takes_the_estimates_place() -> None:
    budget = Window(100)
    share = called(budget, 80, 0.0)
    budget.settle(share, 15, 5.0)
    assert budget.used(5.0) == 15


def test_what_was_used_beyond_the_estimate_counts_from_the_end() -> None:
    budget = Window(100)
    share = called(budget, 20, 0.0)
    budget.settle(share, 90, 30.0)
    assert budget.used(30.0) == 90
    assert budget.used(61.0) == 70
    assert budget.used(91.0) == 0


def test_more_than_the_whole_limit_goes_alone() -> None:
    budget = Window(100)
    called(budget, 1, 0.0)
    assert budget.wait(0.0, 5000) == pytest.approx(60.002)
    called(budget, 5000, 61.0)
    assert budget.used(61.0) == 100


def test_earlier_calls_count() -> None:
    budget = Window(100)
    budget.restore(50.0, 100.0, 60)
    assert budget.wait(100.0, 50) == pytest.approx(12.002)


call = st.tuples(st.floats(0, 30), st.integers(1, 120), st.floats(0, 40), st.integers(0, 120))


@given(st.integers(1, 100), st.lists(call, max_size=40))
def test_a_wait_is_always_enough_and_estimates_never_exceed_the_limit(
    limit: int, calls: list[tuple[float, int, float, int]]
) -> None:
    budget, now = Window(limit), 0.0
    for before, tokens, lasts, really in calls:
        now += before
        wait = budget.wait(now, tokens)
        assert wait < math.inf
        now += wait + 1e-6
        assert budget.wait(now, tokens) == 0
        share = called(budget, tokens, now)
        assert budget.used(now) <= limit
        budget.settle(share, min(really, share.weight), now + lasts)


def test_a_call_that_is_not_sent_yet_does_not_hide_when_others_leave() -> None:
    budget = Window(100)
    budget.reserve(40)
    called(budget, 60, 0.0)
    assert budget.wait(0.0, 60) == pytest.approx(60.002)
    assert budget.wait(0.0, 61) == math.inf
    assert budget.used(61.0) == 40
