"""Figures of the whole service over time: what charts show of the time before they were opened.

`look` is called again and again, and takes a row each five seconds; another ring has the mean of
each two minutes, so that memory is bounded: 15 minutes and 6 hours. A restart begins anew, and
between two rows may be more time where the loop stood still, which their times show.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.clock import Now, rfc3339
from asyncsvc.journal.counters import TaskCounters
from asyncsvc.journal.journal import Journal
from asyncsvc.monitoring.monitor import Monitor
from asyncsvc.providers.registry import Catalogue
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.tasks.state import State

ROWS = 180
EVERY_S = {"15m": 5, "6h": 120}
"""Seconds of a row, by the span of `ROWS` rows."""
LEVELS = (
    *("priority", "short", "long", "scheduled", "running", "paused"),
    *("memory_mb", "cpu_percent", "loop_lag_ms"),
)
"""Figures of a moment; the lanes are those of pending tasks."""
TOTALS = ("accepted", "refused", "completed", "failed", "cancelled", "calls", "errors", "tokens")
"""Figures that are counted: a row has what was added. `tokens` are pieces of answers as they
come; providers send about one a token."""
LAG_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Reading:
    """All figures at a moment: levels as they are, totals and seconds of waiting by reason since
    the start."""

    at: int
    levels: Mapping[str, float]
    totals: Mapping[str, float]
    waits: Mapping[str, float]


@dataclass
class Ring:
    """Rows of the same length in time, `ROWS` at most."""

    every_ms: int
    before: Reading
    """The end of the latest row."""
    rows: deque[Reading] = field(default_factory=lambda: deque(maxlen=ROWS))
    _levels: Counter[str] = field(default_factory=Counter)
    _readings: int = 0

    def add(self, now: Reading) -> None:
        """Take a reading into the row under way, which may be complete with it."""
        self._levels.update(now.levels)
        self._readings += 1
        if now.at - self.before.at < self.every_ms:
            return
        levels = {name: value / self._readings for name, value in self._levels.items()}
        totals = _added(now.totals, self.before.totals)
        self.rows.append(Reading(now.at, levels, totals, _added(now.waits, self.before.waits)))
        self.before, self._levels, self._readings = now, Counter(), 0


def _added(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Counts go back where a model is gone with its counts."""
    return {name: max(value - before.get(name, 0.0), 0.0) for name, value in now.items()}


class FigureHistory:
    """Rings of rows: the monitor's watch calls `look`; `as_dict` shows one ring."""

    def __init__(
        self,
        journal: Journal,
        task_counters: TaskCounters,
        catalogue: Catalogue,
        scheduler: Scheduler,
        monitor: Monitor,
    ) -> None:
        self._journal = journal
        self._task_counters = task_counters
        self._catalogue = catalogue
        self._waits = scheduler.dispatcher.waits
        self._monitor = monitor
        self._now: Now = journal.now
        first = self._read()
        self._latest = first.at
        self._rings = {span: Ring(s * 1000, first) for span, s in EVERY_S.items()}
        monitor.on_look.append(self.look)

    def look(self) -> None:
        """Take a reading, where the one before is old enough."""
        least_ms = min(EVERY_S.values()) * 1000
        if 0 <= self._now() - self._latest < least_ms:
            return
        reading = self._read()
        self._latest = reading.at
        for ring in self._rings.values():
            if reading.at < ring.before.at:  # the clock was set back
                ring.before = reading
            ring.add(reading)

    def as_dict(self, span: str) -> dict[str, Any]:
        """The rows of a span, a list for each figure."""
        rows = self._rings[span].rows
        reasons = sorted({reason for row in rows for reason in row.waits if row.waits[reason]})
        return {
            "span": span,
            "every_s": EVERY_S[span],
            "at": [rfc3339(row.at) for row in rows],
            "levels": {n: [round(row.levels[n], 3) for row in rows] for n in LEVELS},
            "totals": {n: [round(row.totals[n]) for row in rows] for n in TOTALS},
            "waits": {n: [round(row.waits.get(n, 0.0), 3) for row in rows] for n in reasons},
            "waited_s": {n: round(s, 3) for n, s in self._waits.totals.items()},
        }

    def _read(self) -> Reading:
        seen, live = self._monitor.process_statistics, self._journal.live.values()
        states = Counter(task.state for task in live)
        lanes = Counter(task.request.lane for task in live if task.state is State.PENDING)
        levels = {
            **{lane: float(lanes[lane]) for lane in ("priority", "short", "long")},
            **{s.value: float(states[s]) for s in (State.SCHEDULED, State.RUNNING, State.PAUSED)},
            "memory_mb": seen.memory / 1e6,
            "cpu_percent": seen.cpu_percent,
            "loop_lag_ms": self._monitor.lag.quantile(LAG_QUANTILE, min(EVERY_S.values())) * 1000,
        }
        return Reading(self._now(), levels, self._totals(), dict(self._waits.totals))

    def _totals(self) -> dict[str, float]:
        counters = self._task_counters
        ended: Counter[str] = Counter()
        for (state, _), count in counters.finished.items():
            ended[state] += count
        figures = [upstream.gate.statistics for upstream in self._catalogue.upstreams]
        return {
            "accepted": counters.accepted.total(),
            "refused": counters.refused.total(),
            **{state: ended[state] for state in ("completed", "failed", "cancelled")},
            "calls": sum(one.calls for one in figures),
            "errors": sum(one.errors for one in figures),
            "tokens": sum(one.pieces for one in figures),
        }
