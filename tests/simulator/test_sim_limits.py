"""Limits of one model, and the log of calls."""

import random

import pytest

from asyncsvc.simulator import ModelSettings, simulator
from asyncsvc.simulator.simulator import CallLog, ModelLimits


class Caller:
    def __init__(self) -> None:
        self.gone = False


def test_concurrency_is_never_exceeded_and_release_is_idempotent() -> None:
    limits, callers = ModelLimits(), [Caller() for _ in range(4)]
    got = [limits.admit(c, 0.0, ModelSettings(concurrency=3, rpm=0, window_s=60)) for c in callers]
    assert got == [None, None, None, "concurrency"]
    limits.release(callers[0])
    limits.release(callers[0])
    assert limits.in_flight == 2
    assert limits.admit(callers[3], 0.0, ModelSettings(concurrency=3, rpm=0, window_s=60)) is None
    assert limits.peak_concurrency == 3


def test_a_caller_known_to_be_gone_does_not_cost_its_successor() -> None:
    limits, first, second = ModelLimits(), Caller(), Caller()
    assert limits.admit(first, 0.0, ModelSettings(concurrency=1, rpm=0, window_s=60)) is None
    first.gone = True
    assert limits.admit(second, 0.0, ModelSettings(concurrency=1, rpm=0, window_s=60)) is None
    assert limits.in_flight == 1


def test_the_window_is_half_open_and_rejections_do_not_consume_it() -> None:
    limits = ModelLimits()

    def arrive(now: float) -> str | None:
        return limits.admit(Caller(), now, ModelSettings(concurrency=0, rpm=2, window_s=10))

    assert arrive(0.0) is None
    assert arrive(9.0) is None
    assert [arrive(t) for t in (9.5, 9.9, 9.999)] == ["rate"] * 3
    assert arrive(10.0) is None
    assert arrive(18.9) == "rate"
    assert arrive(19.0) is None


def test_a_call_turned_away_takes_no_place() -> None:
    limits = ModelLimits()
    limits.admit(Caller(), 0.0, ModelSettings(concurrency=0, rpm=1, window_s=10))
    assert limits.admit(Caller(), 1.0, ModelSettings(concurrency=0, rpm=1, window_s=10)) == "rate"
    assert limits.in_flight == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_window_ever_holds_more_than_rpm(seed: int) -> None:
    chance, limits, now = random.Random(seed), ModelLimits(), 0.0
    accepted: list[float] = []
    for _ in range(2000):
        now += chance.expovariate(2.0)
        if limits.admit(Caller(), now, ModelSettings(concurrency=0, rpm=7, window_s=5.0)) is None:
            accepted.append(now)
    windows = [sum(1 for t in accepted if s <= t < s + 5.0) for s in accepted]
    assert max(windows) == 7
    assert limits.max_in_window == 7


def test_forget_peaks_keeps_the_limits_themselves() -> None:
    limits, caller = ModelLimits(), Caller()
    limits.admit(Caller(), 0.0, ModelSettings(concurrency=2, rpm=2, window_s=10))
    limits.admit(caller, 0.0, ModelSettings(concurrency=2, rpm=2, window_s=10))
    limits.release(caller)
    limits.forget_peaks()
    assert (limits.peak_concurrency, limits.max_in_window) == (1, 2)
    assert limits.admit(caller, 1.0, ModelSettings(concurrency=2, rpm=2, window_s=10)) == "rate"


def test_records_are_there_from_arrival_and_numbered_without_gaps() -> None:
    log = CallLog()
    first, second = log.open("m", 1.0), log.open("m", 2.0)
    second.text = "hi"
    log.close(second, "completed")
    shown = log.after(0, 10)
    assert [(c["n"], c["outcome"]) for c in shown] == [(1, None), (2, "completed")]
    assert shown[0]["finished_at"] is None
    assert shown[1]["finished_at"] > 2.0
    assert [c["n"] for c in log.after(1, 10)] == [2]
    assert [c["n"] for c in log.after(0, 1)] == [1]
    assert first.as_dict()["model"] == "m"


def test_the_log_is_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "MOST_CALLS", 3)
    log = CallLog()
    calls = [log.open("m", float(i)) for i in range(5)]
    log.close(calls[0], "completed")  # already dropped: harmless
    assert [c["n"] for c in log.after(0, 10)] == [3, 4, 5]


def test_the_log_is_bounded_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "MOST_TEXT_CHARS", 100)
    log = CallLog()
    for i in range(10):
        call = log.open("m", float(i))
        call.text = "x" * 40
        log.close(call, "completed")
    assert [c["n"] for c in log.after(0, 10)] == [9, 10]
