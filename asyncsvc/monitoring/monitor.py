"""The monitor: watches memory, disk, event loop, queue, database and descriptors.

A limit passed is noticed within about a second; the intake then refuses tasks with the figure and
a Retry-After, and takes tasks again by itself. A disk that has refused a write is probed, so that
its return is noticed although no task comes. What runs is never stopped, and reading and
cancelling stay possible.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from asyncsvc.config.settings import Settings
from asyncsvc.errors import Overloaded, StorageUnavailable
from asyncsvc.intake.intake import Intake
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.monitoring.alarms import Alarms, Figure, Level, Reason, scarcity, share
from asyncsvc.monitoring.process_statistics import (
    EVERY_S,
    Look,
    LoopLag,
    Machine,
    ProcessStatistics,
    give_back,
)
from asyncsvc.storage import lock, refusals
from asyncsvc.storage.database import VERSION
from asyncsvc.storage.room import LOG_BYTES, MB
from asyncsvc.tasks.state import Task

log = logging.getLogger(__name__)

LOG_MOST = 512 << 20
"""Bytes of the write-ahead log above which something holds it back."""
SCARCE = 4
"""Times `limits.disk_free_mb` below which free pages of the database are counted."""
LAG_SPAN_S, LAG_QUANTILE = 10.0, 0.9
"""One short stop, as a snapshot or a start on a busy machine makes, is no overload: with the
default limit of two seconds it takes one of three."""
HUNG_S = 5.0
"""A commit that takes longer than this keeps submits waiting as well."""
STEADY_S = 2.0
"""On a disk that is nearly full small writes pass and large ones do not: that is one alarm."""
RETRY_S, RETRY_MOST_S = 5.0, 60.0
GROWTH, GROWTH_BYTES = 0.05, 1_000_000
"""How much more memory than at first is no reason to give any back."""
PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often the monitor does what."""

    look_s: float = 1.0
    lag_s: float = EVERY_S
    idle_probe_s: float = 60.0
    """After so long without any write, one is tried: a disk that has become read-only is found
    before a task needs it."""
    relief_s: float = 10.0
    """While more memory is used than at first, freed memory is given back to the system so
    often."""
    idle_relief_s: float = 40.0
    """The same while that gives back little: what is used is needed."""


class Monitor:
    """The watch over the limits of the process: `async with` it while the service runs."""

    def __init__(
        self,
        journal: Journal,
        intake: Intake,
        settings: Settings,
        look: Look | None = None,
        rhythm: Rhythm | None = None,
        relieve: Callable[[], Awaitable[None]] = give_back,
    ) -> None:
        self.process_statistics = ProcessStatistics()
        """The latest look."""
        self.alarms = Alarms(journal.now)
        self.on_look: list[Callable[[], None]] = []
        """Called after each look of the watch."""
        self.rhythm = rhythm or Rhythm()
        self.lag = LoopLag(self.rhythm.lag_s)
        database = Path(settings.storage.path).absolute()
        self.look = look or Machine(database, journal.store.upkeep.fault)
        self._journal = journal
        self._intake = intake
        self._settings = settings
        self._room = journal.store.upkeep.room
        self._cutting: asyncio.Future[bool] | None = None
        self._probe: asyncio.Future[list[Task]] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._blind = False
        self._relieve = relieve
        self._relieved_at = -math.inf
        self._before = 0
        """Memory used before it was last given back."""
        self._freed = 0
        """Memory that was freed by then."""
        self._least = 0

    async def __aenter__(self) -> Self:
        log.info("sqlite %s; limits: %s", VERSION, self._settings.limits)
        self.lag.start()
        await self.check()
        self._watching = asyncio.create_task(self._watch(), name="monitor")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.lag.stop()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    @property
    def writes_go_well(self) -> bool:
        """Whether the database takes writes, as far as the last one shows, and keeps them."""
        writes = self._journal.writes
        sound = (
            self.process_statistics.misplaced is None and self._journal.store.upkeep.damage is None
        )
        return sound and writes.refusal is None and writes.under_way_s() < HUNG_S

    def overload(self) -> Overloaded | None:
        """The error for a client while no task may be taken; None where tasks are taken."""
        reasons = self.alarms.beyond()
        if not reasons:
            return None
        text = "; ".join(reason.figure.message for reason in reasons)
        after = max(map(self._retry_after, reasons))
        return Overloaded(f"no task is taken at the moment: {text}", retry_after=after)

    async def check(self) -> None:
        """Look once, judge, and set the refusal of the intake."""
        await self._take_a_look()
        self._try_the_disk()
        self.judge()
        await self._give_back()

    def judge(self) -> None:
        """Judge what is known at this moment: the latest look, the latest write."""
        self.alarms.judge(self.figures(), asyncio.get_running_loop().time())
        reason = self.alarms.reasons.get("disk")
        if reason is not None and reason.level is Level.OVERLOADED:
            self._room.open.clear()
        else:
            self._room.open.set()
        self._intake.overload = self.overload if self.alarms.beyond() else None

    async def _give_back(self) -> None:
        """Give freed memory back where more is used than at first: the C library keeps it, and
        after a burst the service would refuse tasks for memory that nothing uses."""
        now, used = asyncio.get_running_loop().time(), self.process_statistics.memory
        freed = self.process_statistics.freed
        self._least = min(self._least or used, used)
        self._freed = min(self._freed, freed)  # what is used again is resident again
        near = "memory" in self.alarms.reasons
        if not near and used <= self._least * (1 + GROWTH) + GROWTH_BYTES:
            return
        changed = abs(used - self._before) > self._before * GROWTH
        useful = near or changed or freed - self._freed > used * GROWTH
        pause_s = self.rhythm.relief_s if useful else self.rhythm.idle_relief_s
        if now - self._relieved_at >= pause_s:
            self._relieved_at, self._before, self._freed = now, used, freed
            await self._journal.store.upkeep.release_memory()
            await self._relieve()

    async def _watch(self) -> None:
        """Check again and again, until cancelled; an exception does not end it."""
        while True:
            await asyncio.sleep(self.rhythm.look_s)
            try:
                await self.check()
                for follow in self.on_look:
                    follow()
            except Exception:
                log.exception("a fault of ours while watching")

    async def _take_a_look(self) -> None:
        try:
            self.process_statistics = await self.look()
            self._blind = False
            await self._look_at_storage()
        except (OSError, TimeoutError) as error:
            if not self._blind:
                log.warning("the machine's figures cannot be read: %r; the last ones count", error)
            self._blind = True

    async def _look_at_storage(self) -> None:
        """Count the free pages while room is scarce, and have a long log cut."""
        seen, upkeep = self.process_statistics, self._journal.store.upkeep
        if seen.disk_free is not None and seen.disk_free < SCARCE * self._room.least():
            with suppress(StorageUnavailable):
                await upkeep.look_at_pages()
        if seen.wal > LOG_BYTES and (self._cutting is None or self._cutting.done()):
            self._cutting = asyncio.ensure_future(self._journal.between(upkeep.shorten_log))
            self._cutting.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _log(self) -> Figure:
        """A log that is not cut for long is read by another program, or by a copy."""
        size = self.process_statistics.wal
        return Figure(
            "log",
            share(size, LOG_MOST),
            f"{size / MB:.0f} MB in the write-ahead log of the database, {LOG_MOST // MB} at most "
            "are usual",
            "end the program that reads the database without an end (a shell, a copy): until then "
            "the log cannot be cut",
            size,
            LOG_MOST,
            "bytes",
            worst=Level.DEGRADED,
        )

    def _try_the_disk(self) -> None:
        """Write a probe where the last write went wrong, or was long ago."""
        writes = self._journal.writes
        idle = asyncio.get_running_loop().time() - writes.ended
        if writes.refusal is None and idle < self.rhythm.idle_probe_s:
            return
        if self._probe is None or self._probe.done():
            entry = PersistedValue(PROBE, "write", str(self._journal.now()), durable=True)
            self._probe = self._journal.append(entry)

    def _retry_after(self, reason: Reason) -> float:
        """Seconds: the end is unknown; what has lasted for long is likely to go on for long."""
        lasted = asyncio.get_running_loop().time() - reason.since
        return min(max(lasted, RETRY_S), RETRY_MOST_S)

    def figures(self) -> Iterator[Figure]:
        """Each watched figure as it is now."""
        yield self._memory()
        yield self._disk()
        yield self._loop()
        yield self._queue()
        yield self._storage()
        yield self._log()
        yield self._database()
        if self.process_statistics.fds is not None and self.process_statistics.fds_limit:
            yield self._descriptors(self.process_statistics.fds, self.process_statistics.fds_limit)

    def _memory(self) -> Figure:
        used, most = self.process_statistics.memory / MB, self._settings.limits.memory_mb
        return Figure(
            "memory",
            share(used, most),
            f"{used:.0f} MB of memory used, limits.memory_mb = {most}",
            "let tasks finish, cancel large ones, or raise limits.memory_mb",
            self.process_statistics.memory,
            most * MB,
            "bytes",
        )

    def _disk(self) -> Figure:
        free, least = self.process_statistics.disk_free, self._settings.limits.disk_free_mb
        left = float("inf") if free is None else self._room.of(free) / MB
        return Figure(
            "disk",
            scarcity(left, least),
            f"{left:.0f} MB free on the database's disk, limits.disk_free_mb = {least}",
            "make room there, move storage.path, or lower limits.disk_free_mb",
            free,
            least * MB,
            "bytes",
        )

    def _loop(self) -> Figure:
        late, most = self.lag.quantile(LAG_QUANTILE, LAG_SPAN_S), self._settings.limits.loop_lag_ms
        return Figure(
            "loop_lag",
            share(late * 1000, most),
            f"the event loop is {late * 1000:.0f} ms late, limits.loop_lag_ms = {most}",
            "the processor is too busy: send less at once, or give it more",
            round(late, 4),
            most / 1000,
            "seconds",
        )

    def _descriptors(self, used: int, allowed: int) -> Figure:
        most = int(allowed * self._settings.limits.fds_share)
        return Figure(
            "fds",
            share(used, most),
            f"{used} of {allowed} file descriptors open, limits.fds_share = "
            f"{self._settings.limits.fds_share:g}",
            "close idle connections, or raise the limit of open files (ulimit -n)",
            used,
            most,
            "descriptors",
        )

    def _queue(self) -> Figure:
        held = len(self._journal.live)
        return Figure(
            "queue",
            share(held, self._settings.queue.max_length),
            f"{held} of {self._settings.queue.max_length} unfinished tasks, queue.max_length",
            "above that submits are refused with queue_full; let tasks finish or cancel some",
            held,
            self._settings.queue.max_length,
            "tasks",
            worst=Level.DEGRADED,
        )

    def _storage(self) -> Figure:
        writes = self._journal.writes
        hung = writes.under_way_s()
        used, text = 0.0, "the database takes writes"
        if writes.refusal is not None:
            used, text = 1.0, writes.refusal
        elif asyncio.get_running_loop().time() - writes.refused_at < STEADY_S:
            used, text = 1.0, "the database has just refused a write, and takes writes again"
        if hung >= HUNG_S:
            used, text = 1.0, f"a write to the database has been going on for {hung:.0f} s"
        return Figure(
            "storage",
            used,
            text,
            "see to the disk of storage.path; it is tried again every second",
            # A refused write answers its client at once; a submit would wait with one that hangs.
            worst=Level.OVERLOADED if hung >= HUNG_S else Level.DEGRADED,
        )

    def _database(self) -> Figure:
        """A file that is not in its place takes no task: what is written would be gone. One that
        is damaged takes tasks: most of it can be read and written."""
        lost, damage = self.process_statistics.misplaced, self._journal.store.upkeep.damage
        if lost is not None:
            return Figure("database", 1.0, lost, lock.REMEDY)
        used = 0.0 if damage is None else 1.0
        text = damage or "the database's files are in their place and nothing is damaged"
        return Figure("database", used, text, refusals.REMEDY, worst=Level.DEGRADED)


Watch = Callable[[Journal, Intake, Settings], Monitor]
"""Makes the monitor of a service; tests let it look elsewhere."""
