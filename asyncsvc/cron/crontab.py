"""When a cron expression is due in a time zone.

Owns the reading of expression and zone, and the step from one regular time to the next.
Promises that an accepted expression has a next time, that the next time is later, and that hours
which a zone skips or repeats follow the rule of docs/schedules.md. cronsim reads the expression
and matches days; its own steps through a zone's changes are not used
(docs/decisions/0037-own-steps-through-a-zone.md). Never reads the clock.
"""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from asyncsvc.errors import InvalidRequest

LONGEST = 200
"""Characters of an expression, and of a zone's name."""
YEARS = 50
"""How far ahead the next time is searched."""
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = (
    ("second", 60, "0-59"),
    ("minute", 60, "0-59"),
    ("hour", 24, "0-23"),
    ("day-of-month", 31, "1-31, L, LW"),
    ("month", 12, "1-12 or JAN-DEC"),
    ("day-of-week", 7, "0-7 or SUN-SAT, 5L, MON#2"),
)
"""Name, largest step, and what is allowed."""
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
ORIGIN = datetime(2000, 1, 1)


class Crontab:
    """`read` an expression, then ask for the time `after` another. Times are ms since the epoch."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        fields = expression.split()
        parsed = CronSim(expression, ORIGIN)
        self._zone = zone
        self._matches_day = parsed.match_day
        self._months = frozenset(parsed.months)
        self._hours, self._minutes, self._seconds = (
            tuple(sorted(values)) for values in (parsed.hours, parsed.minutes, parsed.seconds)
        )
        self._by_the_clock = any(field.startswith("*") for field in fields[-5:-3])

    @classmethod
    def read(cls, cron: str, timezone: str, at: int) -> Self:
        """Raises InvalidRequest, also for an expression that is never due after `at`."""
        zone = _zone(timezone)
        if len(cron) > LONGEST:
            raise InvalidRequest(f"cron must not be longer than {LONGEST} characters", param="cron")
        expression = ALIASES.get(cron.strip().lower(), cron)
        _check(expression)
        try:
            found = cls(expression, zone)
        except (CronSimError, ValueError, AssertionError) as error:
            raise _invalid(str(error).lower() or "invalid") from None
        if found.after(at) is None:
            raise InvalidRequest(
                f"cron: it is never due within {YEARS} years; no such day exists", param="cron"
            )
        return found

    def after(self, at: int) -> int | None:
        """The first regular time later than that; None: there is none within fifty years."""
        start = datetime.fromtimestamp(at // 1000, UTC)
        try:
            due = self._by_clock(start + SECOND) if self._by_the_clock else self._fixed(start)
        except OverflowError:  # the calendar ends with the year 9999
            return None
        return None if due is None else round(due.timestamp()) * 1000

    # The rule. Moments are in UTC; a reading is what a clock in the zone shows, without a zone. --

    def _by_clock(self, moment: datetime) -> datetime | None:
        """The first moment from this one on at which the zone's clock shows a regular time."""
        while True:
            reading = self._reading(moment)
            if (due := self._following(reading)) is None:
                return None
            distance = due - reading
            end = moment + min(distance, DAY)
            if self._offset(end) != self._offset(moment):
                change = self._change(moment, end)
                if moment + distance < change:
                    return moment + distance
                moment = change
            elif distance <= DAY:
                return end
            else:
                # No change of a clock is larger than a day, so nothing before this can be due.
                moment = max(end, moment + distance - 2 * DAY)

    def _fixed(self, moment: datetime) -> datetime | None:
        """The first moment after this one that a regular time of the day has for its own."""
        reading = self._reading(moment)
        while (due := self._following(reading + SECOND)) is not None:
            if (found := self._first(due)) > moment:
                return found
            reading = due
        return None

    def _first(self, reading: datetime) -> datetime:
        """When the zone's clock shows this for the first time, or would, had it not gone past."""
        moment = reading.replace(tzinfo=self._zone).astimezone(UTC)
        if self._reading(moment) == reading:
            return moment
        # In a gap the second reading is counted from the offset after it, and so lies before it.
        before = reading.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return self._change(before, moment)

    def _change(self, before: datetime, after: datetime) -> datetime:
        """The second at which the zone's offset changes between two moments."""
        offset = self._offset(before)
        while after - before > SECOND:
            middle = before + (after - before) // 2
            middle = middle.replace(microsecond=0)
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after

    def _offset(self, moment: datetime) -> timedelta | None:
        return moment.astimezone(self._zone).utcoffset()

    def _reading(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    # The fields, on a calendar without zones --------------------------------------------------

    def _following(self, start: datetime) -> datetime | None:
        """The first reading from `start` on that all fields match."""
        day, earliest, last = start.date(), start.time(), start.year + YEARS
        while day.year <= last:
            if day.month not in self._months:
                day, earliest = _next_month(day), time.min
                continue
            if self._matches_day(day) and (found := self._time(earliest)) is not None:
                return datetime.combine(day, found)
            day, earliest = day + DAY, time.min
        return None

    def _time(self, earliest: time) -> time | None:
        """The first time of a matching day from `earliest` on."""
        for hour in self._hours:
            if hour < earliest.hour:
                continue
            for minute in self._minutes:
                if hour == earliest.hour and minute < earliest.minute:
                    continue
                for second in self._seconds:
                    if (found := time(hour, minute, second)) >= earliest:
                        return found
        return None


def _next_month(day: date) -> date:
    return (day.replace(day=1) + 32 * DAY).replace(day=1)


def _check(expression: str) -> None:
    """Refuse what cronsim takes although it means nothing. Raises InvalidRequest."""
    if not expression.isascii():
        raise _invalid("only ASCII characters are allowed")
    if expression.lstrip().startswith("@"):
        raise _invalid(f"{expression.strip()!r} is not known")
    fields = expression.split()
    if len(fields) not in (5, 6):
        raise _invalid(f"{len(fields)} fields are given")
    for field, (name, most, _) in zip(fields, FIELDS[-len(fields) :], strict=True):
        for item in field.split(","):
            span, _, step = item.partition("/")
            if step and span.upper() in ("L", "LW"):
                raise _invalid(f"{item!r}: the last day has no step")
            if step.isdigit() and not 1 <= int(step) <= most:
                raise _invalid(f"the step of {name} must be from 1 to {most}, not {step}")


def _invalid(why: str) -> InvalidRequest:
    allowed = "; ".join(f"{name} {values}" for name, _, values in FIELDS[1:])
    return InvalidRequest(
        f"cron: {why}; allowed are five fields ({allowed}), each with *, lists, ranges and steps; "
        f"six with second {FIELDS[0][2]} in front; or one of {', '.join(ALIASES)}",
        param="cron",
    )


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        if len(name) > LONGEST:  # zoneinfo looks into one folder after the other, by recursion
            raise ValueError("too long")
        return ZoneInfo(name)
    # What zoneinfo raises depends on what the name would be as a path: a folder, no database.
    except (LookupError, OSError, ValueError):
        raise InvalidRequest(
            f"timezone: there is no time zone {name[:LONGEST]!r}; give an IANA name such as "
            "Europe/Berlin",
            param="timezone",
        ) from None
