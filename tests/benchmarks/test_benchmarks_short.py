"""The benchmarks in short: what they call broken must not be, whatever the speed."""

import pytest

from tests.benchmarks import crash, isolation, rate, start, stream, submit
from tests.benchmarks.audit import Life, against_calls, inspect
from tests.benchmarks.report import BROKEN, MISSED, Report, percentile

CALL = {"outcome": "completed", "text": "ab"}


def life(*events: tuple[int, int, str, dict[str, str]], attempts: int = 1, starts: int = 1) -> Life:
    return Life("t", "completed", attempts, starts, None, "[[id:m]]", "ab", list(events))


def whole(shift: int = 0, text: str = "b") -> Life:
    return life(
        (1, 1, "status", {"cause": "submitted"}),
        (2, 2, "status", {"cause": "started"}),
        (4, 3, "attempt", {}),
        (5, 4, "chunk", {"text": "a"}),
        (6 + shift, 5 + shift, "chunk", {"text": text}),
        (9, 6 + shift, "status", {"cause": "completed"}),
    )


async def test_kills_lose_nothing() -> None:
    assert (await crash.run(kills=6, rate=40, seed=7)).broken == []


async def test_restarts_keep_the_rate() -> None:
    scenario = rate.Scenario("restarts", window_s=4, tasks=85, restarts=2)
    assert (await rate.run([scenario])).broken == []


async def test_every_submit_is_answered_and_stored() -> None:
    plan = submit.Plan(rounds=1, count=300, offered=50, streams=5, seconds=1)
    assert (await submit.run(plan)).broken == []


async def test_a_hanging_model_breaks_no_other() -> None:
    assert (await isolation.run(isolation.Plan(rounds=1, tasks=15))).broken == []


async def test_it_starts_and_stops() -> None:
    assert (await start.run(1)).broken == []


async def test_every_client_hears_all() -> None:
    assert (await stream.run(stream.Plan(tasks=15, rate=40, seconds=1))).broken == []


def test_a_whole_life_passes_the_audit() -> None:
    assert inspect(whole(), most_attempts=1) == []
    assert against_calls(whole(), [CALL]) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (whole(shift=1), "gaps"),
        (whole(shift=-2), "do not grow"),
        (whole(text="c"), "its chunks give"),
        (life((1, 1, "attempt", {}), (2, 2, "chunk", {"text": "ab"}), attempts=2), "2 attempts"),
        (life((1, 1, "chunk", {"text": "ab"}), attempts=0), "starts"),
    ],
)
def test_the_audit_finds(wrong: Life, named: str) -> None:
    assert any(named in fault for fault in inspect(wrong, most_attempts=1))


@pytest.mark.parametrize(
    "calls", [[], [CALL, CALL], [{**CALL, "text": "x"}], [{**CALL, "outcome": "reset"}]]
)
def test_the_audit_asks_the_provider(calls: list[dict[str, str]]) -> None:
    assert against_calls(whole(), calls) != []


def test_an_ideal_schedule_is_held_up_by_slots_and_window() -> None:
    scenario = rate.Scenario("ideal", window_s=20, tasks=0)
    assert rate.ideal(100, 5, scenario, ()) == 100
    assert rate.ideal(100, 6, scenario, ()) == 101
    assert rate.ideal(100, 41, scenario, ()) == 120
    assert rate.ideal(100, 41, scenario, [(119, 123)]) == 123


def test_a_fault_outweighs_a_missed_target() -> None:
    report = Report("title", ("what", "value"))
    report.row("tasks", 1234)
    assert report.finish() == 0
    report.target(False, "slow")
    assert report.finish() == MISSED
    report.require(False, "lost")
    assert report.finish() == BROKEN
    assert "1,234" in report.text()
    assert "BROKEN: lost\nMISSED TARGET: slow" in report.text()


def test_percentiles() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(100), 0.95) == 95
    assert percentile([1, 2], 1.0) == 2
