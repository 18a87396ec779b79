"""Room on the disk: what may still be written before the service needs the rest for itself.

Owns one figure, the free bytes of the database's disk together with the free pages of its file,
and the writes under way that will take some of it. Promises that whatever can grow the disk by
much asks here before each piece of it: uploads, outputs of batches, backups, new calls to
providers. Small records (states, events, the text of calls under way) never ask: the room that is
kept is for them. Never frees anything.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from asyncsvc.errors import NoRoom

MB = 1_000_000
LOG_BYTES = 64 << 20
"""Free pages count as room only while the disk itself has this for the write-ahead log, through
which everything goes: the size up to which SQLite keeps the log's file."""


class DiskRoom:
    """The room of one database's disk."""

    def __init__(self, database: Path) -> None:
        self.least: Callable[[], int] = lambda: 0
        """Bytes that are kept free, by the settings at that moment; 0: all may be used."""
        self.free_pages = 0
        """Bytes of the database's free pages at the last look, less what was written since."""
        self.open = asyncio.Event()
        """Set while there is room for new calls to providers."""
        self.open.set()
        self._folder = database.absolute().parent
        self._log = database.with_name(f"{database.name}-wal")
        self._taken = 0
        """Bytes that are being written at this moment."""

    def of(self, disk_free: float) -> float:
        """The room, in bytes, where the disk has so many free bytes."""
        return disk_free + (self.free_pages if disk_free >= LOG_BYTES else 0)

    def check(self, need: int, folder: Path | None = None) -> None:
        """Raises NoRoom where less than what is kept would be left after `need` bytes more, in
        that folder or (None) in the database. Asks the system, which may take a while."""
        least = self.least()
        if not least:
            return
        free = shutil.disk_usage(folder or self._folder).free
        left = (self.of(free) - self._in_log() if folder is None else free) - self._taken
        if left - need < least:
            raise NoRoom(
                f"{left / MB:.0f} MB are free on the disk, this takes {need / MB:.1f} MB and "
                f"limits.disk_free_mb = {least // MB} stay free; delete files or tasks, or make "
                "room there"
            )

    def _in_log(self) -> int:
        """Bytes by which the database may still grow when its log is copied into it."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    @asynccontextmanager
    async def taking(self, need: int) -> AsyncGenerator[None]:
        """Room for `need` bytes while the block writes them. Raises NoRoom."""
        if self.least():
            await asyncio.to_thread(self.check, need)
        self._taken += need
        try:
            yield
        finally:
            self._taken -= need
            self.free_pages = max(self.free_pages - need, 0)
