"""Stored durations when the wall clock was set.

Owns the statements that move the times of what waits for a duration, or counts for one: webhook
deliveries and calls upstream. Promises that no wait grows by a clock that is set back. Never
touches a moment that a client has named.
"""

import sqlite3

from asyncsvc.storage.statements import Beside


def deliveries_shifted(by: int) -> Beside:
    """The clock was set by so many ms: what is owed is due as long after now as it was."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE callbacks SET next_at = next_at + ?1, set_at = set_at + ?1 "
            "WHERE state = 'pending'",
            (by,),
        )

    return Beside(write)


def deliveries_bounded(now: int) -> Beside:
    """What seems to have been set later than `now` waits for its own duration from now on: the
    clock was set back while nothing measured the time."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE callbacks SET next_at = ?1 + next_at - set_at, set_at = ?1 "
            "WHERE state = 'pending' AND set_at > ?1",
            (now,),
        )

    return Beside(write)


def calls_until(now: int) -> Beside:
    """Calls upstream that seem to have been made later than `now` were made now at the latest."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE calls SET at = ?1 WHERE at > ?1", (now,))

    return Beside(write)
