"""Retention: removes tasks that have been finished for long enough, a few at a time, with their
workspaces, and gives the room of what was removed back to the disk.

Owns the decision what is old enough, and the pace. Promises that a clock which is set forward
deletes nothing early, that each step is one small transaction between two commits with room for
others, and that a disk which refuses only delays the removal. Never touches an unfinished task.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import orjson

from asyncsvc.clock import Now, Uptime
from asyncsvc.config.settings import Settings
from asyncsvc.errors import StorageUnavailable
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.scheduling.cache import KIND as ANSWER

log = logging.getLogger(__name__)

KIND, KEY = "retention", "clock"
DAY_MS = 86_400_000
EVERY_S = 60.0
WORKSPACES_S = 3600.0
"""Between two looks for the workspaces of tasks that are gone."""
PAUSE_S = 0.05
"""Between two steps: with steps of a few milliseconds the disk is free for other work nine tenths
of the time, and a thousand tasks are removed in a second or two."""
SHRINKS_MOST = 400
"""Steps of giving room back in one sweep: a hundred megabytes, then purging has its turn again."""
JUMP_MS = 5_000
"""A clock that is set forward by less is only being corrected."""


Sweep = Callable[[Callable[[str], Awaitable[bool]]], Awaitable[int]]
"""Removes the workspaces of the tasks of which its argument says that they are gone."""


class TrustedClock:
    """A wall clock that is never ahead of the time that has really passed.

    A time stamp can only be compared with a clock that ran on evenly since. Where the wall clock
    goes on by more than the machine's own one, it was set: from then on `read` follows the
    machine's clock, and comes back to the wall clock when `keep_ms` have gone by, as all stamps
    from before are out of the way by then. While the machine is off nothing measures the time,
    and the wall clock is believed; while only the service is off, the machine's clock goes on.
    """

    def __init__(self, now: Now, uptime: Uptime, keep_ms: int) -> None:
        self._now = now
        self._uptime = uptime
        self.keep_ms = keep_ms
        self._wall = self._trusted = now()
        self._boot, self._up = uptime()
        self._doubt_ms = 0
        """For how long the wall clock is still not believed."""

    def read(self) -> int:
        """Milliseconds since the epoch, as far as they can be trusted."""
        wall, (boot, up) = self._now(), self._uptime()
        gone = up - self._up if boot == self._boot else max(0, wall - self._wall)
        if wall - self._wall - gone > JUMP_MS:
            if not self._doubt_ms:
                self._trusted = self._wall
            self._doubt_ms = self.keep_ms + gone
        self._doubt_ms = max(0, self._doubt_ms - gone)
        self._trusted = min(self._trusted + gone, wall) if self._doubt_ms else wall
        self._wall, self._boot, self._up = wall, boot, up
        return self._trusted

    def state(self) -> str:
        """For `restore`, as JSON."""
        held = [self._wall, self._trusted, self._boot, self._up, self._doubt_ms]
        return orjson.dumps(held).decode()

    def restore(self, state: str) -> None:
        """Go on from where an earlier process was."""
        self._wall, self._trusted, self._boot, self._up, self._doubt_ms = orjson.loads(state)


class Retention:
    """`run` until cancelled; `sweep` once."""

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        now: Now,
        uptime: Uptime,
        every_s: float = EVERY_S,
        sweep_workspaces: Sweep | None = None,
    ) -> None:
        self._journal = journal
        self._sweep_workspaces = sweep_workspaces
        self._next_sweep = -math.inf
        self._settings = settings
        # A retention of seconds is not to wait for a minute.
        self._every_s = min(every_s, max(0.5, self.keep_ms / 10_000)) if self.keep_ms else every_s
        self.clock = TrustedClock(now, uptime, self.keep_ms)
        self.removed = 0
        """Rows removed since the start."""

    @property
    def keep_ms(self) -> int:
        """How long finished tasks stay, in milliseconds; 0: for ever."""
        return round(self._settings.storage.retention_days * DAY_MS)

    @property
    def answers_ms(self) -> int:
        """How long cached answers may be given again, in milliseconds."""
        return round(self._settings.cache.ttl_s * 1000)

    async def run(self) -> None:
        """Sweep every `every_s` seconds until cancelled; raises nothing else."""
        with suppress(StorageUnavailable):
            if value := await self._journal.store.persisted_value(KIND, KEY):
                self.clock.restore(value)
        refused = False
        while True:
            try:
                await self.sweep()
                refused = False
            except StorageUnavailable as error:
                if not refused:
                    log.warning("purging waits: %s", error)
                refused = True
            await asyncio.sleep(self._every_s)

    async def sweep(self) -> None:
        """Remove everything that is old enough, in steps. Raises StorageUnavailable."""
        trusted = self.clock.read()
        await self._journal.append(PersistedValue(KIND, KEY, self.clock.state()))
        upkeep = self._journal.store.upkeep
        if self.keep_ms:
            self.removed += await self._repeat(partial(upkeep.purge, trusted - self.keep_ms))
        answers = partial(upkeep.forget, ANSWER, trusted - self.answers_ms)
        self.removed += await self._repeat(answers)
        await self._repeat(upkeep.shrink, SHRINKS_MOST)
        await self._journal.between(upkeep.shorten_log)
        await self._remove_workspaces()

    async def _remove_workspaces(self) -> None:
        """Remove the workspaces of tasks that are gone, once an hour."""
        now = asyncio.get_running_loop().time()
        if self._sweep_workspaces is None or now < self._next_sweep:
            return
        self._next_sweep = now + WORKSPACES_S
        try:
            await self._sweep_workspaces(self._there)
        except OSError as error:
            log.warning("workspaces of tasks that are gone are still there: %s", error)

    async def _there(self, task_id: str) -> bool:
        return task_id in self._journal.live or bool(await self._journal.store.known([task_id]))

    async def _repeat(self, step: Callable[[], Awaitable[int]], most: float = math.inf) -> int:
        """Take steps until one finds nothing to do, or so many; the sum of what they did."""
        total = taken = 0
        while taken < most and (done := await self._journal.between(step)):
            total, taken = total + done, taken + 1
            await asyncio.sleep(PAUSE_S)
        return total
