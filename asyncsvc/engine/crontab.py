"""When a cron expression is due in a time zone.

Owns the reading of expression and zone, and the step from one regular time to the next.
Promises that what was read has a next time, that the next one is later, and that the hour which
comes twice or not at all is treated as cronsim (and Debian's cron) does. Never asks for the time.
"""

from datetime import UTC, datetime, tzinfo
from typing import Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from asyncsvc.errors import InvalidRequest

LONGEST = 200
"""Characters of an expression, and of a zone's name."""
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Crontab:
    """`read` it, then ask `after`. Times are ms since the epoch."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._expression = expression
        self._zone = zone

    @classmethod
    def read(cls, cron: str, timezone: str, at: int) -> Self:
        """Raises InvalidRequest, also for what is never due after `at`."""
        found = cls(ALIASES.get(cron.strip().lower(), cron), _zone(timezone))
        if len(cron) > LONGEST:
            raise InvalidRequest(f"cron must not be longer than {LONGEST} characters", param="cron")
        try:
            following = found.after(at)
        except (CronSimError, ValueError, AssertionError) as error:
            raise InvalidRequest(
                f"cron: {str(error).lower() or 'invalid'}; five fields are wanted (minute hour "
                f"day-of-month month day-of-week), six with seconds in front, or one of "
                f"{', '.join(ALIASES)}",
                param="cron",
            ) from None
        if following is None:
            raise InvalidRequest(
                "cron: it is never due within fifty years; no such day exists", param="cron"
            )
        return found

    def after(self, at: int) -> int | None:
        """The first regular time later than that; None: there is none within fifty years."""
        start = datetime.fromtimestamp(at // 1000, self._zone)
        try:
            for moment in CronSim(self._expression, start):
                due = round(moment.timestamp()) * 1000
                # In the hour that comes twice, a fixed time of day belongs to its first run.
                if due > at:
                    return due
        except OverflowError:  # the calendar ends with the year 9999
            pass
        return None


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # known to cronsim as the zone without any change
    try:
        return ZoneInfo(name)
    # What zoneinfo raises depends on what the name would be as a path: a folder, no database.
    except (LookupError, OSError, ValueError):
        raise InvalidRequest(
            f"timezone: there is no time zone {name[:LONGEST]!r}; give an IANA name such as "
            "Europe/Berlin",
            param="timezone",
        ) from None
