"""Repetitions in the log: of records that say the same, a few a minute are written.

`RepeatLimit` is a filter of a handler. Records are alike where their logger, level and message
before its values are, and the model, code and alarm that they are about. Of those that it holds
back it writes the last one with their number when the minute is over. Promises bounded memory,
whatever is logged. Safe to use from several threads.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asyncsvc.logs.lines import fields_of

AT_MOST, SPAN_S = 10, 60.0
"""So many alike are written in so many seconds."""
KINDS = 256
"""Kinds of records remembered; the one not seen for longest goes first."""
KIND_FIELDS = ("model", "account", "code", "alarm")
"""Fields by which records with one message are of several kinds."""


@dataclass(slots=True)
class _Kind:
    since: float
    written: int = 0
    held: int = 0
    last: logging.LogRecord | None = None


class RepeatLimit(logging.Filter):
    """`write` takes the records that say how many were held back; `clock` gives seconds."""

    def __init__(
        self,
        write: Callable[[logging.LogRecord], Any],
        at_most: int = AT_MOST,
        span_s: float = SPAN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._write = write
        self._at_most = at_most
        self._span_s = span_s
        self._clock = clock
        self._kinds: OrderedDict[tuple[Any, ...], _Kind] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of kinds remembered."""
        return len(self._kinds)

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "repeated"):
            return True
        with self._lock:
            over, passes = self._judge(record)
        self._report(over)
        return passes

    def report(self) -> None:
        """Write how many were held back where a minute is over."""
        with self._lock:
            over = self._ended(self._clock())
        self._report(over)

    def close(self) -> None:
        """Write how many were held back, of all kinds."""
        with self._lock:
            kinds = list(self._kinds.values())
            self._kinds.clear()
        self._report(kinds)

    def _judge(self, record: logging.LogRecord) -> tuple[list[_Kind], bool]:
        """The kinds whose minute is over, and whether the record is written."""
        now, key = self._clock(), _key(record)
        over = self._ended(now)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(now)
            if len(self._kinds) > KINDS:
                over.append(self._kinds.popitem(last=False)[1])
        self._kinds.move_to_end(key)
        if kind.written < self._at_most:
            kind.written += 1
            return over, True
        if not kind.held:
            self._report_later(kind.since + self._span_s - now)
        kind.held += 1
        kind.last = _without_traceback(record)
        return over, False

    def _ended(self, now: float) -> list[_Kind]:
        """The kinds whose minute is over, which are forgotten."""
        ended = [k for k, kind in self._kinds.items() if now - kind.since >= self._span_s]
        return [self._kinds.pop(key) for key in ended]

    def _report_later(self, delay: float) -> None:
        """Report when the minute is over, where a loop runs; else the next record does."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        loop.call_later(max(delay, 0.0), self.report)

    def _report(self, kinds: Iterable[_Kind]) -> None:
        for kind in kinds:
            if kind.last is not None:
                span = f"{self._span_s:g} s"
                kind.last.msg = (
                    f"… {kind.held} more in the last {span}, the latest: {kind.last.msg}"
                )
                vars(kind.last)["repeated"] = kind.held
                self._write(kind.last)


def _key(record: logging.LogRecord) -> tuple[Any, ...]:
    fields = fields_of(record)
    apart = tuple(str(fields.get(name)) for name in KIND_FIELDS) if fields else ()
    message = record.getMessage() if record.msg == "%s" else str(record.msg)
    return record.name, record.levelno, message, *apart


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that keeps nothing alive: no arguments, no frames."""
    fields = fields_of(record)
    info = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
    copy = logging.makeLogRecord({**fields, **info, "created": record.created})
    copy.msecs, copy.msg = record.msecs, record.getMessage()
    return copy
