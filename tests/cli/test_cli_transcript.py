"""What goes to stdout and what to stderr while a task is waited for."""

import io
from typing import Any

import pytest

from asyncsvc.cli.transcript import Transcript


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(*events: tuple[str, dict[str, Any]], err: io.StringIO | None = None) -> tuple[str, str]:
    out, err = io.StringIO(), err or io.StringIO()
    transcript = Transcript(out, err)
    for kind, data in events:
        transcript.take({"type": kind, "data": data})
    return out.getvalue(), err.getvalue()


ATTEMPT = ("attempt", {"number": 1, "model": "m", "name": "fast"})
AGAIN = ("attempt", {"number": 2, "model": "m", "name": "fast"})
COMPLETED = ("status", {"status": "completed", "cause": "completed"})


def chunk(text: str) -> tuple[str, dict[str, Any]]:
    return "chunk", {"text": text}


def test_stdout_holds_the_text_and_one_line_end() -> None:
    assert written(ATTEMPT, chunk("a"), chunk("b"), COMPLETED) == ("ab\n", "")
    assert written(ATTEMPT, chunk("a\n"), COMPLETED) == ("a\n", "")


def test_a_new_attempt_starts_over_on_a_new_line() -> None:
    out, err = written(ATTEMPT, chunk("void"), AGAIN, chunk("good"), COMPLETED)
    assert out == "void\ngood\n"
    assert "attempt 2" in err
    assert "void" in err


def test_a_new_attempt_before_any_text_is_not_worth_a_word() -> None:
    assert written(ATTEMPT, AGAIN, chunk("good"), COMPLETED) == ("good\n", "")


def test_reasoning_is_not_part_of_the_answer() -> None:
    assert written(ATTEMPT, ("reasoning", {"text": "hm"}), chunk("a"), COMPLETED)[0] == "a\n"


def test_a_retry_and_a_pause_are_written() -> None:
    why = {"code": "overloaded", "message": "busy"}
    _, err = written(
        ("retry", {"why": why, "delay_s": 1.25}),
        ("retry", {"why": why, "delay_s": None}),
        ("status", {"status": "paused", "cause": "paused"}),
    )
    assert "in 1.2 s: overloaded: busy" in err
    assert "as soon as the model allows" in err
    assert "paused" in err


def test_a_terminal_is_reported_what_is_waited_for_and_that_is_erased() -> None:
    progress = ("progress", {"status": "pending", "position": 2, "eta_s": 4.0, "reason": "rate"})
    _, err = written(progress, ATTEMPT, chunk("a"), COMPLETED, err=Tty())
    assert "pending, position 2, about 4 s (rate)" in err
    assert err.endswith("\r\x1b[K")
    assert written(progress)[1] == ""


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 130), ("pending", 1)]
)
def test_exit_codes(status: str, code: int) -> None:
    transcript = Transcript(None, io.StringIO())
    transcript.take({"type": "status", "data": {"status": status, "cause": "x"}})
    assert transcript.exit_code == code


def test_a_task_that_runs_at_no_model_yet_is_written_to_run_and_no_more() -> None:
    running = ("status", {"status": "running", "cause": "started"})
    err = written(running, ATTEMPT, err=Tty())[1]
    assert "running …" in err
    assert "running on fast …" in err
    assert "None" not in err
