"""The limits of single clients: their unfinished tasks, and their new tasks in a minute.

Owns the times of a client's new tasks; the settings in force say how many there may be. Promises
that one client at its limit does not stop others. The times are not stored: a restart forgets them.
"""

from collections import Counter, deque

from asyncsvc.clock import Now
from asyncsvc.config.settings import Settings
from asyncsvc.errors import ClientRateLimited, QueueFull
from asyncsvc.journal.counters import TaskCounters

WINDOW_MS = 60_000
RETRY_AFTER_S = 5.0


class Quotas:
    """`check` before tasks of an owner are taken; then tell what has become of them."""

    def __init__(self, settings: Settings, task_counters: TaskCounters, now: Now) -> None:
        self._settings = settings
        self._counters = task_counters
        self._now = now
        self._entering: Counter[str] = Counter()
        """Tasks that are being stored, by owner."""
        self._times: dict[str, deque[int]] = {}

    def check(self, owner: str | None, count: int) -> None:
        """Raises QueueFull or ClientRateLimited where the owner may not have so many more."""
        client = self._settings.clients.get(owner or "")
        if owner is None or client is None:
            return
        held, most = self._counters.unfinished[owner] + self._entering[owner], client.max_unfinished
        if most and held + count > most:
            raise QueueFull(
                f"{owner} has {held} unfinished tasks, of {most} allowed (max_unfinished)",
                retry_after=RETRY_AFTER_S,
            )
        if client.rpm:
            self._check_rate(owner, count, client.rpm)

    def _check_rate(self, owner: str, count: int, rpm: int) -> None:
        times, now = self._times.setdefault(owner, deque()), self._now()
        while times and not 0 <= now - times[0] < WINDOW_MS:  # also where the clock was set back
            times.popleft()
        over = len(times) + count - rpm
        if over <= 0:
            return
        if count > rpm:
            raise ClientRateLimited(
                f"{owner} may submit {rpm} tasks in 60 s (rpm); {count} at once are never taken",
                retry_after=WINDOW_MS / 1000,
            )
        left_ms = times[over - 1] + WINDOW_MS - now
        raise ClientRateLimited(
            f"{owner} has submitted {len(times)} tasks in the last 60 s, of {rpm} allowed (rpm)",
            retry_after=left_ms / 1000,
        )

    def submitted(self, owner: str | None, count: int) -> None:
        """So many new tasks of the owner are refused no more."""
        client = self._settings.clients.get(owner or "")
        if owner is not None and client is not None and client.rpm:
            self._times.setdefault(owner, deque()).extend([self._now()] * count)

    def begin(self, owner: str | None, count: int) -> None:
        """So many tasks of the owner are being stored; `end` when they are, or are not."""
        if owner is not None:
            self._entering[owner] += count

    def end(self, owner: str | None, count: int) -> None:
        if owner is not None:
            self._entering[owner] -= count
            if not self._entering[owner]:
                del self._entering[owner]
