"""Picking up where the last process was cut off.

Owns the first moments after the journal is open. Promises that what ran is pending again and
has lost no attempt, that every task waits where it waited, in the same order, and that the
gates know the calls of the last process and what it had learned. Never touches a finished task.
"""

import logging

from asyncsvc.journal.journal import Change, Journal
from asyncsvc.lifecycle.learned_limits import learned
from asyncsvc.providers.registry import Catalogue
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.storage.durations import calls_until
from asyncsvc.tasks.state import Cause, State, status

log = logging.getLogger(__name__)


async def recover(journal: Journal, catalogue: Catalogue, scheduler: Scheduler) -> int:
    """Call it before the workers start; gives the number of tasks that had been cut off."""
    now = journal.now()
    reach = round((catalogue.longest_window_s() * 1.1 + 1) * 1000)
    calls = await journal.store.calls_since(now - reach)
    catalogue.restore(calls, now)
    if any(at > now for _, at, _ in calls):
        # The clock was set back. They count as made just now, once: not at each start again.
        await journal.append(calls_until(now))
    catalogue.learned(await learned(journal.store))
    cut = [task.id for task in journal.live.values() if task.state is State.RUNNING]
    if cut:
        changes = [Change(i, [status(Cause.INTERRUPTED, State.RUNNING)]) for i in cut]
        await journal.append(*changes)
    for task in list(journal.live.values()):
        scheduler.enqueue(task)
    if journal.live:
        log.info("%d unfinished tasks, %d of them were cut off", len(journal.live), len(cut))
    return len(cut)
