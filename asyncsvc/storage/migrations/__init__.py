"""The schema's history: numbered SQL files, applied in order under `PRAGMA user_version`.

Owns how a database is opened for writing. Promises that a file it cannot read, or that a
newer asyncsvc has written, stops the start with a clear line and is left as it was. Never
goes back to an older schema.
"""

import logging
import shutil
import sqlite3
from pathlib import Path

from asyncsvc.errors import DatabaseDamaged, StartError, UnsafeFile
from asyncsvc.storage import own_files, schema
from asyncsvc.storage.connection import Writer
from asyncsvc.storage.refusals import REMEDY
from asyncsvc.storage.schema import UNTRUSTED

log = logging.getLogger(__name__)

WRITER_STATEMENTS = 512
"""Prepared statements that the write connection keeps: see `statements.ROWS_MOST`."""
MAGIC = b"SQLite format 3\0"
ROOM_BYTES = 256 * 1024
"""What a start writes at most where nothing is to be migrated: the index of the log (32 KiB), the
head of the log, the record of tasks that were cut off."""
REWRITTEN_MOST = 32 << 20
"""Bytes of an older database that a start writes anew: a second, and as much memory."""
PRAGMAS = (
    *UNTRUSTED,
    "busy_timeout=5000",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "journal_size_limit=67108864",
    # Or a large statement within a transaction keeps what it would undo in a file of its own.
    "temp_store=MEMORY",
)


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
    """Check the schema, set the pragmas and apply the migrations that are missing."""
    current = _version(connection, path)  # before WAL, which rewrites the header
    if not current:  # and before the log is made: pages that become free can be given back
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    for version, sql in schema.scripts():
        if version > current:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={version};\nCOMMIT;"
            )
    _make_shrinkable(connection, path)


def length(connection: sqlite3.Connection) -> int:
    """Bytes of the database as the connection sees it, its log included."""
    sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    return int(connection.execute(sql).fetchone()[0])


def _make_shrinkable(connection: sqlite3.Connection, path: Path) -> None:
    """Let a file of an older version give free pages back. That writes all of it anew, so only a
    small one is changed here; of another the log says how it is done."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0]:
        return
    size = length(connection)
    if size <= REWRITTEN_MOST and shutil.disk_usage(path.absolute().parent).free > 4 * size:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        log.warning(
            "%s has the form of an older version: it is used as it is, but never gives room back "
            "to the disk. `backup` it, stop the service, and `restore` the copy",
            path,
        )


def look_at(path: Path) -> None:
    """Make the file where there is none. Raises StartError where it is something else.

    SQLite takes a short file that is no database for an empty one, and would overwrite it.
    """
    try:
        with open(own_files.opened(path), "rb") as file:
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
    """The schema's version; 0 for an empty file. Changes nothing. Raises StartError."""
    for pragma in UNTRUSTED:
        connection.execute(f"PRAGMA {pragma}")
    if why := schema.fault(connection):
        raise UnsafeFile(
            f"storage.path: {path} {why}; it was not changed. Restore a backup of asyncsvc's, or "
            "choose another file with --db FILE"
        )
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
