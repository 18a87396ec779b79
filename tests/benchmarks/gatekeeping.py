"""Whether a gate kept closed: the breaker and the pauses, exact on a machine of any speed.

Owns the comparison of the service's record of runs with the provider's record of calls. Promises
that nothing is found where the service did what it must, however long either process, the disk or
the network stood still; so it works with bounds, not with margins. Never asks anybody.

What is known of a run for sure: its permit was given before `start` was recorded and the call was
made after it; the service knew of the call's end before `end` was recorded and not before the call
arrived, nor before the provider's silence was over. Both processes use one machine's clock.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

ROUNDING_S = 0.01
"""Of milliseconds, and of timers that fire a little early."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a task for which a call was made; seconds since the epoch."""

    start: float
    end: float
    arrived: float
    refused: bool
    """Asked to slow down."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start as the events tell of it."""

    start: float
    end: float
    cause: str
    code: str | None
    """Why it is tried again."""

    @property
    def called(self) -> bool:
        """A gate that closed before the call says so with a code of its own."""
        return not (self.cause == "deferred" and self.code == "overloaded")


def starts(database: Path) -> dict[str, list[Start]]:
    """Each task's starts in order, by its id."""
    sql = (
        "SELECT tasks.id, events.ts, events.type, events.data FROM events "
        "JOIN tasks ON tasks.n = events.task_n WHERE events.type IN ('status', 'retry') "
        "ORDER BY task_n, seq"
    )
    found: dict[str, list[Start]] = defaultdict(list)
    since, code = 0.0, None
    with closing(sqlite3.connect(database)) as connection:
        for task_id, ts, kind, text in connection.execute(sql):
            data = orjson.loads(text)
            if kind == "retry":
                code = data["why"]["code"]
            elif data["cause"] == "started":
                since, code = ts / 1000, None
            elif since:
                found[task_id].append(Start(since, ts / 1000, data["cause"], code))
                since = 0.0
    return found


def runs(made: Iterable[Start], calls: Sequence[dict[str, Any]]) -> Iterator[Run]:
    """One task's runs, with the calls that it has made; a call that was cut on its way to the
    provider is not among these, and was the last."""
    for one, call in zip((one for one in made if one.called), calls, strict=False):
        yield Run(one.start, one.end, float(call["arrived_at"]), one.cause == "deferred")


def of_calls(made: Sequence[Start], calls: Sequence[dict[str, Any]]) -> list[str]:
    """Calls of one task that were made although the gate had closed, or without a start."""
    most = sum(one.called for one in made)
    return [f"{len(calls)} calls for {most} starts that led to one"] if len(calls) > most else []


def of_breaker(
    made: Sequence[Run], failures: int, concurrency: int, cooldown_s: float, silence_s: float = 0.0
) -> list[str]:
    """What is wrong where every call fails, `silence_s` after it was made at the earliest."""
    if len(made) <= failures:
        return [f"{len(made)} calls are too few to open the breaker"]
    # The breaker opened between these two.
    earliest = sorted(run.start for run in made)[failures - 1] + silence_s
    latest = sorted(run.end for run in made)[failures - 1]
    ordered = sorted(made, key=lambda run: run.start)
    probes = [run for run in ordered if run.start > latest]
    # When the last but one failure came, all other slots may have been taken.
    most = failures - 1 + concurrency + max(int((latest - earliest) / cooldown_s), 0)
    wrong = []
    if len(made) - len(probes) > most:
        wrong.append(f"{len(made) - len(probes)} calls before the breaker was open, not {most}")
    if probes and probes[0].arrived < earliest + cooldown_s - ROUNDING_S:
        wrong.append(f"the first probe {probes[0].arrived - earliest:.3f} s after the failures")
    for one, other in pairwise(probes):
        apart = other.arrived - one.start
        if apart < silence_s + cooldown_s - ROUNDING_S:
            wrong.append(f"a probe {apart:.3f} s after the start of the one before")
    return wrong


def of_pause(made: Sequence[Run], pause_s: float) -> list[str]:
    """Calls that were made although a refusal had asked for a longer wait."""
    return [
        f"a call {other.arrived - one.arrived:.3f} s after one that was refused for {pause_s:g} s"
        for one in made
        for other in made
        if one.refused
        and other.start > one.end
        and other.arrived < one.arrived + pause_s - ROUNDING_S
    ]
