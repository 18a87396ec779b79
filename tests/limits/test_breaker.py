import math

from asyncsvc.limits.breaker import Breaker, BreakerState


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(5, 30.0)
    for _ in range(5):
        breaker.failed(at)
    return breaker


def test_four_failures_leave_it_closed() -> None:
    breaker = Breaker(5, 30.0)
    for _ in range(4):
        breaker.failed(0.0)
    assert breaker.state(0.0) is BreakerState.CLOSED
    assert breaker.wait(0.0) == 0
    assert breaker.enter() is False


def test_the_fifth_failure_in_a_row_opens_it() -> None:
    breaker = opened()
    assert breaker.state(0.0) is BreakerState.OPEN
    assert breaker.wait(0.0) == 30


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(5, 30.0)
    for _ in range(4):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(4):
        breaker.failed(0.0)
    assert breaker.state(0.0) is BreakerState.CLOSED


def test_the_cool_down_ends_in_half_open() -> None:
    breaker = opened(at=100.0)
    assert breaker.state(129.9) is BreakerState.OPEN
    assert breaker.state(130.0) is BreakerState.HALF_OPEN
    assert breaker.wait(130.0) == 0


def test_only_one_probe_passes() -> None:
    breaker = opened()
    assert breaker.enter() is True
    assert breaker.state(30.0) is BreakerState.HALF_OPEN
    assert breaker.wait(1e9) == math.inf


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.enter()
    breaker.succeeded()
    breaker.leave()
    assert breaker.state(30.0) is BreakerState.CLOSED
    assert breaker.failures == 0
    assert breaker.enter() is False


def test_a_probe_that_fails_opens_it_for_a_whole_cool_down() -> None:
    breaker = opened()
    breaker.enter()
    breaker.failed(40.0)
    breaker.leave()
    assert breaker.state(40.0) is BreakerState.OPEN
    assert breaker.wait(40.0) == 30


def test_a_probe_that_says_nothing_makes_room_for_the_next() -> None:
    breaker = opened()
    breaker.enter()
    breaker.leave()
    assert breaker.state(30.0) is BreakerState.HALF_OPEN
    assert breaker.wait(30.0) == 0


def test_a_late_failure_of_an_older_call_lets_no_second_probe_in() -> None:
    breaker = opened()
    breaker.enter()
    breaker.failed(31.0)  # a call that was under way when the breaker opened
    assert breaker.wait(1e9) == math.inf
    breaker.leave()
    assert breaker.wait(61.0) == 0


def test_a_late_success_of_an_older_call_does_not_end_the_probe() -> None:
    breaker = opened()
    breaker.enter()
    breaker.succeeded()
    assert breaker.state(31.0) is BreakerState.CLOSED
    for _ in range(5):
        breaker.failed(32.0)
    assert breaker.wait(1e9) == math.inf


def test_an_older_failure_moves_the_next_probe() -> None:
    breaker = opened()
    assert breaker.probe_at == 30
    breaker.enter()
    breaker.failed(31.0)
    assert (breaker.probing, breaker.probe_at) == (True, 61.0)
    breaker.succeeded()
    assert (breaker.probing, breaker.probe_at) == (False, -math.inf)
