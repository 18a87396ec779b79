"""The log as it is set up: format, level, and settings that are read again."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from asyncsvc.config.settings import Log
from asyncsvc.logs.output import LIBRARIES, QUIET, LogOutput

OURS = logging.getLogger("asyncsvc.some.part")


class Stream(io.StringIO):
    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("asyncsvc")
    before = list(root.handlers), root.level, ours.level
    levels = {name: logging.getLogger(name).level for name in (*LIBRARIES, *QUIET)}
    root.handlers = []
    yield
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def output(*, terminal: bool = False, **log: str) -> tuple[Stream, LogOutput]:
    stream = Stream()
    stream.terminal = terminal
    made = LogOutput(stream)
    made.apply(Log.model_validate(log))
    return stream, made


@pytest.mark.parametrize(
    ("terminal", "wanted", "is_json"),
    [
        (True, "auto", False),
        (False, "auto", True),
        (True, "json", True),
        (False, "text", False),
    ],
)
def test_json_where_there_is_no_terminal_or_where_it_is_asked_for(
    terminal: bool, wanted: str, is_json: bool
) -> None:
    stream, _ = output(terminal=terminal, format=wanted)
    OURS.warning("disk %s", "full", extra={"alarm": "disk"})
    line = stream.getvalue()
    assert line.startswith("{") is is_json
    if is_json:
        assert json.loads(line)["alarm"] == "disk"


def test_the_level_is_for_our_own_lines_and_may_change() -> None:
    stream, made = output(format="text")
    OURS.debug("one")
    OURS.info("two")
    made.apply(Log(level="debug", format="text"))
    OURS.debug("three")
    made.apply(Log(level="error", format="text"))
    OURS.warning("four")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["two", "three"]


def test_lines_of_libraries_go_the_same_way_from_warning_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("uvicorn", "uvicorn.error"):  # other tests start servers with uvicorn's own log
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    stream, _ = output()
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.error").warning("too many", extra={"color_message": "x"})
    assert json.loads(stream.getvalue())["message"] == "too many"
    assert "color_message" not in stream.getvalue()


def test_secrets_are_left_out_also_after_a_reload() -> None:
    stream, made = output()
    made.apply(Log(), ["the-first-secret"])
    made.apply(Log(), ["the-other-secret"])
    OURS.warning("the-other-secret")
    assert json.loads(stream.getvalue())["message"] == "***"


def test_repetitions_are_counted() -> None:
    stream, made = output()
    for _ in range(25):
        OURS.warning("the same")
    made.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 11
    assert lines[-1]["message"] == "… 15 more in the last 60 s, the latest: the same"
    assert lines[-1]["repeated"] == 15
