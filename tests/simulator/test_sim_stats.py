import pytest

from asyncsvc.simulator import stats
from asyncsvc.simulator.stats import CallLog


def test_records_are_there_from_arrival_and_numbered_without_gaps() -> None:
    log = CallLog()
    first, second = log.open("m", 1.0), log.open("m", 2.0)
    second.text = "hi"
    log.close(second, "completed", 3.0)
    shown = log.after(0, 10)
    assert [(c["n"], c["outcome"], c["finished_at"]) for c in shown] == [
        (1, None, None),
        (2, "completed", 3.0),
    ]
    assert [c["n"] for c in log.after(1, 10)] == [2]
    assert [c["n"] for c in log.after(0, 1)] == [1]
    assert first.as_dict()["model"] == "m"


def test_the_log_is_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MOST_CALLS", 3)
    log = CallLog()
    calls = [log.open("m", float(i)) for i in range(5)]
    log.close(calls[0], "completed", 9.0)  # already dropped: harmless
    assert [c["n"] for c in log.after(0, 10)] == [3, 4, 5]


def test_the_log_is_bounded_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MOST_TEXT_CHARS", 100)
    log = CallLog()
    for i in range(10):
        call = log.open("m", float(i))
        call.text = "x" * 40
        log.close(call, "completed", float(i))
    assert [c["n"] for c in log.after(0, 10)] == [9, 10]
