"""Alarms: the level of each watched figure (ok, degraded, overloaded), and the changes of levels.

A figure that trembles at a limit raises one alarm, not many (hysteresis); each change is one log
line and is remembered for clients that ask with a cursor. Nothing is measured or refused here.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from asyncsvc.clock import Now, rfc3339

log = logging.getLogger(__name__)

NEAR = 0.8
"""The share of a limit from which on it is near."""
SLACK = 0.05
"""A level is left only this share of the limit below where it was entered."""
REMEMBERED = 50


class Level(IntEnum):
    OK = 0
    DEGRADED = 1
    OVERLOADED = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """A watched figure. `used`: the share of its limit, 1 being all of it."""

    name: str
    used: float
    message: str
    """The figure and its limit, in words."""
    remedy: str
    value: float | None = None
    limit: float | None = None
    unit: str | None = None
    worst: Level = Level.OVERLOADED
    """DEGRADED where being beyond the limit is no reason to refuse tasks."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A figure that is not ok, since when (ms; and by the loop's clock)."""

    figure: Figure
    level: Level
    at: int
    since: float

    def as_dict(self) -> dict[str, Any]:
        figure = self.figure
        return {
            "name": figure.name,
            "level": self.level.name.lower(),
            "message": figure.message,
            "remedy": figure.remedy,
            "value": figure.value,
            "limit": figure.limit,
            "unit": figure.unit,
            "since": rfc3339(self.at),
        }


def level_of(figure: Figure, before: Level) -> Level:
    """The level: up where the figure reaches a mark, down only well below the mark."""
    marks = {Level.DEGRADED: NEAR, Level.OVERLOADED: 1.0}
    found = Level.OK
    for level, mark in marks.items():
        if figure.used >= (mark - SLACK if before >= level else mark):
            found = level
    return min(found, figure.worst)


class Alarms:
    """`judge` the figures again and again."""

    def __init__(self, now: Now) -> None:
        self.reasons: dict[str, Reason] = {}
        """The figures that are not ok at this moment, by name."""
        self.raised: Counter[tuple[str, str]] = Counter()
        """How often each (name, level) was entered."""
        self.last = 0
        """The number of the latest change."""
        self._changes: deque[tuple[int, dict[str, Any]]] = deque(maxlen=REMEMBERED)
        self._now = now

    @property
    def level(self) -> Level:
        return max((reason.level for reason in self.reasons.values()), default=Level.OK)

    def judge(self, figures: Iterable[Figure], time: float) -> None:
        """Judge the figures at `time` (the loop's clock); a figure that is missing is ok."""
        found = {figure.name: figure for figure in figures}
        for name in [name for name in self.reasons if name not in found]:
            found[name] = Figure(name, 0.0, f"{name}: no longer seen", "")
        for name, figure in found.items():
            old = self.reasons.get(name)
            before = old.level if old is not None else Level.OK
            level = level_of(figure, before)
            if level is Level.OK:
                self.reasons.pop(name, None)
            elif old is not None and level is before:
                self.reasons[name] = Reason(figure, level, old.at, old.since)
            else:
                self.reasons[name] = Reason(figure, level, self._now(), time)
            if level is not before:
                self._changed(figure, before, level)

    def beyond(self) -> list[Reason]:
        """The reasons why no task may be taken."""
        return [r for r in self.reasons.values() if r.level is Level.OVERLOADED]

    def changes(self, after: int = 0) -> list[dict[str, Any]]:
        """The remembered changes with a number above `after`, oldest first."""
        return [change for number, change in self._changes if number > after]

    def _changed(self, figure: Figure, before: Level, level: Level) -> None:
        self.last += 1
        self.raised[figure.name, level.name.lower()] += 1
        change = {
            "number": self.last,
            "at": rfc3339(self._now()),
            "name": figure.name,
            "was": before.name.lower(),
            "level": level.name.lower(),
            "message": figure.message,
        }
        self._changes.append((self.last, change))
        text = f"{figure.message}; {figure.remedy}" if level is not Level.OK else figure.message
        severity = logging.INFO if level is Level.OK else logging.WARNING
        fields = {"alarm": figure.name, "value": figure.value, "limit": figure.limit}
        log.log(severity, "%s is %s (was %s): %s", figure.name, change["level"], change["was"],
                text, extra=fields | {"state": change["level"]})  # fmt: skip


def share(value: float, limit: float) -> float:
    """The used share of a limit that must not be exceeded; a limit of 0 is none."""
    return value / limit if limit else 0.0


def scarcity(left: float, least: float) -> float:
    """The used share of a rest that must not fall below `least`: 1 at `least`, more below."""
    if not least:
        return 0.0
    return least / left if left > 0 else math.inf
