"""Agents from the command line, with a real service, its tools, and the simulated provider."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Place, Process, environment
from tests.cli.test_cli_conversing import newest, screen
from tests.needs import need

FAST = ("--agent", "--model", "fast")


def script(*steps: Any) -> str:
    return "#agent " + json.dumps(steps)


def calls(name: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": name, "arguments": arguments}]}


def write(path: str, content: str) -> dict[str, Any]:
    return calls("write_file", path=path, content=content)


def submitted(service: Place, *argv: str) -> str:
    ended = service.run("submit", *argv, *FAST)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def watched(service: Place, task_id: str) -> str:
    """The answer of a task, once it is complete."""
    ended = service.run("watch", task_id)
    assert ended.code == 0, ended.err
    return ended.out


def until_it_waits(process: Process) -> str:
    return process.until(" or deny]", "err").partition("[waits for")[2]


def test_an_agent_is_seen_through_and_its_calls_and_files_can_be_read(
    service: Place, tmp_path: Path
) -> None:
    (service.folder / "given.txt").write_text("the given text")
    text = script(
        {"text": "I read it.", **calls("read_file", path="given.txt")},
        write("made/new.txt", "新"),
        {"text": "It says: $RESULT"},
    )
    ended = service.run("submit", text, *FAST, "--wait", "--file", "given.txt")
    assert (ended.code, ended.out) == (0, "It says: wrote 3 bytes to made/new.txt\n")
    lines = ended.err.splitlines()
    for line in ("[step 1]", "I read it.", "[read_file given.txt]", "  the given text"):
        assert line in lines
    task_id = newest(service)["task_id"]
    ledger = service.run("ledger", task_id, "--json").json["calls"]
    assert [(call["name"], call["state"], call["step"]) for call in ledger] == [
        ("read_file", "finished", 1),
        ("write_file", "finished", 2),
    ]
    assert "write_file made/new.txt" in service.run("ledger", task_id[-8:]).out
    listed = service.run("files", task_id, "--json").json["files"]
    assert {"given.txt", "made/new.txt"} <= {file["path"] for file in listed}
    assert service.run("files", task_id, "made/new.txt").out == "新"
    packed = tmp_path / "all.tar.gz"
    assert service.run("files", task_id, "--out", str(packed)).code == 0
    with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
        assert any(name.endswith("made/new.txt") for name in archive.getnames())
    assert "2 calls of tools" in service.run("show", task_id).out


def test_a_call_waits_for_an_approval_and_goes_on_with_it(service: Place) -> None:
    task_id = submitted(service, script(write("a.txt", "new\n"), "done"), "--approve", "write_file")
    with service.start("watch", task_id) as process:
        asked = until_it_waits(process)
        assert "approval: write_file a.txt" in asked
        assert "+new" in asked
        shown = service.run("show", task_id).out
        assert "waits for your approval: write_file a.txt" in shown
        assert "+new" in shown
        refused = service.run("resume", task_id)
        assert refused.code == 1
        assert "approve" in refused.err
        assert service.run("approve", task_id).code == 0
        ended = process.ended()
    assert (ended.code, ended.out) == (0, "done\n")
    assert '[write_file a.txt content="new\\n": approved]' in ended.err
    again = service.run("approve", task_id)
    assert (again.code, again.err.count("\n")) == (1, 1)


def test_a_call_that_is_denied_gives_the_model_the_reason(service: Place) -> None:
    text = script(write("a.txt", "new"), "I read: $RESULT")
    task_id = submitted(service, text, "--approve", "write_file")
    with service.start("watch", task_id) as process:
        until_it_waits(process)
        assert service.run("deny", task_id, "--reason", "use b.txt").code == 0
        ended = process.ended()
    assert "use b.txt" in ended.out
    assert "denied: use b.txt" in ended.err
    assert service.run("files", task_id, "--json").json["files"] == []


def test_a_fork_goes_on_from_a_step_with_the_files_of_that_moment(service: Place) -> None:
    first = script(write("a.txt", "one"), write("a.txt", "two"), "done")
    task_id = submitted(service, first)
    watched(service, task_id)
    other = script(calls("read_file", path="a.txt"), "then: $RESULT")
    fork = service.run("fork", task_id, other, "--step", "1")
    assert fork.code == 0, fork.err
    assert watched(service, fork.out.strip()) == "then: one\n"
    last = service.run("fork", task_id, other).out.strip()
    assert watched(service, last) == "then: two\n"
    assert service.run("files", task_id, "a.txt").out == "two"


def test_a_conversation_with_an_agent_asks_for_approvals_and_keeps_its_files(
    service: Place,
) -> None:
    with screen(service, *FAST, "--approve", "write_file") as shown:
        assert "agent, fast at http" in shown.until("> ")
        shown.type(script({"text": "I write.", **write("a.txt", "hello")}, "done") + "\r")
        before = shown.until("allow write_file a.txt")
        assert "[step 1]" in before
        assert "+hello" in before
        shown.type("\r")
        shown.until("why not: ")
        shown.until("why not: ")
        shown.type("y\r")
        shown.until("approved]")
        shown.until("done")
        shown.until("> ")
        shown.type(script(calls("read_file", path="a.txt"), "it says $RESULT") + "\r")
        shown.until("it says hello")
        shown.until("> ")
        shown.type("\x04")
        assert shown.left() == 0
    assert newest(service)["forked_from"]["step"] == 2


def test_ctrl_c_cancels_an_agent_and_the_conversation_goes_on(service: Place) -> None:
    with screen(service, "--agent", "--model", "slow") as shown:
        shown.until("> ")
        shown.type(script({"text": "endless " * 200}) + "\r")
        shown.until("[step 1]")
        shown.until("endless")
        shown.type("\x03")
        shown.until("[cancelled]")
        shown.until("> ")
        shown.type("\x04")
        assert shown.left() == 0
    assert newest(service)["status"] == "cancelled"


def test_an_agent_that_fails_is_exit_code_1(service: Place) -> None:
    ended = service.run(
        "submit", script(*[calls("nosuch")] * 4), *FAST, "--wait", "--max-steps", "2"
    )
    assert ended.code == 1
    assert "max_steps" in ended.err
    assert "there is no tool" in ended.err


def test_a_tool_that_there_is_not_is_refused_at_once(service: Place) -> None:
    ended = service.run("submit", "x", *FAST, "--tool", "nosuch")
    assert ended.code == 1
    assert "nosuch" in ended.err
    assert ended.err.count("\n") == 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How `demo --agent` ends, and what it leaves in the folder for temporary files."""
    folder, temporary = tmp_path_factory.mktemp("agent"), tmp_path_factory.mktemp("tmp")
    place = Place(folder, environment({"TMPDIR": str(temporary)}))
    tried = place.run("exec", "--", "python3", "--version")
    need(None if tried.code == 0 else f"no sandbox: {tried.err}")
    ended = place.run("demo", "--agent", ASYNCSVC_SERVER__PROT="1", ASYNCSVC_TOKENS="secret")
    return {"ended": ended, "left": [*folder.glob("[!d]*"), *temporary.iterdir()]}


def test_the_demo_mends_a_failing_test_and_shows_how(demo: dict[str, Any]) -> None:
    ended = demo["ended"]
    assert (ended.code, ended.err) == (0, "")
    for text in ("AssertionError: -25 != 25", "[git init]", "the tests: failed, passed"):
        assert text in ended.out
    change = ended.out.rpartition("+++ cart.py")[2]
    assert "-        result -= count * price\n+        result += count * price\n" in change


def test_the_demo_leaves_nothing_behind(demo: dict[str, Any]) -> None:
    assert demo["left"] == []
