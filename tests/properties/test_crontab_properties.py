"""Cron expressions in zones whose clocks jump, against a walk over every minute.

The oracle knows nothing of the implementation: it reads the fields by itself, looks at what the
zone's clock shows at each minute of UTC, and applies the rule of docs/schedules.md.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncsvc.cron.crontab import Crontab

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ZONES = [
    # Clocks that jump at midnight, where a date or its first hour is missing or comes twice.
    ("America/Santiago", 2026), ("America/Santiago", 2027), ("Asia/Beirut", 2027),
    ("America/Havana", 2026), ("Atlantic/Azores", 2026), ("America/Sao_Paulo", 2018),
    ("America/Asuncion", 2023), ("Asia/Tehran", 2021), ("Asia/Amman", 2021), ("Asia/Gaza", 2021),
    ("Africa/Cairo", 2026), ("America/Scoresbysund", 2026), ("America/Nuuk", 2026),
    # One minute after midnight; half past eleven at night.
    ("America/St_Johns", 2010), ("America/Toronto", 1919),
    # Jumps of half an hour and of two; half an hour once and for all.
    ("Australia/Lord_Howe", 2026), ("Antarctica/Troll", 2026), ("Asia/Pyongyang", 2018),
    ("America/Caracas", 2007), ("America/Caracas", 2016), ("Asia/Colombo", 1996),
    # A whole day that is not there, or comes twice.
    ("Pacific/Apia", 2011), ("Pacific/Kwajalein", 1993), ("Pacific/Fakaofo", 2011),
    ("Pacific/Kwajalein", 1969),
    # Ordinary ones, one that turns its summer around, and one that leaves it for Ramadan.
    ("Europe/Berlin", 2026), ("America/New_York", 2026), ("Europe/Dublin", 2026),
    ("Africa/Casablanca", 2026), ("Asia/Kolkata", 2026), ("UTC", 2026),
]  # fmt: skip
CRONS = [
    "*/20 1-3 * * 0", "* * * * *", "*/30 * * * *", "0 * * * *", "*/7 0 * * *", "0 */2 * * *",
    "30 2 * * *", "0 0 * * *", "15 0 * * *", "0 1 * * *", "*/15 0-1 * * *", "0,30 0-3 * * *",
    "59 23 * * *", "30 0 * * SUN", "0 0 * * 6", "45 1 1-7 * *", "0 12 30 12 *", "5 0 31 12 *",
    "10-20/5 0-2 * * *", "0 0 1 * *", "0 3 * 3,4,9,10 *", "*/60 * * * *", "1 */24 * * *",
    "0 0 L * *", "30 2 * * 0-7/2",
]  # fmt: skip


@cache
def changes(zone: str, year: int) -> list[datetime]:
    """The moments of a year before which, within the hour, the zone's offset was another."""
    found, at = list[datetime](), datetime(year, 1, 1, tzinfo=UTC)
    place = ZoneInfo(zone)
    before = at.astimezone(place).utcoffset()
    while at.year == year:
        at += HOUR
        if (offset := at.astimezone(place).utcoffset()) != before:
            found.append(at)
        before = offset
    return found or [datetime(year, 6, 30, tzinfo=UTC)]


def values(field: str, first: int, last: int, names: str = "") -> set[int]:
    """The numbers of one field."""
    found = set[int]()
    for number, name in enumerate(names.split(), start=first):
        field = field.replace(name, str(number))
    for item in field.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        if span == "*":
            low, high = str(first), str(last)
        elif not high:
            high = str(last) if step else low
        found |= set(range(int(low), int(high) + 1, int(step or 1)))
    return found


class Fields:
    """An expression of five fields."""

    def __init__(self, cron: str) -> None:
        self._parts = cron.split()
        minute, hour, day, month, week = self._parts
        self._minutes, self._hours = values(minute, 0, 59), values(hour, 0, 23)
        self._last = day == "L"
        self._days = set() if self._last else values(day, 1, 31)
        self._months = values(month, 1, 12)
        self._week = {n % 7 for n in values(week, 0, 7, "SUN MON TUE WED THU FRI SAT")}
        self._both = day.startswith("*") or week.startswith("*")
        self.by_the_clock = minute.startswith("*") or hour.startswith("*")

    def match(self, shown: datetime) -> bool:
        if shown.minute not in self._minutes or shown.hour not in self._hours:
            return False
        day = (shown + DAY).day == 1 if self._last else shown.day in self._days
        week = shown.isoweekday() % 7 in self._week
        dated = day and week if self._both else day or week
        return dated and shown.month in self._months


class Minute(NamedTuple):
    """One minute of UTC in a zone."""

    at: datetime
    shown: datetime
    """What the zone's clock shows."""
    again: bool
    """Whether it has shown that before."""
    skipped: list[datetime]
    """The times that it went past to come here, and has not shown before."""


def minutes_of(zone: str, start: datetime, end: datetime) -> list[Minute]:
    """Each minute after `start` up to `end`; the two days before it have been shown already."""
    place, found = ZoneInfo(zone), list[Minute]()
    seen, before, at = set[datetime](), None, start - 2 * DAY
    while at <= end:
        shown = at.astimezone(place).replace(tzinfo=None)
        skipped = list[datetime]()
        while before is not None and before + MINUTE < shown:
            before += MINUTE
            if before not in seen:
                skipped.append(before)
        if at > start:
            found.append(Minute(at, shown, shown in seen, skipped))
        seen.add(shown)
        before, at = shown, at + MINUTE
    return found


def walked(cron: str, minutes: list[Minute]) -> Iterator[datetime]:
    """When the rule lets it run."""
    fields = Fields(cron)
    for minute in minutes:
        due = fields.match(minute.shown)
        if not fields.by_the_clock:
            due = (due and not minute.again) or any(map(fields.match, minute.skipped))
        if due:
            yield minute.at


def answered(cron: str, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """What the implementation says, asked again and again from its last answer."""
    at = round(start.timestamp()) * 1000
    rule = Crontab(cron, UTC if zone == "UTC" else ZoneInfo(zone))
    while (following := rule.after(at)) is not None and following <= end.timestamp() * 1000:
        assert following > at
        at = following
        yield datetime.fromtimestamp(at / 1000, UTC)


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_around_each_change_of_a_clock_the_rule_is_kept(zone: str, year: int) -> None:
    for change in changes(zone, year):
        start, end = change - 1.5 * DAY, change + 1.5 * DAY
        each = minutes_of(zone, start, end)
        for cron in CRONS:
            found = list(answered(cron, zone, start, end))
            assert found == list(walked(cron, each)), (cron, zone, change)


numbers = st.integers(0, 23).map(str)
minutes = st.one_of(
    st.sampled_from(["*", "*/5", "*/20", "0", "30", "59", "0,30", "10-50/20"]),
    st.integers(0, 59).map(str),
)
hours = st.one_of(
    st.sampled_from(["*", "*/2", "0", "1", "2", "3", "0-3", "1-3", "23", "22-23", "0-23/3"]),
    numbers,
)
days = st.sampled_from(["*", "*", "*", "1", "L", "*/2", "1-7", "28-31", "30"])
months = st.sampled_from(["*", "*", "3-4", "*/2", "9,10,11", "12"])
weeks = st.sampled_from(["*", "*", "0", "7", "SAT,SUN", "1-5", "*/2", "SUN"])
crons = st.tuples(minutes, hours, days, months, weeks).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(crons, st.sampled_from(ZONES), st.integers(0, 9), st.integers(-3000, 3000))
@example("*/20 1-3 * * 0", ("America/Santiago", 2026), 1, -1441)
def test_from_any_moment_the_rule_is_kept(
    cron: str, place: tuple[str, int], which: int, shift: int
) -> None:
    zone, year = place
    moments = changes(zone, year)
    start = moments[which % len(moments)] + shift * MINUTE
    end = start + DAY
    expected = list(walked(cron, minutes_of(zone, start, end)))
    assert list(answered(cron, zone, start, end)) == expected
