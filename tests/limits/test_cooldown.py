import pytest

from asyncsvc.limits.cooldown import LEARNED_SHARE, QUOTA_S, Cooldown
from asyncsvc.limits.headers import HOUR_S


def rest() -> Cooldown:
    return Cooldown(base_s=1.0, max_s=8.0, span_s=60.0)


def test_at_first_there_is_nothing_to_rest_from() -> None:
    assert rest().until <= 0.0


@pytest.mark.parametrize("wait", [5.0, 12.5])
def test_the_provider_s_word_counts(wait: float) -> None:
    resting = rest()
    resting.refused(wait, 100.0, learned=False)
    assert resting.until - 101.0 == wait - 1


def test_a_shorter_word_does_not_end_a_longer_rest() -> None:
    resting = rest()
    resting.refused(50.0, 0.0, learned=False)
    resting.refused(5.0, 1.0, learned=False)
    resting.asked(3.0, 1.0)
    assert resting.until - 1.0 == 49


def test_refusals_without_a_word_grow_until_a_call_is_taken() -> None:
    resting, now = rest(), 0.0
    for tries in range(6):
        resting.refused(None, now, learned=True)
        assert resting.until - now == min(60 * LEARNED_SHARE * 2**tries, 8.0)
        now = resting.until
    resting.answered()
    resting.refused(0, now, learned=True)
    assert resting.until - now == 60 * LEARNED_SHARE


def test_calls_refused_together_are_one_refusal() -> None:
    resting = rest()
    for _ in range(5):
        resting.refused(None, 0.0, learned=True)
    assert resting.until == 60 * LEARNED_SHARE


def test_without_a_learned_limit_the_rest_is_drawn_within_bounds() -> None:
    resting = rest()
    resting.refused(None, 0.0, learned=False)
    assert 0.1 <= resting.until <= 1.0


def test_a_quota_comes_back_in_an_hour_where_no_time_is_named() -> None:
    resting = rest()
    resting.used_up(None, 0.0)
    assert resting.until == QUOTA_S


def test_a_header_cannot_close_it_for_ever() -> None:
    resting = rest()
    resting.asked(1e9, 0.0)
    assert resting.until == HOUR_S
