from contextlib import suppress
from datetime import UTC, datetime
from time import process_time
from zoneinfo import ZoneInfo

import pytest

from asyncsvc.cron.crontab import LONGEST, Crontab
from asyncsvc.errors import InvalidRequest

BERLIN = ZoneInfo("Europe/Berlin")
AT = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1000


def times(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next times, as a clock in UTC shows them."""
    at, found = ms(after), []
    rule = Crontab.read(cron, zone, at)
    for _ in range(count):
        following = rule.after(at)
        assert following is not None
        assert following > at
        at = following
        found.append(datetime.fromtimestamp(at / 1000, UTC).strftime("%d %H:%M"))
    return found


def test_a_regular_time_is_later_than_the_moment_asked_for() -> None:
    rule = Crontab.read("0 12 * * *", "UTC", AT)
    assert rule.after(AT - 1) == AT
    assert rule.after(AT) == AT + 86_400_000
    assert rule.after(AT + 999) == AT + 86_400_000


def test_seconds_may_stand_in_front() -> None:
    assert Crontab.read("*/10 * * * * *", "UTC", AT).after(AT) == AT + 10_000


@pytest.mark.parametrize(
    ("alias", "cron"),
    [("@daily", "0 0 * * *"), ("@Hourly", "0 * * * *"), (" @yearly ", "0 0 1 1 *")],
)
def test_an_alias_stands_for_five_fields(alias: str, cron: str) -> None:
    assert Crontab.read(alias, "UTC", AT).after(AT) == Crontab.read(cron, "UTC", AT).after(AT)


# Europe/Berlin: on 2027-03-28 at 02:00 the clock goes to 03:00, on 2026-10-25 at 03:00 to 02:00.


def test_a_time_that_spring_skips_runs_when_the_hour_is_over() -> None:
    found = times("30 2 * * *", "Europe/Berlin", "2027-03-26T12:00:00+01:00", 3)
    assert found == ["27 01:30", "28 01:00", "29 00:30"]


def test_in_spring_every_half_hour_stays_every_half_hour() -> None:
    found = times("*/30 * * * *", "Europe/Berlin", "2027-03-28T01:00:00+01:00", 4)
    assert found == ["28 00:30", "28 01:00", "28 01:30", "28 02:00"]


def test_a_time_that_autumn_repeats_runs_in_its_first_hour_only() -> None:
    found = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", 3)
    assert found == ["25 00:30", "26 01:30", "27 01:30"]


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 30 2 * * *"])
def test_seconds_do_not_change_the_rule(cron: str) -> None:
    spring = times(cron, "Europe/Berlin", "2027-03-26T12:00:00+01:00", 3)
    assert spring == ["27 01:30", "28 01:00", "29 00:30"]
    autumn = times(cron, "Europe/Berlin", "2026-10-24T12:00:00+02:00", 2)
    assert autumn == ["25 00:30", "26 01:30"]


def test_where_midnight_is_skipped_the_first_hour_of_the_day_is_there() -> None:
    # America/Santiago: on 2026-09-06 the clock goes from 00:00 to 01:00.
    found = times("*/20 1-3 * * 0", "America/Santiago", "2026-09-03T12:00:00-04:00", 9)
    assert found == [f"06 0{hour}:{minute:02}" for hour in (4, 5, 6) for minute in (0, 20, 40)]


def test_from_within_the_repeated_hour_the_first_one_does_not_come_back() -> None:
    found = times("30 2 * * *", "Europe/Berlin", "2026-10-25T02:15:00+01:00", 1)
    assert found == ["26 01:30"]


def test_in_autumn_hourly_work_runs_in_both_hours() -> None:
    found = times("0 * * * *", "Europe/Berlin", "2026-10-25T01:30:00+02:00", 3)
    assert found == ["25 00:00", "25 01:00", "25 02:00"]


@pytest.mark.parametrize(
    "cron",
    [
        "", "* * * *", "* * * * * * *", "61 * * * *", "x * * * *", "*/0 * * * *", "5-1 * * * *",
        "0 0 30 2 *", "0 0 * * MON#6", "0 0 * * 5L/2", "0 0 L-3 * *", "@never", "\ud800 * * * *",
        "１ * * * *", "0 0 */31 2 MON#2", "*" * (LONGEST + 1), "0 0 0 0 0",
        # Steps that are larger than their field, which are no errors to cronsim.
        "*/61 * * * *", "5/61 * * * *", "0-30/90 * * * *", "1,*/61 * * * *", "0 */25 * * *",
        "0 0 */32 * *", "0 0 1 */13 *", "0 0 * * */8", "*/61 * * * * *", "*/00 * * * *",
        "*/99999999999999999999 * * * *",
        # Values outside of their field, and what other programs know.
        "60 * * * *", "0 24 * * *", "0 0 32 * *", "0 0 1 13 *", "0 0 1 0 *", "0 0 * * 8",
        "-1 * * * *", "1.5 * * * *", "0 0 1-32 * *", "0 0 * JAN-MÄR *", "0 0 * * LUN",
        "0 0 * * ſun",
        "0 0 L/2 * *", "0 0 lw/3 * *", "0 0 1,L/2 * *",
        "@reboot", "@every 5m", "@", "@daily 0 * * *", "0 0 ? * MON", "0 0 15W * *", "H * * * *",
        "0 0 * * * * 2027", "0 0 31 4,6,9,11 *", "30 2 31 2 *", "0 0 31 2 *", "*/5/2 * * * *",
        "* * * * *; rm", "0 0 0 * *", "1-", "1-- * * * *", "*/ * * * *", "/5 * * * *", ", * * * *",
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_never_comes_is_refused(cron: str) -> None:
    for zone in ("UTC", "America/Santiago"):
        with pytest.raises(InvalidRequest) as refused:
            Crontab.read(cron, zone, AT)
        assert refused.value.param == "cron"
        assert str(refused.value).startswith("cron")


def test_a_refusal_tells_what_is_allowed() -> None:
    with pytest.raises(InvalidRequest, match="step of minute must be from 1 to 60, not 61") as one:
        Crontab.read("*/61 * * * *", "UTC", AT)
    assert all(word in str(one.value) for word in ("0-59", "0-23", "JAN-DEC", "SUN-SAT", "@daily"))
    with pytest.raises(InvalidRequest, match="'@reboot' is not known"):
        Crontab.read("@reboot", "UTC", AT)


@pytest.mark.parametrize("cron", ["0 0 */31 * MON#5", "0 0 29 2 MON#5", "* * * * * *", "0 0 1 1 *"])
def test_no_expression_is_searched_for_long(cron: str) -> None:
    began = process_time()
    with suppress(InvalidRequest):
        Crontab.read(cron, "America/Santiago", AT).after(AT)
    assert process_time() - began < 1.0


@pytest.mark.parametrize(
    "zone",
    ["", "Mars/Base", "Europe", "../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "x" * 300],
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Crontab.read("* * * * *", zone, AT)
    assert refused.value.param == "timezone"


def test_where_the_calendar_ends_nothing_follows() -> None:
    rule = Crontab.read("0 0 1 1 *", "UTC", AT)
    assert rule.after(ms("9999-12-31T23:00:00+00:00")) is None


@pytest.mark.parametrize("name", ["</a>" * 5000, "a/" * 300_000, "x" * 201])
def test_a_long_name_of_a_zone_is_refused_in_few_words(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Crontab.read("@daily", name, 0)
    assert refused.value.param == "timezone"
    assert len(str(refused.value)) < 400
