"""Process statistics: memory, disk, CPU, descriptors and file sizes, and the lag of the event loop.

A disk that does not answer holds up the look alone; a figure that a platform lacks is None. A loop
that stands still counts for as long as it stood, not as one late timer among many punctual ones.
Nothing here judges a figure.
"""

import asyncio
import ctypes
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import psutil

LOOK_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """The figures of one look at the machine; sizes in bytes."""

    memory: int = 0
    """Resident memory of this process."""
    freed: int = 0
    """Memory that the C library keeps for later, whether given back to the system or not; 0 where
    it does not say."""
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
    """The machine that the service runs on; an instance is a `Look`."""

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
        async with asyncio.timeout(LOOK_WITHIN_S):
            await asyncio.wait({looking})
        self._looking = None
        return looking.result()

    def _look(self) -> ProcessStatistics:
        fds, limit = _descriptors(self._process)
        return ProcessStatistics(
            memory=self._process.memory_info().rss,
            freed=_freed(),
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


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _trim() -> None:
    try:
        _c_library().malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # another C library


class _HeapFigures(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def _freed() -> int:
    try:
        figures = _c_library().mallinfo2
    except (OSError, AttributeError, TypeError):
        return 0  # another C library, or an older one
    figures.restype = _HeapFigures
    return int(figures().fordblks)


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


EVERY_S = 0.1
SPAN_S = 60.0


class LoopLag:
    """How late the event loop runs its timers: `start`, then ask for a `quantile`."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._lags: deque[float] = deque(maxlen=max(round(SPAN_S / every_s), 1))
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._set(asyncio.get_running_loop().time() + self._every_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def quantile(self, q: float, span_s: float = SPAN_S) -> float:
        """Seconds of lateness that the share `q` of the last `span_s` seconds was within."""
        wanted = max(round(span_s / self._every_s), 1)
        lags = sorted(islice(reversed(self._lags), wanted))
        # Of what was before the start nothing is known: it was punctual. Otherwise the stop of a
        # start on a busy machine would be all there is.
        place = min(int(q * wanted), wanted - 1) - (wanted - len(lags))
        return lags[place] if place >= 0 else 0.0

    def _set(self, due: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        now = asyncio.get_running_loop().time()
        late = max(now - due, 0.0)
        # The ticks that the stop has swallowed would have been late as well, each a bit less.
        for missed in range(min(int(late / self._every_s), self._lags.maxlen or 0), -1, -1):
            self._lags.append(max(late - missed * self._every_s, 0.0))
        self._set(now + self._every_s)
