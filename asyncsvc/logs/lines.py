"""The lines of the log: a record as text for people, or as one JSON object for programs.

A record is one line of text, to which only a traceback adds more, indented; in JSON it is always
one line. Promises that no line holds a key (`Masking`), and that nothing in a message can look like
another record or steer a terminal. Fields that a record was given by `extra=` are fields in JSON.
"""

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

from asyncsvc.clock import rfc3339
from asyncsvc.config.secrets import HIDDEN, redacted
from asyncsvc.logs.safe_text import json_text, one_line, plain

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
DATE = "%Y-%m-%d %H:%M:%S"
SHORTEST_SECRET = 8
"""A shorter secret is a placeholder such as `any`, and part of common words."""
USUAL = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message"}
)
"""Attributes of each record; all others are fields that a caller has added."""
Mask = Callable[[str], str]


class Masking:
    """Replaces secrets in a text: these, and whatever looks like a provider's key."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        long_enough = {each for each in secrets if len(each) >= SHORTEST_SECRET}
        self._secrets = sorted(long_enough, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return redacted(text)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that the caller has added to a record."""
    return {name: value for name, value in vars(record).items() if name not in USUAL}


class TextLines(logging.Formatter):
    """A record for people: local time, level, where it comes from, what has happened."""

    def __init__(self, mask: Mask = redacted) -> None:
        super().__init__(FORMAT, DATE)
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        shown = logging.makeLogRecord(vars(record))
        message = record.getMessage()
        if (trace_id := vars(record).get("trace_id")) is not None:
            message += f" (trace {trace_id})"
        # A formatter stores a traceback's text in the record for the next one; it may hold a key.
        shown.msg, shown.args, shown.exc_text = one_line(message), None, None
        return plain(self._mask(super().format(shown))).replace("\n", "\n    ")


class JsonLines(logging.Formatter):
    """A record for programs: time (UTC), level, logger, message, then the fields of the record."""

    def __init__(self, mask: Mask = redacted) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {
            "time": rfc3339(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        shown |= {name: v for name, v in fields_of(record).items() if name not in shown}
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            shown["stack"] = record.stack_info
        return json_text({name: self._safe(value) for name, value in shown.items()})

    def _safe(self, value: Any) -> Any:
        """The value as JSON can hold it, without secrets. They are masked before JSON escapes any
        character of theirs."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if value - value == 0 else str(value)  # JSON knows no infinity
        if isinstance(value, dict):
            return {self._mask(str(name)): self._safe(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._safe(each) for each in value]
        text = self._mask(str(value))
        # A half of a surrogate pair cannot be written as UTF-8.
        return json.loads(json.dumps(text)).encode("utf-8", "replace").decode()
