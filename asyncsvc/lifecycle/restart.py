"""Restart: goes on where the last process ended, with its tasks, its calls and what it learned.

Owns the first moments after the journal is open, and the record of learned limits, from which
the next start begins. Promises that a task which ran is pending again and has lost no attempt;
that every task waits where it waited, in the same order; that the accounts count the calls of
the last process; that learned limits are written at most once in `EVERY_S` for each account,
and a disk that refuses costs only that record. Never touches a finished task, never decides a
limit.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import orjson

from asyncsvc.errors import StorageUnavailable
from asyncsvc.journal.journal import Change, Journal, PersistedValue
from asyncsvc.limits.account import AccountLimiter, Listener
from asyncsvc.providers.registry import Catalogue
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.storage.entries import CallsBounded
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Cause, State, status

log = logging.getLogger(__name__)

KIND = "limits"
EVERY_S = 5.0


async def recover(journal: Journal, catalogue: Catalogue, scheduler: Scheduler) -> int:
    """Restore accounts and waiting tasks, before the workers start; the number of tasks that the
    end of the last process interrupted."""
    now = journal.now()
    reach = round((catalogue.longest_window_s() * 1.1 + 1) * 1000)
    calls = await journal.store.calls_since(now - reach)
    catalogue.restore(calls, now)
    if any(at > now for _, at, _ in calls):
        # The clock was set back. The calls count as made just now, once: not at each start again.
        await journal.append(CallsBounded(now))
    catalogue.learned(await learned(journal.store))
    interrupted = [task.id for task in journal.live.values() if task.state is State.RUNNING]
    if interrupted:
        changes = [Change(i, [status(Cause.INTERRUPTED, State.RUNNING)]) for i in interrupted]
        await journal.append(*changes)
    for task in list(journal.live.values()):
        scheduler.enqueue(task)
    if journal.live:
        log.info(
            "unfinished tasks that are taken up: %d; cut off by the end of the process before: %d",
            len(journal.live),
            len(interrupted),
        )
    return len(interrupted)


class LearnedLimits:
    """Writes down the limits that accounts have learned; `close` writes what is not written yet."""

    def __init__(self, journal: Journal, listener: Listener) -> None:
        self._journal = journal
        self._due: dict[str, tuple[AccountLimiter, asyncio.TimerHandle]] = {}
        listener.on_learn = self._changed

    async def close(self) -> None:
        """Write at once what would be written later."""
        gates = [gate for gate, _ in self._due.values()]
        writes = [write for gate in gates if (write := self._write(gate)) is not None]
        with suppress(StorageUnavailable):
            await asyncio.gather(*writes)

    def _changed(self, gate: AccountLimiter) -> None:
        if gate.name not in self._due:
            timer = asyncio.get_running_loop().call_later(EVERY_S, self._write, gate)
            self._due[gate.name] = gate, timer

    def _write(self, gate: AccountLimiter) -> "asyncio.Future[Any] | None":
        _, timer = self._due.pop(gate.name)
        timer.cancel()
        if self._journal.closing:
            return None
        value = orjson.dumps(gate.adaptive.as_dict()).decode()
        return self._journal.append(PersistedValue(KIND, gate.name, value))


async def learned(store: Store) -> dict[str, Any]:
    """The limits that earlier processes wrote down, by the account's name."""
    return {key: orjson.loads(value) for key, _, value in await store.persisted_values(KIND)}
