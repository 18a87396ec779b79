"""Locks against a second instance on the same database.

Owns the file beside the database that names the process which holds it, and a mark in the
database file itself, which holds where the first was removed. Promises that the system gives
both back when the process ends, however it ends, and that neither is in SQLite's way. Never
waits.

SQLite locks the database file by POSIX record locks, which a process loses as soon as it closes
any descriptor of the file. So the mark is a lock of an open file description (Linux), far behind
all that SQLite locks, on a descriptor that is opened before SQLite's and closed after them.
"""

import errno
import os
import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from asyncsvc.errors import StartError
from asyncsvc.storage.migrations import MAGIC

BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What the system says of a lock that another process holds."""

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
        held = os.fstat(self._file.fileno())
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return f"the lock file {self._path} was removed"
        except OSError as error:
            return f"the lock file {self._path} cannot be seen: {error.strerror}"
        if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            return f"the lock file {self._path} was replaced by another file"
        return None

    def _opened(self) -> IO[bytes]:
        named = self._database
        try:
            if self._database.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a directory")
            if not self._database.parent.exists():
                # It holds prompts and answers: no other user of the machine may read them.
                self._database.parent.mkdir(parents=True, mode=0o700)
            named = self._path
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
            return open(os.open(self._path, flags, 0o666), "r+b", buffering=0)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            descriptor = os.open(self._database, os.O_RDWR)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
