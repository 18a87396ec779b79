"""The watchdog: cuts runs that should have ended by themselves.

Owns the look at the calls under way, apart from the deadlines that they keep themselves.
Promises that a call which goes on beyond its task's time, or of which nothing has been heard for
longer than the timeouts allow, is cut, and that a call which does not end then is left behind
within seconds, so that its task gets its outcome and its slot is free. Never ends a task itself,
and never hurries a disk: it tells the executor.
"""

import asyncio
import logging

from asyncsvc.config.settings import Settings
from asyncsvc.errors import IdleTimeout
from asyncsvc.execution.call import Run
from asyncsvc.execution.execution import Executor

log = logging.getLogger(__name__)

EVERY_S = 2.0
MARGIN_S = 5.0
"""Beyond the deadline, by when whatever watches itself has ended."""
PATIENCE_S = 5.0
"""How long a call that was cut may take to end, closing its connection."""


class Watchdog:
    """`run` until cancelled, `look` once."""

    def __init__(self, executor: Executor, settings: Settings) -> None:
        self.cut = 0
        """Calls that had to be cut."""
        self.left_behind = 0
        """Those of them that did not even end then."""
        self._executor = executor
        self._settings = settings
        self._cut_at: dict[Run, float] = {}

    async def run(self, at_work: asyncio.Event) -> None:
        """Look every now and then, as long as there is something to look at."""
        while True:
            await at_work.wait()
            await asyncio.sleep(EVERY_S)
            try:
                self.look()
            except Exception:
                log.exception("the watchdog stumbled; it goes on")

    def look(self) -> None:
        """Cut what is too late, let go what was cut long enough ago."""
        now = asyncio.get_running_loop().time()
        under_way = {m.run for m in self._executor.runs.values() if not m.run.ended.is_set()}
        for run in under_way:
            if run.over:
                # Being cut, by whomever; from now on its time counts.
                if now - self._cut_at.setdefault(run, now) >= PATIENCE_S:
                    self._leave_behind(run)
            else:
                self._judge(run, now)
        self._cut_at = {run: at for run, at in self._cut_at.items() if run in under_way}

    def _judge(self, run: Run, now: float) -> None:
        for participant in list(run.participants.values()):
            if now > participant.deadline + MARGIN_S:
                log.error("task %s runs beyond its deadline and is cut", participant.task.id)
                self.cut += 1
                self._executor.time_is_up(participant)
        timeouts = run.upstream.limits(self._settings.timeouts)
        limit_s = timeouts.connect_s + max(timeouts.first_token_s, timeouts.idle_s) + MARGIN_S
        if not run.over and run.silent_s(now) > limit_s:
            log.error("nothing was heard of the call of task %s; it is cut", run.lead.id)
            self.cut += 1
            self._executor.cut(run, IdleTimeout(f"nothing was heard for {limit_s:g} s"))

    def _leave_behind(self, run: Run) -> None:
        log.error("the call of task %s was cut and does not end; left behind", run.lead.id)
        self.left_behind += 1
        run.ended.set()
