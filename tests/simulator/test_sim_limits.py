import random

import pytest

from asyncsvc.simulator.limits import ModelLimits


class Caller:
    def __init__(self) -> None:
        self.gone = False


def test_concurrency_is_never_exceeded_and_release_is_idempotent() -> None:
    limits, callers = ModelLimits(), [Caller() for _ in range(4)]
    got = [limits.admit(c, 0.0, concurrency=3, rpm=0, window_s=60) for c in callers]
    assert got == [None, None, None, "concurrency"]
    limits.release(callers[0])
    limits.release(callers[0])
    assert limits.in_flight == 2
    assert limits.admit(callers[3], 0.0, concurrency=3, rpm=0, window_s=60) is None
    assert limits.peak_concurrency == 3


def test_a_caller_known_to_be_gone_does_not_cost_its_successor() -> None:
    limits, first, second = ModelLimits(), Caller(), Caller()
    assert limits.admit(first, 0.0, concurrency=1, rpm=0, window_s=60) is None
    first.gone = True
    assert limits.admit(second, 0.0, concurrency=1, rpm=0, window_s=60) is None
    assert limits.in_flight == 1


def test_the_window_is_half_open_and_rejections_do_not_consume_it() -> None:
    limits = ModelLimits()

    def arrive(now: float) -> str | None:
        return limits.admit(Caller(), now, concurrency=0, rpm=2, window_s=10)

    assert arrive(0.0) is None
    assert arrive(9.0) is None
    assert [arrive(t) for t in (9.5, 9.9, 9.999)] == ["rate"] * 3
    assert arrive(10.0) is None
    assert arrive(18.9) == "rate"
    assert arrive(19.0) is None


def test_a_call_turned_away_takes_no_place() -> None:
    limits = ModelLimits()
    limits.admit(Caller(), 0.0, concurrency=0, rpm=1, window_s=10)
    assert limits.admit(Caller(), 1.0, concurrency=0, rpm=1, window_s=10) == "rate"
    assert limits.in_flight == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_window_ever_holds_more_than_rpm(seed: int) -> None:
    chance, limits, now = random.Random(seed), ModelLimits(), 0.0
    accepted: list[float] = []
    for _ in range(2000):
        now += chance.expovariate(2.0)
        if limits.admit(Caller(), now, concurrency=0, rpm=7, window_s=5.0) is None:
            accepted.append(now)
    windows = [sum(1 for t in accepted if s <= t < s + 5.0) for s in accepted]
    assert max(windows) == 7
    assert limits.max_in_window == 7


def test_forget_peaks_keeps_the_limits_themselves() -> None:
    limits, caller = ModelLimits(), Caller()
    limits.admit(Caller(), 0.0, concurrency=2, rpm=2, window_s=10)
    limits.admit(caller, 0.0, concurrency=2, rpm=2, window_s=10)
    limits.release(caller)
    limits.forget_peaks()
    assert (limits.peak_concurrency, limits.max_in_window) == (1, 2)
    assert limits.admit(caller, 1.0, concurrency=2, rpm=2, window_s=10) == "rate"
