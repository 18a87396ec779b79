"""The open database's files: locks against a second instance, and whether the files are still
the ones that were opened.

Owns the file beside the database that names the process which holds it, and a mark in the
database file itself, which holds where the first was removed; the identity (device, inode) and
the least size of the database, its log and its index. Promises that the system gives the locks
back when the process ends, however it ends, and that none is in SQLite's way; that a file which
was removed, replaced, moved or cut short is found by `fault`, and by `check` before a commit is
acknowledged; that a file which is back in its place is no fault any more; that closing the
database removes no file of another one that has taken its place. Never waits, never repairs.

SQLite locks the database file by POSIX record locks, which a process loses as soon as it closes
any descriptor of the file. So the mark is a lock of an open file description (Linux), far behind
all that SQLite locks, on a descriptor that is opened before SQLite's and closed after them.
"""

import errno
import os
import struct
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from asyncsvc.errors import DatabaseLost, StartError
from asyncsvc.storage import own_files
from asyncsvc.storage.migrations import MAGIC

BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What the system says of a lock that another process holds."""
LOG, INDEX = "-wal", "-shm"
KEPT = ".kept"
REMEDY = (
    "put the same file back in its place, or stop the service and start it on a database that "
    "stays (a backup is put in place by `restore`)"
)

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    _FAR = 1 << 20  # a byte that is never written: a locked byte cannot be read on Windows

    def _lock(file: IO[bytes]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

    def _mark(descriptor: int) -> None:
        """Not needed: a lock file that is open cannot be removed here."""

else:
    import fcntl

    _FAR = 1 << 62

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _mark(descriptor: int) -> None:
        """Lock a byte that no database reaches."""
        if sys.platform == "linux":
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _FAR, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        else:  # pragma: no cover
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was opened; `what` is its name for people."""

    path: Path
    what: str
    device: int
    inode: int

    @classmethod
    def of(cls, what: str, path: Path, opened: Path | int) -> Self:
        """The file at that path, as it is; `opened` is the path or a descriptor of the file."""
        found = os.stat(opened) if isinstance(opened, int) else os.lstat(opened)
        return cls(path, what, found.st_dev, found.st_ino)

    def fault(self) -> str | None:
        """Why the path does not lead to the file any more, in words; None where it does."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return f"{self.what} {self.path} is no longer there"
        except OSError as error:
            return f"{self.what} {self.path} cannot be seen: {error.strerror}"
        if (found.st_dev, found.st_ino) != (self.device, self.inode):
            return f"{self.what} {self.path} was replaced by another file"
        return None


class FileLock:
    """`with FileLock(database): …`; raises StartError where another process holds it."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.absolute().parent / f"{database.name}.lock"
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        file = self._opened()
        try:
            _lock(file)
        except OSError as error:
            holder = _holder(file)
            file.close()
            raise self._refusal(error, holder) from None
        self._file = file
        try:
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()).encode())
        except OSError:
            pass  # a full disk: the lock holds without the number of the process
        return self

    def fault(self) -> str | None:
        """Why another process may believe that no process holds the lock; None where none may."""
        assert self._file is not None
        return _Seen.of("the lock file", self._path, self._file.fileno()).fault()

    def _opened(self) -> IO[bytes]:
        named = self._database
        try:
            own_files.check(self._database)
            # It holds prompts and answers: no other user of the machine may read them.
            own_files.new_folder(self._database.parent)
            named = self._path
            return open(own_files.opened(self._path), "r+b", buffering=0)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else error
            remedy = (
                "choose another with --db FILE"
                if named is self._database
                else "make it a file that this user may write, or choose another with --db FILE"
            )
            raise StartError(
                f"storage.path: {str(named)!r} cannot be opened: {reason}; {remedy}"
            ) from None

    def _refusal(self, error: OSError, holder: str) -> StartError:
        if error.errno in BUSY:
            return in_use(self._database, holder)
        return StartError(
            f"storage.path: {self._path} cannot be locked: {error.strerror}; "
            "choose a file on another disk with --db FILE"
        )

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()  # the file itself stays: removing it would race with a newcomer


class DatabaseLock:
    """`with DatabaseLock(database): …` around all that SQLite does with it in this process;
    raises StartError where another process holds it. A database that is not there needs none."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        if sys.platform == "win32":
            return self  # there an open file can be neither removed nor replaced
        try:
            descriptor = os.open(self._database, os.O_RDWR | own_files.NO_FOLLOW)
        except OSError:
            return self  # the opening of the database says why it cannot be opened
        try:
            _mark(descriptor)
        except OSError as error:
            if error.errno in BUSY:
                os.close(descriptor)
                raise in_use(self._database, "its lock file was removed") from None
            # This file system has no such locks: then the lock file is all there is.
        self._descriptor = descriptor
        return self

    def fault(self) -> str | None:
        """Whether the content of the open file was overwritten."""
        if self._descriptor is None or sys.platform == "win32":
            return None
        try:
            head = os.pread(self._descriptor, len(MAGIC), 0)
        except OSError as error:
            return f"the database file {self._database} cannot be read: {error.strerror}"
        if head in (b"", MAGIC):
            return None
        return f"the database file {self._database} was overwritten: it is no database any more"

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def in_use(database: Path, holder: str) -> StartError:
    """The error text for a database that another process holds."""
    return StartError(
        f"{database} is in use by another asyncsvc ({holder}); "
        "stop it first or choose another file with --db FILE"
    )


def _holder(file: IO[bytes]) -> str:
    """The process that a lock file names; anything may stand in a damaged one."""
    file.seek(0)
    text = file.read(32).decode("ascii", "replace").strip()
    return f"process {text}" if text.isdigit() else "process unknown"


class OpenedFiles:
    """`remember` the files when the database is open, then ask for `fault`."""

    def __init__(self, database: Path, lock: FileLock, marker: DatabaseLock) -> None:
        self._database = database.absolute()
        self._lock = lock
        self._marker = marker
        self._seen: list[_Seen] = []
        self._size = 0
        """Of the database file, at the last look."""
        self._expected = 0
        """The least that it may have: it gets shorter where free pages are given back."""
        self._torn: str | None = None
        """Why the database and what the process knows of it may differ for good."""

    def remember(self) -> None:
        """Take the files as they are now for the right ones."""
        named = (
            ("", "the database file"),
            (LOG, "the database's log"),
            (INDEX, "the database's index"),
        )
        self._seen = []
        for side, what in named:
            path = self._side(side)
            with suppress(FileNotFoundError):
                self._seen.append(_Seen.of(what, path, path))

    def expect(self, size: int) -> None:
        """The database file may have as few bytes as that from now on."""
        self._expected = min(self._expected, size)

    def settled(self, size: int) -> None:
        """The log is wholly in the database file, which has that many bytes."""
        self._expected = size

    def fault(self) -> str | None:
        """What is wrong with the files, in words; None where nothing is."""
        found = self._torn or self._first(self._seen) or self._shortened()
        return found or self._marker.fault() or self._lock.fault()

    def check(self) -> None:
        """Raises DatabaseLost where a commit would not be there for the next process."""
        if found := self._torn or self._first(self._seen[:2]):
            raise DatabaseLost(found)

    def check_committed(self) -> None:
        """The same behind a commit, of which then it is unknown where it is."""
        try:
            self.check()
        except DatabaseLost as lost:
            self._torn = self._torn or f"{lost} while a commit was under way"
            raise

    @contextmanager
    def sheltered(self) -> Generator[None]:
        """Close the database within the block: SQLite removes the log and the index by their
        names, also where another program's file has them by then."""
        kept = []
        for path in [seen.path for seen in self._seen[1:] if seen.fault()]:
            with suppress(OSError):
                os.link(path, aside := path.with_name(f"{path.name}{KEPT}-{os.getpid()}"))
                kept.append((path, aside))
        try:
            yield
        finally:
            for path, aside in kept:
                with suppress(OSError):
                    if not path.exists():
                        os.link(aside, path)
                    aside.unlink()

    def _side(self, side: str) -> Path:
        return self._database.with_name(self._database.name + side)

    def _first(self, files: list[_Seen]) -> str | None:
        return next((why for seen in files if (why := seen.fault())), None)

    def _shortened(self) -> str | None:
        """A size that no giving back of free pages explains."""
        with suppress(OSError):
            size, before = self._database.stat().st_size, min(self._size, self._expected)
            if size < before:
                return f"the database file {self._database} was cut from {before} to {size} bytes"
            self._size = size
        return None


def holder(path: Path) -> str | None:
    """Return words for the process that uses the database; None: none does."""
    if not path.exists():
        return None
    try:
        with DatabaseLock(path):
            if not path.with_name(path.name + ".lock").exists():
                return None
        with FileLock(path):
            return None
    except StartError as error:
        return str(error).partition("(")[2].partition(")")[0] or "a process"
