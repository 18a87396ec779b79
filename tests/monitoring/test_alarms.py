import logging
import math

import pytest

from asyncsvc.monitoring.alarms import REMEMBERED, Alarms, Figure, Level, level_of, scarcity, share
from tests.builders import AT


def _figure(used: float, name: str = "memory", worst: Level = Level.OVERLOADED) -> Figure:
    return Figure(name, used, f"{used:g} used", "use less", worst=worst)


def _alarms(*shares: float) -> Alarms:
    alarms = Alarms(lambda: AT)
    for time, used in enumerate(shares):
        alarms.judge([_figure(used)], float(time))
    return alarms


@pytest.mark.parametrize(
    ("before", "used", "after"),
    [
        (Level.OK, 0.79, Level.OK),
        (Level.OK, 0.80, Level.DEGRADED),
        (Level.DEGRADED, 0.76, Level.DEGRADED),
        (Level.DEGRADED, 0.74, Level.OK),
        (Level.DEGRADED, 0.99, Level.DEGRADED),
        (Level.OK, 1.0, Level.OVERLOADED),
        (Level.OVERLOADED, 0.96, Level.OVERLOADED),
        (Level.OVERLOADED, 0.94, Level.DEGRADED),
        (Level.OVERLOADED, 0.76, Level.DEGRADED),
        (Level.OVERLOADED, 0.1, Level.OK),
        (Level.OK, math.inf, Level.OVERLOADED),
    ],
)
def test_a_level_is_left_only_well_below_where_it_was_entered(
    before: Level, used: float, after: Level
) -> None:
    assert level_of(_figure(used), before) is after


def test_some_figures_only_degrade() -> None:
    assert level_of(_figure(5.0, worst=Level.DEGRADED), Level.OK) is Level.DEGRADED


def test_a_figure_that_trembles_raises_one_alarm() -> None:
    alarms = _alarms(*[0.79, 0.81] * 20)
    assert [change["level"] for change in alarms.changes()] == ["degraded"]
    assert alarms.raised == {("memory", "degraded"): 1}


def test_each_change_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _alarms(0.1, 0.9, 0.9, 1.2, 1.2, 0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "memory is degraded (was ok): 0.9 used; use less",
        "memory is overloaded (was degraded): 1.2 used; use less",
        "memory is ok (was overloaded): 0.1 used",
    ]


def test_a_reason_keeps_the_time_of_its_change_and_the_latest_figure() -> None:
    alarms = _alarms(0.1, 0.9, 0.95)
    (reason,) = alarms.reasons.values()
    assert (reason.since, reason.figure.used) == (1.0, 0.95)
    assert reason.as_dict()["message"] == "0.95 used"
    assert (alarms.level, alarms.beyond()) == (Level.DEGRADED, [])


def test_figures_beyond_their_limit_are_reasons() -> None:
    alarms = Alarms(lambda: AT)
    alarms.judge([_figure(0.9, "a"), _figure(1.1, "b"), _figure(0.1, "c")], 0.0)
    assert [reason.figure.name for reason in alarms.beyond()] == ["b"]
    assert alarms.level is Level.OVERLOADED


def test_a_figure_that_is_gone_is_no_reason() -> None:
    alarms = _alarms(1.5)
    alarms.judge([], 1.0)
    assert (alarms.reasons, alarms.level) == ({}, Level.OK)


def test_changes_are_read_by_cursor_and_bounded() -> None:
    alarms = _alarms(*[0.0, 2.0] * REMEMBERED)
    assert alarms.last == 2 * REMEMBERED - 1
    assert len(alarms.changes()) == REMEMBERED
    assert [change["number"] for change in alarms.changes(alarms.last - 2)] == [
        alarms.last - 1,
        alarms.last,
    ]
    assert alarms.changes(alarms.last) == []


def test_shares() -> None:
    assert (share(50, 100), share(50, 0)) == (0.5, 0.0)
    assert (scarcity(400, 200), scarcity(0, 200), scarcity(0, 0)) == (0.5, math.inf, 0.0)
    assert scarcity(math.inf, 200) == pytest.approx(0.0)
