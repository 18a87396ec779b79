"""Records that say the same: a few a minute are written, and how many were not."""

import asyncio
import logging
from typing import Any

import pytest

from asyncsvc.logs import repeats
from asyncsvc.logs.repeats import RepeatLimit
from tests.virtual_time import loop, virtual


class Log:
    """A logger whose only handler keeps what passes the limit."""

    def __init__(self, at_most: int = 2) -> None:
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.seconds = 0.0
        self.limit = RepeatLimit(self.write, at_most, clock=lambda: self.seconds)

    def write(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(record.getMessage())

    def __call__(self, message: str, *args: object, level: int = 20, **fields: Any) -> None:
        record = logging.LogRecord("x", level, "x.py", 1, message, args, None)
        vars(record).update(fields)
        if self.limit.filter(record):
            self.write(record)


def test_the_number_of_those_held_back_is_written_when_the_minute_is_over() -> None:
    log = Log()
    for number in range(40):
        log("task %d failed", number, task_id=str(number))
    assert log.lines == ["task 0 failed", "task 1 failed"]
    log.seconds = 60.0
    log("something else")
    assert log.lines[2:] == [
        "… 38 more in the last 60 s, the latest: task 39 failed",
        "something else",
    ]
    assert vars(log.records[2])["repeated"] == 38
    assert vars(log.records[2])["task_id"] == "39"


def test_after_a_minute_the_same_is_written_again() -> None:
    log = Log()
    for second in range(0, 180, 20):
        log.seconds = float(second)
        log("again")
    assert log.lines == [
        "again", "again", "… 1 more in the last 60 s, the latest: again",
        "again", "again", "… 1 more in the last 60 s, the latest: again",
        "again", "again",
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["model", "account", "code", "alarm"])
def test_what_is_about_another_model_code_or_alarm_is_not_the_same(field: str) -> None:
    log = Log(at_most=1)
    for name in ("a", "b"):
        log("failed", **dict[str, Any]({field: name}))
    assert log.lines == ["failed", "failed"]


def test_levels_and_whole_messages_are_not_the_same() -> None:
    log = Log(at_most=1)
    log("one")
    log("one", level=30)
    log("%s", "two")
    log("%s", "three")
    log("%s", "three")
    assert log.lines == ["one", "one", "two", "three"]


def test_the_end_writes_what_was_held_back() -> None:
    log = Log(at_most=1)
    for _ in range(3):
        log("once")
    log.limit.close()
    log.limit.close()
    assert log.lines == ["once", "… 2 more in the last 60 s, the latest: once"]


def test_memory_is_bounded_and_no_number_is_lost() -> None:
    log = Log(at_most=1)
    for _ in range(3):
        log("%s", "first")
    for number in range(2 * repeats.KINDS):
        log("%s", number)
    assert len(log.limit) == repeats.KINDS
    assert "… 2 more in the last 60 s, the latest: first" in log.lines


def test_what_is_held_back_keeps_no_traceback_alive() -> None:
    log = Log(at_most=1)
    for _ in range(2):
        try:
            raise ValueError("no")
        except ValueError as error:
            record = logging.LogRecord(
                "x", 40, "x.py", 1, "failed", (), (type(error), error, error.__traceback__)
            )
            log.limit.filter(record)
    log.limit.close()
    assert log.records[-1].exc_info is None


@virtual
async def test_the_number_is_written_without_another_record() -> None:
    log = Log(at_most=1)
    limit = RepeatLimit(log.write, 1, clock=loop().time)
    log.limit = limit
    for _ in range(3):
        log("once")
    loop().call_later(60.5, log.lines.append, "a minute later")
    await asyncio.sleep(61)
    assert log.lines == [
        "once",
        "… 2 more in the last 60 s, the latest: once",
        "a minute later",
    ]
