"""The schema's history: numbered SQL files, applied in order under `PRAGMA user_version`.

Owns how a database is opened for writing. Promises that a file it cannot read, or that a
newer asyncsvc has written, stops the start with a clear line and is left as it was. Never
goes back to an older schema.
"""

import shutil
import sqlite3
from importlib import resources
from pathlib import Path

from asyncsvc.errors import DatabaseDamaged, StartError
from asyncsvc.storage.connection import Writer
from asyncsvc.storage.refusals import REMEDY

WRITER_STATEMENTS = 512
"""Prepared statements that the write connection keeps: see `statements.ROWS_MOST`."""
MAGIC = b"SQLite format 3\0"
ROOM_BYTES = 256 * 1024
"""What a start writes at most where nothing is to be migrated: the index of the log (32 KiB), the
head of the log, the record of tasks that were cut off."""
PRAGMAS = (
    "busy_timeout=5000",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "journal_size_limit=67108864",
    # Or a large statement within a transaction keeps what it would undo in a file of its own.
    "temp_store=MEMORY",
)


def scripts() -> list[tuple[int, str]]:
    """(version, SQL) of each migration, in order."""
    files = [f for f in resources.files(__package__).iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.read_text(encoding="utf-8")) for f in files)


async def connected(path: Path) -> Writer:
    """The write connection, with the newest schema, of a file that `look_at` has seen. Raises
    StartError."""
    try:
        writer = await Writer.open(path, WRITER_STATEMENTS)
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from None
    try:
        await writer.run(lambda connection: _prepare(connection, path))
    except sqlite3.DatabaseError as error:
        await writer.close()
        raise unusable(path, error) from None
    except StartError:
        await writer.close()
        raise
    return writer


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the schema's version, set the pragmas and apply the migrations that are missing."""
    current = _version(connection, path)  # before WAL, which rewrites the header
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    for version, sql in scripts():
        if version > current:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={version};\nCOMMIT;"
            )


def look_at(path: Path) -> None:
    """Make the file where there is none. Raises StartError where it is something else.

    SQLite takes a short file that is no database for an empty one, and would overwrite it.
    """
    try:
        with path.open("ab+") as file:
            file.seek(0)
            head = file.read(len(MAGIC))
    except OSError as error:
        raise StartError(
            f"storage.path: {path} cannot be opened: {error.strerror}; "
            "choose another with --db FILE"
        ) from None
    if head not in (b"", MAGIC):
        raise StartError(
            f"storage.path: {path} is not a database; choose another file with --db FILE"
        )


def unusable(path: Path, error: Exception) -> StartError:
    """Why the service cannot start on a database, with the figure where the disk is full."""
    if isinstance(error, DatabaseDamaged):
        return StartError(f"storage.path: {path}: {error}; {REMEDY}")
    if "locked" in str(error):
        return StartError(
            f"storage.path: {path} cannot be opened: {error}: another program has it open; "
            "end that program and start again"
        )
    free = shutil.disk_usage(path.absolute().parent).free
    if free < ROOM_BYTES:
        return StartError(
            f"storage.path: {path} cannot be opened: {error}; its disk has {free} bytes free and a "
            f"start needs about {ROOM_BYTES}. Make room there, or move the file and its -wal to "
            "another disk and set storage.path; nothing in it was changed"
        )
    return StartError(
        f"storage.path: {path} cannot be used: {error}; it was not changed. "
        "Restore a backup or choose another file with --db FILE"
    )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema's version; 0 for an empty file. Changes nothing."""
    newest = scripts()[-1][0]
    current, objects = connection.execute(
        "SELECT user_version, (SELECT COUNT(*) FROM sqlite_schema) FROM pragma_user_version"
    ).fetchone()
    if not current and objects:
        raise StartError(
            f"storage.path: {path} is another program's database; "
            "choose another file with --db FILE"
        )
    if current > newest:
        raise StartError(
            f"{path} was written by a newer asyncsvc (schema {current}, this one knows {newest}); "
            "update asyncsvc or choose another file with --db FILE"
        )
    return int(current)
