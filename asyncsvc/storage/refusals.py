"""What SQLite refuses, as errors of this service.

Owns the translation from sqlite3's errors, and the knowledge that the database is damaged.
Promises that damage is told from what passes by itself (a full disk, a lock), and that no text of
a task is in a message. Never reads or writes.
"""

import sqlite3
from pathlib import Path

from asyncsvc.errors import DatabaseDamaged, ReadRefused, StorageUnavailable

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
PRIMARY = 0xFF
"""The bits of a result code that are not its extension."""
IO_CORRUPT = sqlite3.SQLITE_IOERR | 33 << 8
"""SQLITE_IOERR_CORRUPTFS: the file system says that a page is damaged."""
NOT_UTF8 = "Could not decode to UTF-8"
SIGNS = ("disk image is malformed", "is not a database", NOT_UTF8)
"""In errors without a code, such as those that Python's sqlite3 raises by itself."""
REMEDY = (
    "stop the service and `restore` a backup; without one, `sqlite3 FILE .recover` saves what can "
    "still be read"
)


def damage(error: sqlite3.Error) -> str | None:
    """Why an error means that the file is damaged; None where it means something else."""
    code, text = getattr(error, "sqlite_errorcode", None), str(error)
    if code is None:
        found = any(sign in text for sign in SIGNS)
    else:
        found = code & PRIMARY in DAMAGED or code == IO_CORRUPT
    if not found:
        return None
    # Such an error quotes the text, which is a prompt or an answer.
    return "a text in it is not UTF-8" if NOT_UTF8 in text else text


class Refusals:
    """Turns SQLite's errors into this service's, and remembers the first damage."""

    def __init__(self, database: Path) -> None:
        self.damage: str | None = None
        """What is damaged, in words; None as long as nothing was found to be."""
        self._database = database

    def note(self, error: DatabaseDamaged) -> None:
        """Damage that was found somewhere else."""
        self.damage = self.damage or f"{error} ({self._database})"

    def of_read(self, error: sqlite3.Error) -> StorageUnavailable:
        return self._damaged(error) or ReadRefused(f"the database refused a read: {error}")

    def of_write(self, error: Exception) -> StorageUnavailable:
        found = self._damaged(error) if isinstance(error, sqlite3.Error) else None
        return found or StorageUnavailable(f"the database refused a write: {error}")

    def _damaged(self, error: sqlite3.Error) -> StorageUnavailable | None:
        why = damage(error)
        if why is None:
            return None
        found = DatabaseDamaged(f"the database is damaged: {why}")
        self.note(found)
        return found
