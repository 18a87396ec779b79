"""Agents from the command line, with a real service, its tools, and the simulated provider."""

import json
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from asyncsvc.cli import agent_demo
from asyncsvc.cli.agent_demo import FILES, MENDED, PROMPT
from asyncsvc.cli.options import Failure
from asyncsvc.cli.parser import run
from tests.cli.processes import Ended, Place, environment
from tests.cli.test_cli_conversing import newest, screen
from tests.needs import need

FAST = ("--agent", "--model", "fast")


@dataclass
class Commands:
    """Commands that run in this process, and find a real service."""

    url: str
    captured: pytest.CaptureFixture[str]

    def run(self, *argv: str) -> Ended:
        code = run(list(argv))
        out, err = self.captured.readouterr()
        return Ended(code, out, err)

    def submit(self, *argv: str) -> str:
        """Submit an agent; its id."""
        ended = self.run("submit", *argv, *FAST)
        assert ended.code == 0, ended.err
        return ended.out.strip()

    def until(self, task_id: str, status: str) -> dict[str, Any]:
        """The task, once it has this status."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            answer = httpx.get(f"{self.url}/tasks/{task_id}", trust_env=False, timeout=60)
            task: dict[str, Any] = answer.json()
            if task["status"] == status:
                return task
            time.sleep(0.05)
        raise AssertionError(task)


@pytest.fixture
def commands(
    service: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Commands:
    url = service.env["ASYNCSVC_URL"]
    monkeypatch.setenv("ASYNCSVC_URL", url)
    monkeypatch.delenv("ASYNCSVC_TOKEN", raising=False)
    return Commands(url, capsys)


def script(*steps: Any) -> str:
    return "#agent " + json.dumps(steps)


def calls(name: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": name, "arguments": arguments}]}


def write(path: str, content: str) -> dict[str, Any]:
    return calls("write_file", path=path, content=content)


def test_an_agent_is_seen_through_and_its_calls_and_files_can_be_read(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.txt").write_text("the given text")
    text = script(
        {"text": "I read it.", **calls("read_file", path="given.txt")},
        write("made/new.txt", "新"),
        {"text": "It says: $RESULT"},
    )
    ended = commands.run("submit", text, *FAST, "--wait", "--file", "given.txt")
    assert (ended.code, ended.out) == (0, "It says: wrote 3 bytes to made/new.txt\n")
    lines = ended.err.splitlines()
    for line in ("[step 1]", "I read it.", "[read_file given.txt]", "  the given text"):
        assert line in lines
    task_id = commands.run("tasks", "--limit", "1", "--json").json["tasks"][0]["task_id"]
    ledger = commands.run("ledger", task_id, "--json").json["calls"]
    assert [(call["name"], call["state"], call["step"]) for call in ledger] == [
        ("read_file", "finished", 1),
        ("write_file", "finished", 2),
    ]
    assert "write_file made/new.txt" in commands.run("ledger", task_id[-8:]).out
    listed = commands.run("files", task_id, "--json").json["files"]
    assert {"given.txt", "made/new.txt"} <= {file["path"] for file in listed}
    assert commands.run("files", task_id, "made/new.txt").out == "新"
    assert commands.run("files", task_id, "--out", "all.tar.gz").code == 0
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert any(name.endswith("made/new.txt") for name in archive.getnames())
    assert "2 calls of tools" in commands.run("show", task_id).out


def test_a_call_waits_for_an_approval_and_goes_on_with_it(commands: Commands) -> None:
    task_id = commands.submit(script(write("a.txt", "new\n"), "done"), "--approve", "write_file")
    commands.until(task_id, "paused")
    shown = commands.run("show", task_id).out
    assert "waits for your approval: write_file a.txt" in shown
    assert "+new" in shown
    refused = commands.run("resume", task_id)
    assert refused.code == 1
    assert "approve" in refused.err
    assert commands.run("approve", task_id).code == 0
    ended = commands.run("watch", task_id)
    assert (ended.code, ended.out) == (0, "done\n")
    assert "[waits for your approval: write_file a.txt" in ended.err
    assert "  +new" in ended.err
    assert '[write_file a.txt content="new\\n": approved]' in ended.err
    again = commands.run("approve", task_id)
    assert (again.code, again.err.count("\n")) == (1, 1)


def test_a_call_that_is_denied_gives_the_model_the_reason(commands: Commands) -> None:
    text = script(write("a.txt", "new"), "I read: $RESULT")
    task_id = commands.submit(text, "--approve", "write_file")
    commands.until(task_id, "paused")
    assert commands.run("deny", task_id, "--reason", "use b.txt").code == 0
    ended = commands.run("watch", task_id)
    assert "use b.txt" in ended.out
    assert "denied: use b.txt" in ended.err
    assert commands.run("files", task_id, "--json").json["files"] == []


def test_a_fork_goes_on_from_a_step_with_the_files_of_that_moment(commands: Commands) -> None:
    task_id = commands.submit(script(write("a.txt", "one"), write("a.txt", "two"), "done"))
    commands.until(task_id, "completed")
    other = script(calls("read_file", path="a.txt"), "then: $RESULT")
    fork = commands.run("fork", task_id, other, "--step", "1")
    assert fork.code == 0, fork.err
    assert commands.run("watch", fork.out.strip()).out == "then: one\n"
    last = commands.run("fork", task_id, other).out.strip()
    assert commands.run("watch", last).out == "then: two\n"
    assert commands.run("files", task_id, "a.txt").out == "two"


def test_an_agent_that_fails_is_exit_code_1(commands: Commands) -> None:
    text = script(*[calls("nosuch")] * 4)
    ended = commands.run("submit", text, *FAST, "--wait", "--max-steps", "2")
    assert ended.code == 1
    assert "max_steps" in ended.err
    assert "there is no tool" in ended.err


def test_a_tool_that_there_is_not_is_refused_at_once(commands: Commands) -> None:
    ended = commands.run("submit", "x", *FAST, "--tool", "nosuch")
    assert ended.code == 1
    assert "nosuch" in ended.err
    assert ended.err.count("\n") == 1


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


def test_a_model_that_calls_tools_by_text_mends_a_test_as_well(
    place: Place, provider: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need_sandbox(place)
    settings = place.folder / "settings.toml"
    model = f'base_url = "{provider}/v1"\nmodel = "fast-1"\ntool_calling = false\n'
    settings.write_text(f"{settings.read_text()}\n[models.textual]\n{model}")
    monkeypatch.chdir(place.folder)
    for path, text in FILES.items():
        (place.folder / path).write_text(text)
    files = [part for path in FILES for part in ("--file", path)]
    with place.served() as (_, there):
        monkeypatch.setenv("ASYNCSVC_URL", there.env["ASYNCSVC_URL"])
        found = Commands(there.env["ASYNCSVC_URL"], capsys)
        ended = found.run("submit", PROMPT, "--agent", "--model", "textual", "--wait", *files)
        task_id = found.run("tasks", "--json").json["tasks"][0]["task_id"]
        mended = found.run("files", task_id, MENDED).out
    assert ended.code == 0, ended.err
    assert ended.out.startswith("3 tests run: all pass now.")
    assert "tool_call" not in ended.out + ended.err
    assert mended == FILES[MENDED].replace("-=", "+=")


def need_sandbox(place: Place) -> None:
    tried = place.run("exec", "--", "python3", "--version", ASYNCSVC_URL="")
    need(None if tried.code == 0 else f"no sandbox: {tried.err}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How `demo --agent` ends, and what it leaves in the folder for temporary files."""
    folder, temporary = tmp_path_factory.mktemp("agent"), tmp_path_factory.mktemp("tmp")
    place = Place(folder, environment({"TMPDIR": str(temporary)}))
    need_sandbox(place)
    ended = place.run("demo", "--agent", ASYNCSVC_SERVER__PROT="1", ASYNCSVC_TOKENS="secret")
    return {"ended": ended, "left": [*folder.glob("[!d]*"), *temporary.iterdir()]}


def test_the_demo_mends_a_failing_test_and_shows_how(demo: dict[str, Any]) -> None:
    ended = demo["ended"]
    assert (ended.code, ended.err) == (0, "")
    for text in ("AssertionError: -25 != 25", "[git init]", "the tests: failed, passed"):
        assert text in ended.out
    change = ended.out.rpartition("+++ cart.py")[2]
    assert "-        result -= count * price\n+        result += count * price\n" in change


async def test_the_demo_without_a_sandbox_is_one_line_and_exit_code_2() -> None:
    why = {"message": "no sandbox holds here: namespaces: not allowed", "code": "x"}
    refusing = httpx.MockTransport(lambda _: httpx.Response(503, json={"error": why}))
    async with httpx.AsyncClient(transport=refusing, base_url="http://x") as http:
        with pytest.raises(Failure, match="namespaces: not allowed") as refused:
            await agent_demo.check_sandbox(http)
    assert refused.value.code == 2
    assert "\n" not in str(refused.value)


def test_the_demo_leaves_nothing_behind(demo: dict[str, Any]) -> None:
    assert demo["left"] == []
