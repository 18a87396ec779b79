"""The files of the open database: whether their names still lead to what was opened.

Owns the identity (device, inode) and the least size of the database, its log, its index and its
lock file. Promises that a file which was removed, replaced, moved or cut short is found by
`fault`, and by `check` before a commit is acknowledged; that a file which is back in its place
is no fault any more; that closing the database removes no file of another one that has taken its
place. Never repairs anything. On Windows an open file keeps its name.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from asyncsvc.errors import DatabaseLost
from asyncsvc.storage.lock import DatabaseLock, FileLock

LOG, INDEX = "-wal", "-shm"
KEPT = ".kept"
REMEDY = (
    "put the same file back in its place, or stop the service and start it on a database that "
    "stays (a backup is put in place by `restore`)"
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was opened; `what` is its name for people."""

    path: Path
    what: str
    device: int
    inode: int


class OpenedFiles:
    """`remember` the files when the database is open, then ask for `fault`."""

    def __init__(self, database: Path, lock: FileLock, marker: DatabaseLock) -> None:
        self._database = database.absolute()
        self._lock = lock
        self._marker = marker
        self._seen: list[_Seen] = []
        self._size = 0
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
                found = path.stat()
                self._seen.append(_Seen(path, what, found.st_dev, found.st_ino))

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
    def sheltered(self) -> Iterator[None]:
        """Close the database within the block: SQLite removes the log and the index by their
        names, whosever they are by then."""
        uncached_tasks = [seen.path for seen in self._seen[1:] if self._is_another(seen)]
        kept = []
        for path in uncached_tasks:
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
        return next((why for seen in files if (why := _missing(seen))), None)

    def _is_another(self, seen: _Seen) -> bool:
        try:
            found = seen.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) != (seen.device, seen.inode)

    def _shortened(self) -> str | None:
        """The file never shrinks by itself: pages that become free are used again."""
        with suppress(OSError):
            size, before = self._database.stat().st_size, self._size
            if size < before:
                return f"the database file {self._database} was cut from {before} to {size} bytes"
            self._size = size
        return None


def _missing(seen: _Seen) -> str | None:
    try:
        found = os.stat(seen.path)
    except FileNotFoundError:
        return f"{seen.what} {seen.path} is no longer there"
    except OSError as error:
        return f"{seen.what} {seen.path} cannot be seen: {error.strerror}"
    if (found.st_dev, found.st_ino) != (seen.device, seen.inode):
        return f"{seen.what} {seen.path} was replaced by another file"
    return None
