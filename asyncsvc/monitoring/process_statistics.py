"""What the machine says of itself.

Owns the asking: memory, disk, CPU, descriptors, sizes of files. Promises that a disk which does
not answer holds up nobody but the asker, and that a figure which a platform lacks is None.
Never judges.
"""

import asyncio
import ctypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """One look at the machine; sizes in bytes."""

    memory: int = 0
    """Resident memory of this process."""
    disk_free: int | None = None
    """Where the database lies, for a user without privileges."""
    cpu_percent: float = 0.0
    """Of one core, used by this process since the look before."""
    fds: int | None = None
    fds_limit: int | None = None
    database: int = 0
    wal: int = 0
    misplaced: str | None = None
    """Why the database's files are not those that were opened; None where they are."""


Look = Callable[[], Awaitable[ProcessStatistics]]
"""Takes a look. Raises OSError or TimeoutError where that is not possible at the moment."""


class Machine:
    """The real machine; an instance is a `Look`."""

    def __init__(self, database: Path, misplaced: Callable[[], str | None]) -> None:
        self._database = database
        self._misplaced = misplaced
        self._wal = database.with_name(f"{database.name}-wal")
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first answer is always 0
        self._looking: asyncio.Future[ProcessStatistics] | None = None

    async def __call__(self) -> ProcessStatistics:
        # In a thread, as statvfs on a disk that hangs does not return. That look is waited for
        # again next time: another would only hang beside it.
        if self._looking is None:
            self._looking = asyncio.ensure_future(asyncio.to_thread(self._look))
        looking = self._looking
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({looking})
        self._looking = None
        return looking.result()

    def _look(self) -> ProcessStatistics:
        fds, limit = _descriptors(self._process)
        return ProcessStatistics(
            memory=self._process.memory_info().rss,
            disk_free=_free(self._database.parent),
            cpu_percent=self._process.cpu_percent(),
            fds=fds,
            fds_limit=limit,
            database=_size(self._database),
            wal=_size(self._wal),
            misplaced=self._misplaced(),
        )


async def give_back() -> None:
    """Return freed memory to the system, where the C library can: by itself it keeps what lies
    between two blocks in use, and the resident size would stay high after a load has gone."""
    await asyncio.to_thread(_trim)  # it takes the time of a large heap


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # another C library


def _descriptors(process: psutil.Process) -> tuple[int | None, int | None]:
    """(open, allowed), where the platform counts them."""
    try:
        import resource
    except ImportError:
        return None, None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return process.num_fds(), None if limit == resource.RLIM_INFINITY else limit


def _free(folder: Path) -> int | None:
    try:
        return psutil.disk_usage(str(folder)).free
    except (FileNotFoundError, NotADirectoryError):
        return None  # it was removed: `misplaced` says so


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
