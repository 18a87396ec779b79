"""Copies of the database: made while it is in use, looked at before one takes its place.

Owns SQLite's backup API and what makes a file a copy of ours. Promises that a copy is one
moment of the database, complete in one file, checked, and never in the place of another file;
that the writer goes on meanwhile. Never writes to a database that a service has open.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from asyncsvc.errors import DatabaseDamaged, StorageUnavailable
from asyncsvc.storage import own_files
from asyncsvc.storage.migrations import MAGIC
from asyncsvc.storage.refusals import damage
from asyncsvc.storage.room import MB, DiskRoom
from asyncsvc.storage.schema import UNTRUSTED, fault

PASSING = ".part"
CopyFailed = sqlite3.Error
"""What SQLite raises while it copies."""
LOG_MOST = 256 << 20
"""Bytes by which the log may grow during a copy: the copy's one moment holds the log back."""
STEP_PAGES = 256
"""Pages copied before it looks whether it is still wanted: about a megabyte."""
SIDE = ("-wal", "-shm")


class NotACopy(Exception):
    """The file cannot be used; the message says why."""


class Damaged(NotACopy):
    """The content of the file is damaged."""


class Unwanted(Exception):
    """The caller that asked for the copy has gone."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that is in its place."""

    path: Path
    bytes: int
    tasks: int
    schema: int
    sha256: str


class Backups:
    """Copies of one database in a folder beside it, one at a time."""

    def __init__(
        self,
        database: Path,
        room: DiskRoom | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = database.parent / own_files.BACKUPS
        self._database = database
        self._room = room or DiskRoom(database)
        self._check = check
        """Raises DatabaseLost where the name leads to another file than the service has open."""
        self._busy = False

    @property
    def busy(self) -> bool:
        """A copy is being made."""
        return self._busy

    async def make(self, name: str) -> Copy:
        """A copy called `name`. Raises FileExistsError, or StorageUnavailable where there is no
        room, the copy is not sound (DatabaseDamaged) or the file is not in its place."""
        self._busy, wanted = True, threading.Event()
        wanted.set()
        work = asyncio.ensure_future(asyncio.to_thread(self._make, name, wanted.is_set))
        try:
            return await asyncio.shield(work)
        except (sqlite3.Error, OSError, NotACopy) as error:
            if isinstance(error, FileExistsError):
                raise
            reason = f"no copy could be made: {' '.join(str(error).split())}"
            if isinstance(error, Damaged) or (
                isinstance(error, sqlite3.Error) and damage(error) is not None
            ):
                raise DatabaseDamaged(f"the database is damaged: {reason}") from error
            raise StorageUnavailable(reason) from error
        finally:
            wanted.clear()  # a thread cannot be cancelled: it is asked to end, and waited for
            if not work.done():
                await asyncio.wait({work})
                work.exception()  # the caller has gone: its error is not logged
            self._busy = False

    def _make(self, name: str, wanted: Callable[[], bool]) -> Copy:
        self._check()
        target = self.folder / name
        own_files.new_folder(self.folder)
        log = self._database.with_name(f"{self._database.name}-wal")
        size = sum(path.stat().st_size for path in (self._database, log) if path.exists())
        # A copy that takes the last room would stop the service which it is to save.
        self._check_room(size)
        most = size + LOG_MOST

        def on() -> bool:
            self._check_room(STEP_PAGES * 4096)
            if log.exists() and log.stat().st_size > most:
                raise NotACopy("too much is written meanwhile; try again at a quieter time")
            return wanted()

        with new_file(target) as passing:
            duplicate(self._database, passing, on)
            tasks, schema = inspect(passing)
            found = Copy(target, passing.stat().st_size, tasks, schema, sha256(passing))
        return found

    def _check_room(self, need: int) -> None:
        if shutil.disk_usage(self.folder).free < need:
            raise NotACopy(f"it needs {need / MB:.1f} MB of free disk")
        self._room.check(need, self.folder)


def duplicate(source: Path, target: Path, wanted: Callable[[], bool] = lambda: True) -> None:
    """Copy one moment of `source`, whose writer is not held up, into the empty file `target`.

    The copy is complete without any file beside it. Raises sqlite3.Error, or Unwanted.
    """

    def step(*_: int) -> None:
        if not wanted():
            raise Unwanted

    address = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=5)) as reading,
        closing(sqlite3.connect(target, isolation_level=None)) as writing,
    ):
        for pragma in ("query_only=1", "wal_autocheckpoint=0"):
            reading.execute(f"PRAGMA {pragma}")
        # Synced once at the end: until then the file has another name.
        writing.execute("PRAGMA synchronous=OFF")
        # Without a transaction of its own the copy would begin anew with every commit.
        reading.execute("BEGIN")
        reading.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        reading.backup(writing, pages=STEP_PAGES, progress=step, sleep=0)
        reading.execute("ROLLBACK")
        writing.execute("PRAGMA journal_mode=DELETE")
    for side in SIDE:
        target.with_name(target.name + side).unlink(missing_ok=True)


def compact(source: Path, target: Path) -> None:
    """Write the content of a sound copy into the empty file `target`, page by page anew: without
    free pages, and so that pages which become free later can be given back to the disk. Raises
    sqlite3.Error."""
    with closing(sqlite3.connect(":memory:", uri=True, isolation_level=None)) as copying:
        for pragma in (*UNTRUSTED, "auto_vacuum=INCREMENTAL"):
            copying.execute(f"PRAGMA {pragma}")
        copying.execute("ATTACH ? AS source", (f"{source.absolute().as_uri()}?mode=ro",))
        copying.execute("VACUUM source INTO ?", (str(target.absolute()),))


def look(path: Path) -> tuple[int, int]:
    """(tasks, schema) of a database that may be in use; changes nothing. Raises NotACopy."""
    try:
        with untrusted(path) as database:
            if why := fault(database):
                raise NotACopy(f"it {why}")
            schema = _schema(database)
            tasks = database.execute("SELECT COUNT(*) FROM tasks").fetchone()[0] if schema else 0
    except sqlite3.Error as error:
        raise NotACopy(str(error)) from None
    return int(tasks), schema


def inspect(path: Path) -> tuple[int, int]:
    """(tasks, schema) of a sound copy that no process has open. Raises NotACopy."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise NotACopy("it is not a SQLite database")
        with untrusted(path) as copy:
            if why := fault(copy):
                raise NotACopy(f"it {why}")
            schema = _schema(copy)
            if not schema:
                raise NotACopy("it is an empty database")
            faults = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
            if faults != ["ok"]:
                raise Damaged(f"it is damaged: {'; '.join(faults)}")
            if copy.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise Damaged("it is damaged: rows refer to tasks that are not there")
            (tasks,) = copy.execute("SELECT COUNT(*) FROM tasks").fetchone()
    except sqlite3.Error as error:
        kind = NotACopy if damage(error) is None else Damaged
        raise kind(f"it cannot be read as a database: {error}") from None
    return int(tasks), schema


@contextmanager
def untrusted(path: Path) -> Generator[sqlite3.Connection]:
    """A connection that reads a file which anybody may have written: it changes nothing and
    runs nothing of the file's own."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        for pragma in (*UNTRUSTED, "query_only=1"):
            connection.execute(f"PRAGMA {pragma}")
        yield connection


def _schema(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def keep_calls(old: Path, copy: Path) -> None:
    """Take the newest calls upstream over from the database that is given up: providers count
    them whatever is restored here. One that cannot be read has none."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(copy, isolation_level=None)) as new:
        new.execute("PRAGMA trusted_schema=OFF")
        new.execute("ATTACH ? AS old", (f"{old.absolute().as_uri()}?mode=ro",))
        new.execute(
            "INSERT INTO calls SELECT * FROM old.calls "
            "WHERE at > (SELECT COALESCE(MAX(at), 0) FROM main.calls)"
        )


def exchange(copy: Path, database: Path, aside: Path) -> None:
    """Put the sound file `copy` in the place of `database`, which no process has open and which is
    kept as `aside`. `copy` lies in the same folder and is gone afterwards.

    At each moment the database's name leads to a whole one, the old or the new.
    """
    if database.exists():
        _fold(database)
        for side in ("", *SIDE):
            old = database.with_name(database.name + side)
            if old.exists():
                _link(old, aside.with_name(aside.name + side))
        sync_folder(database.parent)
    for side in SIDE:  # what is left there would be taken for the new one's
        database.with_name(database.name + side).unlink(missing_ok=True)
    os.replace(copy, database)
    sync_folder(database.parent)


def _fold(database: Path) -> None:
    """Write the log into the file, so that what is kept aside is one file. One that is damaged
    is kept as it is, with its log: SQLite would throw the log away."""
    try:
        inspect(database)
    except NotACopy:
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=5)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _link(old: Path, kept: Path) -> None:
    try:
        os.link(old, kept)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        with old.open("rb") as source, open(own_files.new(kept), "wb") as target:
            shutil.copyfileobj(source, target)


def sha256(path: Path) -> str:
    """The digest of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_file(target: Path) -> Generator[Path]:
    """The path to write to; after the block it is `target`. Raises FileExistsError, before
    anything is written and also where another process was faster, and OSError."""
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already")
    passing = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}{PASSING}")
    try:
        # Prompts and answers: no other user of the machine may read them.
        os.close(own_files.new(passing))
        yield passing
        _sync(passing)
        _place(passing, target)
    finally:
        with suppress(OSError):
            passing.unlink()
    sync_folder(target.parent)


def _place(passing: Path, target: Path) -> None:
    try:
        os.link(passing, target)  # unlike a renaming it fails where the name is taken
    except FileExistsError:
        raise FileExistsError(f"{target} exists already") from None
    except OSError:
        # No hard links on this file system: take the name first, then replace what is ours.
        os.close(own_files.new(target))
        passing.replace(target)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in it durable, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
