"""Records as lines: text for people, JSON for programs, and no key in either."""

import json
import logging
from typing import Any

import pytest

from asyncsvc.logs.lines import JsonLines, Masking, TextLines

FORGED = "2026-01-01 00:00:00.000 ERROR   asyncsvc: forged"
KEY = "sk-" + "abcdefghijklmnopqrstuvwxyz"


def record(
    message: str, *args: object, error: BaseException | None = None, **fields: Any
) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("asyncsvc.x", logging.WARNING, "x.py", 1, message, args, info)
    made.created, made.msecs = 1_764_450_000.123, 123
    vars(made).update(fields)
    return made


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def as_json(*args: Any, mask: Masking | None = None, **fields: Any) -> dict[str, Any]:
    line = JsonLines(mask or Masking()).format(record(*args, **fields))
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_text_is_one_line() -> None:
    line = TextLines().format(record("model %s: %s", "m\x1b[2J", f"no\n{FORGED}"))
    assert "\n" not in line
    assert line.endswith(f"WARNING asyncsvc.x: model m␛[2J: no {FORGED}")


def test_a_traceback_in_text_cannot_look_like_another_record() -> None:
    text = TextLines().format(record("failed", error=raised(ValueError(f"no\r\n{FORGED}\x1b[2J"))))
    assert "Traceback (most recent call last)" in text
    assert all(line.startswith("    ") for line in text.split("\n")[1:])
    assert "\x1b" not in text


def test_json_has_time_level_logger_message_and_the_fields_of_the_record() -> None:
    assert as_json("task %s failed", "t1", task_id="t1", attempt=2, seconds=0.5, model=None) == {
        "time": "2025-11-29T21:00:00.123Z",
        "level": "warning",
        "logger": "asyncsvc.x",
        "message": "task t1 failed",
        "task_id": "t1",
        "attempt": 2,
        "seconds": 0.5,
        "model": None,
    }


def test_json_keeps_a_traceback_within_its_line() -> None:
    found = as_json("failed", error=raised(ValueError(f"no\n{FORGED}")))
    assert found["exception"].endswith(f"ValueError: no\n{FORGED}")


def test_a_field_never_takes_the_place_of_the_records_own() -> None:
    assert as_json("a", level="none", time="never")["level"] == "warning"


@pytest.mark.parametrize("value", [float("inf"), "\ud800", object, {"a": (1, [2])}, "\u202e\x9b"])
def test_whatever_a_field_holds_the_line_is_json_in_utf_8(value: object) -> None:
    line = JsonLines().format(record("a", field=value))
    assert json.loads(line.encode().decode())["field"] is not None
    assert not {"\u202e", "\x9b"} & set(line)


@pytest.mark.parametrize("secret", ["pass\nword-of-the-day", "kürzel-0123456789", 'a"b\\c-01234'])
def test_a_secret_that_json_would_escape_is_masked_all_the_same(secret: str) -> None:
    found = as_json("key %s", secret, mask=Masking([secret]), field=[secret], error=None)
    assert found["message"] == "key ***"
    assert found["field"] == ["***"]


@pytest.mark.parametrize("lines", [TextLines, JsonLines])
def test_a_key_is_nowhere_in_a_line(lines: type[TextLines] | type[JsonLines]) -> None:
    own = "a-key-of-no-known-shape"
    made = record(
        "refused: %s\n%s", KEY, own, error=raised(ValueError(f"{KEY} {own}")), **{own: {KEY: own}}
    )
    text = lines(Masking([own])).format(made)
    assert KEY not in text
    assert own not in text.replace(f'"{own}":', "")  # the name of a field is the service's own


def test_a_short_secret_is_a_word_and_stays() -> None:
    assert as_json("any model", mask=Masking(["any"]))["message"] == "any model"


def test_a_person_sees_the_trace_too() -> None:
    line = TextLines().format(record("task %s failed", "t1", trace_id="4bf9"))
    assert line.endswith("task t1 failed (trace 4bf9)")


def test_formatting_leaves_the_record_as_it_is() -> None:
    made = record("a %s", "b", error=raised(ValueError()))
    before = dict(vars(made))
    TextLines().format(made)
    JsonLines().format(made)
    assert vars(made) == before


def test_a_stack_is_shown() -> None:
    made = logging.getLogger("x").makeRecord(
        "x", 20, "x.py", 1, "here", (), None, sinfo="Stack:\n  here"
    )
    assert json.loads(JsonLines().format(made))["stack"] == "Stack:\n  here"
