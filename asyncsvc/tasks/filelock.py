"""A lock against a second instance on the same database.

Owns the file beside the database that names the process which holds it. Promises that the
system gives the lock back when the process ends, however it ends. Never waits.
"""

import errno
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from asyncsvc.errors import StartError

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    _FAR = 1 << 20  # a byte that nobody writes: a locked byte cannot be read on Windows

    def _lock(file: IO[str]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """`with FileLock(database): …`; raises StartError where another process holds it."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.parent / f"{database.name}.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            if self._database.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a directory")
            if not self._database.parent.exists():
                # The database holds prompts and answers: nobody else on the machine reads them.
                self._database.parent.mkdir(parents=True, mode=0o700)
            self._file = open(self._path, "a+", encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else error
            raise StartError(
                f"storage.path: {str(self._database)!r} cannot be opened: {reason}; "
                "choose another with --db FILE"
            ) from None
        try:
            _lock(self._file)
        except OSError:
            holder = self._holder()
            self._file.close()
            raise StartError(
                f"{self._database} is in use by another asyncsvc ({holder}); "
                "stop it first or choose another file with --db FILE"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def _holder(self) -> str:
        assert self._file is not None
        self._file.seek(0)
        return f"process {self._file.read().strip() or 'unknown'}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()  # the file itself stays: removing it would race with a newcomer
