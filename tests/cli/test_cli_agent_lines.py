"""What is shown of an agent: steps, calls of tools, their output, decisions, and the answer."""

import io
from typing import Any

import pytest

from asyncsvc.cli.agent_lines import call_text, how_to_decide, result_text, wait_text
from asyncsvc.cli.transcript import TaskView, Transcript, waiting

Event = tuple[str, dict[str, Any]]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*events: Event, out: io.StringIO | None = None, asks: bool = False) -> tuple[str, str]:
    """What goes to stdout and to stderr."""
    out, err = out or io.StringIO(), io.StringIO()
    transcript = Transcript(out, err, asks=asks)
    transcript.view.task_id = "task-1"
    for number, (kind, data) in enumerate(events, start=1):
        transcript.take({"type": kind, "data": data, "seq": number})
    assert transcript.seq == len(events)
    return out.getvalue(), err.getvalue()


def step(number: int) -> Event:
    return "step", {"number": number}


def chunk(text: str) -> Event:
    return "chunk", {"text": text, "step": 1}


def call(call_id: str, name: str, **arguments: Any) -> Event:
    return "tool_call", {"id": call_id, "name": name, "arguments": arguments, "step": 1}


def started(call_id: str) -> Event:
    return "tool_started", {"id": call_id, "checkpoint": None}


def output(call_id: str, text: str) -> Event:
    return "tool_output", {"id": call_id, "text": text}


def result(call_id: str, name: str, text: str = "", **more: Any) -> Event:
    found = {"ok": True, "output": text, "exit_code": 0, "duration_s": 0.25, "truncated": False}
    return "tool_result", {"id": call_id, "name": name} | found | more


MESSAGE = ("message", {"step": 1, "usage": None, "finish_reason": "tool_calls"})
COMPLETED = ("status", {"status": "completed", "cause": "completed"})
RESUMED = ("status", {"status": "pending", "cause": "resumed", "error": None})
ASKED = ("approval", {"id": "a", "name": "write_file", "arguments": {"path": "a.txt"}})


def paused(code: str) -> Event:
    error = {"code": code, "message": "…", "retryable": False}
    return "status", {"status": "paused", "cause": "paused", "error": error}


def test_steps_calls_output_and_results_in_their_order() -> None:
    out, err = shown(
        step(1),
        chunk("I run it."),
        MESSAGE,
        call("a", "exec_command", argv=["python3", "-c", "print(1)"]),
        started("a"),
        output("a", "one\ntw"),
        output("a", "o\nthree"),
        result("a", "exec_command", "one\ntwo\nthree", ok=False, exit_code=3),
        step(2),
        chunk("Done."),
        MESSAGE,
        COMPLETED,
    )
    assert out == "Done.\n"
    assert err.splitlines() == [
        "[step 1]",
        "I run it.",
        "[exec_command python3 -c 'print(1)']",
        "  one",
        "  two",
        "  three",
        "[exec_command: exit code 3, 0.2 s]",
        "[step 2]",
    ]


def test_at_a_terminal_all_text_comes_as_it_is_written() -> None:
    out, _ = shown(
        step(1), chunk("I look."), MESSAGE, call("a", "git"), step(2), chunk("Done."), out=Tty()
    )
    assert out == "I look.\nDone."


def test_the_text_of_an_agent_that_ends_early_is_its_answer() -> None:
    cancelled = ("status", {"status": "cancelled", "cause": "cancelled"})
    assert shown(step(1), chunk("As far as"), cancelled)[0] == "As far as\n"


def test_text_of_a_step_that_was_cut_off_is_void() -> None:
    attempt = ("attempt", {"number": 2, "name": "fast", "model": "m"})
    out, _ = shown(step(1), chunk("vo"), attempt, step(1), chunk("good"), MESSAGE, COMPLETED)
    assert out == "good\n"
    out, err = shown(step(1), chunk("vo"), attempt, step(1), chunk("good"), out=Tty())
    assert out == "vo\ngood"
    assert "void" in err
    whole = (step(1), chunk("paid"), MESSAGE, call("a", "git"), attempt, step(2), chunk("end"))
    assert "void" not in shown(*whole, out=Tty())[1]


def test_a_result_that_did_not_come_while_the_tool_ran_is_shown_shortened() -> None:
    text = "".join(f"line {number}\n" for number in range(30))
    _, err = shown(step(1), call("a", "read_file", path="a"), started("a"), result("a", "x", text))
    assert "  line 11\n" in err
    assert "line 12" not in err
    assert "  … 18 more lines\n" in err


def test_calls_that_run_at_the_same_time_are_kept_apart() -> None:
    _, err = shown(
        step(1),
        call("a", "read_file", path="one"),
        call("b", "read_file", path="two"),
        started("a"),
        started("b"),
        result("b", "read_file", "text of two"),
        result("a", "read_file", "text of one"),
    )
    lines = err.splitlines()
    assert lines[lines.index("  text of one") - 1] == "[read_file one]"
    assert lines[lines.index("  text of two") - 1] == "[read_file two]"


def test_a_call_that_never_ran_is_shown_with_its_result() -> None:
    _, err = shown(step(1), call("a", "nosuch"), result("a", "nosuch", "no tool", ok=False))
    assert err.splitlines()[1:] == ["[nosuch]", "  no tool", "[nosuch: failed, 0.2 s]"]


def test_what_waits_for_an_approval_is_shown_with_its_change_and_how_to_decide() -> None:
    asked = (ASKED[0], ASKED[1] | {"diff": "-old\n+new\n"})
    events = (step(1), call("a", "write_file", path="a.txt"), asked, paused("needs_approval"))
    _, err = shown(*events)
    assert "[waits for your approval: write_file a.txt]\n  -old\n  +new\n" in err
    assert "approve task-1, or deny" in err
    assert "goes on after `resume`" not in err
    _, err = shown(*events, asks=True)
    assert "waits for your approval" in err
    assert "approve task-1" not in err


def test_what_waits_for_a_review() -> None:
    asked = (ASKED[0], ASKED[1] | {"review": True})
    _, err = shown(step(1), call("a", "write_file", path="a"), asked, paused("needs_review"))
    assert "was cut off, and may have had its effect" in err
    assert "resume task-1 --decision rerun|skip|fail" in err


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"decision": "approved", "reason": None}, "approved]"),
        ({"decision": "denied", "reason": "not there"}, "denied: not there]"),
        ({"decision": "rerun", "reason": None}, "runs again]"),
        ({"decision": "skip", "reason": None}, "left out]"),
    ],
)
def test_decisions_are_shown(decision: dict[str, Any], words: str) -> None:
    decided = ("approval", {"id": "a"} | decision)
    call_event = call("a", "write_file", path="a.txt")
    _, err = shown(step(1), call_event, ASKED, paused("needs_approval"), decided, RESUMED)
    assert f"[write_file a.txt: {words}" in err


def test_a_call_that_is_denied_is_not_shown_as_if_it_had_run() -> None:
    denied = ("approval", {"id": "a", "decision": "denied", "reason": "no"})
    events = (step(1), call("a", "write_file", path="a.txt"), ASKED, paused("needs_approval"))
    ended = result("a", "write_file", "a person has denied this call: no", ok=False)
    _, err = shown(*events, denied, RESUMED, ended)
    assert err.splitlines()[-1] == "[write_file a.txt: denied: no]"


def test_a_call_that_is_undone_after_a_crash_is_shown_again() -> None:
    back = ("rollback", {"id": "a", "checkpoint": "c"})
    events = (step(1), call("a", "git"), started("a"), back, started("a"), result("a", "git", "ok"))
    _, err = shown(*events)
    assert "[git was cut off and is undone; it runs again]" in err
    assert err.splitlines().count("[git]") == 2


def test_a_paused_agent_that_waits_for_nobody_goes_on_after_resume() -> None:
    decided = ("approval", {"id": "a", "decision": "approved", "reason": None})
    plain = ("status", {"status": "paused", "cause": "paused"})
    _, err = shown(step(1), ASKED, paused("needs_approval"), decided, RESUMED, plain)
    assert "goes on after `resume`" in err


def test_tools_of_a_gateway_in_a_chat_are_shown_as_before() -> None:
    """Only an agent's own tools are: a chat with OpenClaw has events of the same name."""
    out, err = shown(chunk("a"), call("x", "web_search", query="q"), chunk("b"), COMPLETED)
    assert (out, err) == ("ab\n", "")


def test_the_note_of_waiting_names_step_and_tool() -> None:
    view = TaskView(status="running", name="fast")
    view.take({"type": "step", "data": {"number": 3}})
    assert waiting(view) == "step 3, running on fast …"
    view.take({"type": "tool_call", "data": call("a", "git", args=["log"])[1]})
    view.take({"type": "tool_started", "data": started("a")[1]})
    assert waiting(view) == "step 3, git log …"
    view.take({"type": "tool_result", "data": result("a", "git")[1]})
    assert waiting(view) == "step 3, running on fast …"
    view.take({"type": "approval", "data": ASKED[1]})
    view.take({"type": "status", "data": paused("needs_approval")[1]})
    assert waiting(view) == "waits for your approval: write_file a.txt"
    assert not view.ended


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "t"),
        ({"argv": ["grep", "-n", "a b"]}, "t grep -n 'a b'"),
        ({"args": ["commit", "-m", "x"]}, "t commit -m x"),
        ({"content": "hi", "path": "a b.txt"}, "t 'a b.txt' content=\"hi\""),
        ({"n": 3, "deep": {"a": [1]}}, 't n=3 deep={"a": [1]}'),
        ("no JSON {", 't "no JSON {"'),
        ({"code": "x" * 100}, f't code="{"x" * 58}…'),
        ({"argv": ["\x1b[2J\n"]}, "t '␛[2J '"),
    ],
)
def test_a_call_in_one_line(arguments: Any, text: str) -> None:
    assert call_text("t", arguments) == text
    assert len(call_text("t", {"argv": ["y" * 9999]})) == 200


def test_how_a_call_ended() -> None:
    assert result_text({"ok": True, "duration_s": 1.04}) == "ok, 1.0 s"
    assert result_text({"ok": False, "exit_code": 137, "truncated": True}) == (
        "exit code 137, output cut"
    )


def test_words_for_what_waits_hold_no_sequence_of_a_terminal() -> None:
    asked = {"name": "t\x1b[2J", "arguments": {"path": "\x1b]0;x\x07"}}
    assert "\x1b" not in wait_text(asked)
    assert how_to_decide(asked, "id").endswith("approve id, or deny")
