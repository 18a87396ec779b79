"""The commands for agents: what they send, and what they show of the answer."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.cli.parser import run
from tests.cli.scripted_service import ScriptedService, scripted_service

ID = "01a1fa86-548c-7d45-b0f3-e4ae29df0be5"
TASK = {"task_id": ID, "status": "pending"}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedService]:
    with scripted_service() as found:
        monkeypatch.setenv("ASYNCSVC_URL", found.url)
        monkeypatch.delenv("ASYNCSVC_TOKEN", raising=False)
        yield found


def text(*argv: str, code: int = 0) -> None:
    assert run(list(argv)) == code


def sent(service: ScriptedService) -> tuple[str, str, Any]:
    """The only request."""
    (request,) = service.requests
    return request


@pytest.mark.parametrize(
    ("argv", "verb", "fields"),
    [
        (["approve", ID], "approve", {}),
        (["deny", ID], "deny", {}),
        (["deny", ID, "--reason", "not there"], "deny", {"reason": "not there"}),
        (["resume", ID], "resume", None),
        (["resume", ID, "--decision", "rerun"], "resume", {"decision": "rerun"}),
        (["resume", ID, "--decision", "skip"], "resume", {"decision": "skip"}),
    ],
)
def test_a_decision_is_sent_and_the_state_after_it_shown(
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    verb: str,
    fields: dict[str, Any] | None,
) -> None:
    service.answers[f"POST /tasks/{ID}/{verb}"] = TASK
    text(*argv)
    assert sent(service) == ("POST", f"/tasks/{ID}/{verb}", fields)
    assert capsys.readouterr().out.split() == [ID, "pending"]
    text(*argv, "--json")
    assert json.loads(capsys.readouterr().out) == TASK


def test_a_decision_that_does_not_exist_is_bad_usage(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    text("resume", ID, "--decision", "maybe", code=2)
    assert "rerun" in capsys.readouterr().err
    assert service.requests == []


def test_a_refused_decision_is_one_line(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"error": {"message": "no call of it waits for an approval", "code": "x"}}
    service.answers[f"POST /tasks/{ID}/approve"] = 409, error
    text("approve", ID, code=1)
    assert capsys.readouterr().err == "asyncsvc: no call of it waits for an approval\n"


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        (["--step", "3"], {"step": 3}),
        (["otherwise", "--step", "0"], {"step": 0, "content": "otherwise"}),
    ],
)
def test_a_fork(
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    fields: dict[str, Any],
) -> None:
    service.answers[f"POST /tasks/{ID}/fork"] = 202, {"task_id": "new", "status": "pending"}
    text("fork", ID, *more)
    assert sent(service)[2] == fields
    assert capsys.readouterr().out == "new\n"


@pytest.mark.parametrize(
    ("status", "steps", "step"),
    [
        ("completed", [(1, True)], 2),
        ("cancelled", [(1, True), (2, True), (2, False)], 1),
        ("failed", [(1, True), (3, True)], 3),
        ("paused", [(1, False)], 0),
        ("cancelled", [], 0),
    ],
)
def test_a_fork_begins_after_the_last_step_whose_calls_have_ended(
    service: ScriptedService, status: str, steps: list[tuple[int, bool]], step: int
) -> None:
    calls = [
        call("finished" if ended else "started", step=number, result={} if ended else None)
        for number, ended in steps
    ]
    service.answers |= {
        f"GET /tasks/{ID}": {"status": status, "metadata": {"steps": 2}},
        f"GET /tasks/{ID}/ledger": {"calls": calls},
        f"POST /tasks/{ID}/fork": (202, {"task_id": "new", "status": "pending"}),
    }
    text("fork", ID, "go on")
    assert service.requests[-1][2] == {"step": step, "content": "go on"}


def call(state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "call_1",
        "name": "exec_command",
        "arguments": {"argv": ["python3", "-m", "unittest"]},
        "step": 1,
        "state": state,
        "checkpoint": None,
        "decision": None,
        "reason": None,
        "started_at": None,
        "ended_at": None,
        "result": None,
    } | more


def test_the_ledger_shows_each_call_with_its_end(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"ok": False, "exit_code": 1, "duration_s": 0.5, "truncated": False, "output": "F"}
    calls = [
        call("finished", result=result | {"name": "exec_command"}),
        call("denied", step=2, decision="denied", reason="not now", result=result),
        call("needs_review", step=3),
    ]
    service.answers[f"GET /tasks/{ID}/ledger"] = {"calls": calls}
    text("ledger", ID)
    lines = [line for line in capsys.readouterr().out.splitlines() if "unittest" in line]
    assert len(lines) == 3
    assert "finished" in lines[0]
    assert "exit code 1, 0.5 s" in lines[0]
    assert lines[1].rstrip().endswith("denied; not now")
    assert "needs_review" in lines[2]
    text("ledger", ID, "--json")
    assert json.loads(capsys.readouterr().out) == {"calls": calls}
    service.answers[f"GET /tasks/{ID}/ledger"] = {"calls": []}
    text("ledger", ID)
    assert capsys.readouterr().out == "no call of a tool\n"


FILES = {"files": [{"path": "a b.txt", "size": 3, "kind": "file"}], "truncated": True}


def test_files_are_listed(service: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    service.answers[f"GET /tasks/{ID}/files"] = FILES
    text("files", ID)
    shown = capsys.readouterr().out
    assert "a b.txt" in shown
    assert "more files than are listed" in shown


def test_one_file_goes_to_stdout_as_it_is(
    service: ScriptedService, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    service.answers[f"GET /tasks/{ID}/files/a%20b.txt"] = b"\xff\x00\x1b[2J"
    text("files", ID, "a b.txt")
    assert capfdbinary.readouterr().out == b"\xff\x00\x1b[2J"
    text("files", ID, "a b.txt", "--json")
    found = json.loads(capfdbinary.readouterr().out)
    assert found == {"path": "a b.txt", "text": "\ufffd\x00\x1b[2J"}


def test_files_are_written_into_a_new_file(
    service: ScriptedService, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    service.answers[f"GET /tasks/{ID}/files"] = b"all of it"
    service.answers[f"GET /tasks/{ID}/files/deep/a.txt"] = b"one"
    packed, one = tmp_path / "all.tar.gz", tmp_path / "a.txt"
    text("files", ID, "--out", str(packed))
    assert packed.read_bytes() == b"all of it"
    assert service.requests[0][1] == f"/tasks/{ID}/files?format=tar.gz"
    text("files", ID, "deep/a.txt", "--out", str(one))
    assert one.read_bytes() == b"one"
    assert "3 bytes" in capsys.readouterr().out
    text("files", ID, "--out", str(one), code=2)
    assert one.read_bytes() == b"one"
    assert "exists already" in capsys.readouterr().err


def test_a_file_that_is_not_there_leaves_no_file(
    service: ScriptedService, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text("files", ID, "none", "--out", str(tmp_path / "new"), code=1)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("\n") == 1


def test_submitting_an_agent(
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("print('é')\n")
    (tmp_path / "b.txt").write_text("b")
    service.answers["POST /tasks"] = 202, TASK | {"position": 1, "eta_s": 0.1}
    files = ["--file", "src/a.py", "--file", str(tmp_path / "b.txt")]
    tools = ["--tool", "read_file", "--tool", "git", "--approve", "git", "--max-steps", "3"]
    text("submit", "mend it", "--agent", *tools, *files)
    assert sent(service)[2] == {
        "content": "mend it",
        "lane": "short",
        "priority": 5,
        "type": "agent",
        "tools": ["read_file", "git"],
        "approve": ["git"],
        "max_steps": 3,
        "files": {"src/a.py": "print('é')\n", "b.txt": "b"},
    }
    assert capsys.readouterr().out == f"{ID}\n"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--tool", "git"], "--tool goes with --agent"),
        (["--approve", "git"], "--approve goes with --agent"),
        (["--max-steps", "3"], "--max-steps goes with --agent"),
        (["--file", "x"], "--file goes with --agent"),
        (["--agent", "--file", "none"], "none: No such file"),
        (["--agent", "--file", "."], "Is a directory"),
        (["--agent", "--file", "raw"], "not text in UTF-8"),
        (["--agent", "--file", "a.txt", "--file", "./a.txt"], "two files would be 'a.txt'"),
        (["--agent", "--max-steps", "0"], "it is at least 1"),
    ],
)
def test_what_cannot_be_submitted_is_bad_usage(
    service: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").write_bytes(b"\xff")
    (tmp_path / "a.txt").write_text("a")
    text("submit", "mend it", *argv, code=2)
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
    assert service.requests == []


def shown_task(**more: Any) -> dict[str, Any]:
    meta = {"name": "fast", "model": "m", "latency": None, "usage": None}
    names = ["model", "started_at", "finished_at", "next_run_at", "session_id", "error", "result"]
    return {
        **dict.fromkeys(names),
        "task_id": ID,
        "status": "paused",
        "lane": "short",
        "priority": 5,
        "attempts": 1,
        "created_at": "2026-11-29T20:00:00Z",
        "content": "mend it",
        "metadata": meta | {"steps": 2, "tool_calls": 3},
    } | more


def test_a_task_that_waits_shows_what_is_asked_and_how_to_decide(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"path": "a.txt", "content": "new\n" * 50}
    approval = {"id": "c", "name": "write_file", "arguments": arguments, "diff": "-old\n+new\n"}
    service.answers[f"GET /tasks/{ID}"] = shown_task(approval=approval | {"review": False})
    text("show", ID)
    shown = capsys.readouterr().out
    assert "2, 3 calls of tools" in shown
    assert "waits for your approval: write_file a.txt" in shown
    assert f"approve {ID}, or deny" in shown
    assert "-old\n+new\n" in shown
    assert shown.count("new\\n") >= 50  # the arguments whole
    service.answers[f"GET /tasks/{ID}"] = shown_task(approval=approval | {"review": True})
    text("show", ID)
    assert f"resume {ID} --decision rerun|skip|fail" in capsys.readouterr().out


def test_a_task_that_waits_for_nobody_shows_none_of_it(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers[f"GET /tasks/{ID}"] = shown_task(status="completed", approval=None)
    text("show", ID)
    shown = capsys.readouterr().out
    assert "waits" not in shown
    assert "arguments" not in shown


def test_text_of_a_fork_comes_from_stdin_too(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers[f"POST /tasks/{ID}/fork"] = 202, {"task_id": "new", "status": "pending"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("über stdin\n".encode())))
    text("fork", ID, "-", "--step", "1")
    assert sent(service)[2] == {"step": 1, "content": "über stdin"}


def test_agents_that_wait_for_a_person_are_counted_and_listed(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    states = ["scheduled", "pending", "running", "paused", "completed", "failed", "cancelled"]
    counts = dict.fromkeys(states, 0) | {"total": 3, "needs_approval": 2, "needs_review": 0}
    service.answers["GET /tasks/stats"] = counts
    text("stats")
    shown = capsys.readouterr().out
    assert "2 for your approval" in shown
    assert "review" not in shown
    service.answers["GET /tasks"] = {"tasks": [], "next_cursor": None}
    text("tasks", "--waiting-for", "review")
    assert "waiting_for=review" in service.requests[-1][1]


def test_where_the_time_of_an_agent_went(
    service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [{"name": "git", "took_s": 0.25}, {"name": "denied_tool", "took_s": None}]
    step = {"number": 1, "model_s": 1.5, "usage": {"total_tokens": 99}, "calls": calls}
    agent = {"steps": [step], "model_s": 1.5, "tools_s": 0.25, "person_s": 2.0}
    service.answers[f"GET /tasks/{ID}/explain"] = {
        "task_id": ID,
        "status": "completed",
        "timeline": [],
        "waits": {"queued_s": {}},
        "attempts": [],
        "totals": {"waiting_s": 0, "running_s": 2},
        "usage": None,
        "now": None,
        "cached": False,
        "agent": agent,
    }
    text("explain", ID)
    shown = capsys.readouterr().out
    assert "git 0.2 s, denied_tool" in shown
    assert "of the agent's time: model 1.500 s, tools 0.250 s, a person 2.000 s" in shown
