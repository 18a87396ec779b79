"""Moments as a person writes them: 09:00, a date with a time, or a time of RFC 3339."""

from datetime import datetime, time, timedelta

from asyncsvc.clock import now_ms

LONGEST_TIME = len("23:59:59")


def moment(text: str) -> str:
    """Return the time of RFC 3339 that is meant; 09:00 is the next one, and what has no zone is
    local. Raises ValueError that says how one is written."""
    given = text.strip().replace(" ", "T", 1)
    now = datetime.fromtimestamp(now_ms() / 1000)
    try:
        if len(given) <= LONGEST_TIME and ":" in given:
            at = datetime.combine(now.date(), time.fromisoformat(given))
            at += timedelta(days=at <= now)
        else:
            at = datetime.fromisoformat(given)
        return at.astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, TypeError):
        raise ValueError(
            f"{text!r} is no time; one looks like 09:00, '2026-12-24 18:00' or 2026-12-24T18:00:00Z"
        ) from None
