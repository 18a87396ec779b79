"""The examples do what they say, against a real service with tokens and a simulated provider.

Python, JavaScript, curl and, where `pwsh` is there, PowerShell; where it is not, the brackets and
strings of its programs are checked and nothing else. JavaScript with the package `openai` is run by
hand only, as the tests install no package for it.
"""

import asyncio
import json
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncsvc.net.signing import Signer
from tests.documents.cut_connection import cutting
from tests.needs import need
from tests.web.serving import Service, serving

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
TOPICS = ("submit", "follow", "openai_chat", "batch", "schedule", "agent", "webhook")
RUN_BY = {".py": sys.executable, ".mjs": "node", ".sh": "sh", ".ps1": "pwsh"}
TOKEN, SECRET = "a-token-of-the-examples", "whsec_" + "QUJD" * 12
LONGEST_S = 60.0
WRITE = {"name": "write_file", "arguments": {"path": "a.txt", "content": "x"}}
AGENT = f"#agent {json.dumps([{'calls': [WRITE]}, 'Done'])}"


def runs(test: Any) -> Any:
    """A test of the examples in each language: it starts processes."""
    test = pytest.mark.parametrize("ending", [*RUN_BY])(test)
    return pytest.mark.slow(pytest.mark.asyncio(loop_scope="module")(test))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service that asks for the token, and calls receivers on this machine."""
    folder = tmp_path_factory.mktemp("examples")
    environ = {"ASYNCSVC_TOKENS": TOKEN, "ASYNCSVC_WEBHOOK_SECRET": SECRET}
    async with serving(
        folder,
        environ,
        {"default": {"answer_tokens": 60, "tokens_per_s": 1000}},
        webhooks={"allow": ["127.0.0.1/32"]},
        tools={"workspace": str(folder / "workspaces")},
    ) as service:
        service.http.headers["Authorization"] = f"Bearer {TOKEN}"
        yield service


def command(topic: str, ending: str, *words: str) -> list[str]:
    program = RUN_BY[ending]
    if ending == ".ps1" and shutil.which(program) is None:
        pytest.skip("pwsh is absent: PowerShell's programs were not run")
    for each in (program, "curl", "openssl") if ending == ".sh" else (program,):
        need(None if shutil.which(each) else f"needs {each}")
    return [program, str(EXAMPLES / f"{topic}{ending}"), *words]


def environment(url: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCSVC_")}
    return kept | {
        "ASYNCSVC_URL": url,
        "ASYNCSVC_TOKEN": TOKEN,
        "ASYNCSVC_WEBHOOK_SECRET": SECRET,
        "PYTHONUTF8": "1",
        "NO_PROXY": "127.0.0.1",
    }


async def output(url: str, argv: list[str], given: str = "", code: int = 0) -> str:
    """What a program that ends with `code` writes to stdout."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        env=environment(url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LONGEST_S):
            out, err = await child.communicate(given.encode())
    except TimeoutError:
        child.kill()
        await child.wait()
        raise
    assert child.returncode == code, (out.decode(), err.decode())
    return out.decode()


def prompt(ending: str, text: str) -> str:
    """The argument: the programs of curl take JSON, as a shell has no words for it."""
    return json.dumps(text) if ending == ".sh" else text


@runs
async def test_a_submit_whose_answer_is_lost_makes_one_task(guarded: Service, ending: str) -> None:
    marker = f"submitted by {ending}"
    given = json.dumps({"content": marker}) if ending == ".sh" else marker
    async with cutting(guarded.port, 0) as (url, cuts):
        shown = await output(url, command("submit", ending, given))
        assert cuts.done
    assert "simulated answer" in shown
    found = await guarded.http.get("/tasks", params={"q": marker})
    assert len(found.json()["tasks"]) == 1


@runs
async def test_a_follower_misses_nothing_when_it_is_cut_off(guarded: Service, ending: str) -> None:
    task_id = await guarded.submit(f"followed by {ending}")
    done = await guarded.done(task_id)
    accept = {"accept": "text/event-stream"}
    whole = await guarded.http.get(f"/tasks/{task_id}/events", headers=accept)
    head = len(b"".join(name + value for name, value in whole.headers.raw))
    part = len(whole.content) // 4
    async with cutting(guarded.port, head + part, head + part, 0) as (url, cuts):
        shown = await output(url, command("follow", ending, task_id))
        assert cuts.done
    if ending == ".sh":
        events = [json.loads(line) for line in shown.splitlines()]
        stored = [event["seq"] for event in events if event["seq"] is not None]
        assert stored == list(range(1, done["seq"] + 1))
        shown = "".join(e["data"]["text"] for e in events if e["type"] == "chunk")
    assert shown.strip() == done["result"].strip()


@runs
async def test_the_api_of_openai(guarded: Service, ending: str) -> None:
    if ending == ".mjs":
        await output(guarded.url, ["node", "--check", command("openai_chat", ending)[1]])
        return
    messages = '[{"role": "user", "content": "hello"}]'
    argv = command("openai_chat", ending, messages if ending == ".sh" else "hello")
    shown = await output(guarded.url, argv)
    if ending == ".sh":
        pieces = [json.loads(line[6:]) for line in shown.splitlines() if line.startswith("data: {")]
        choices = [choice for piece in pieces for choice in piece["choices"]]
        shown = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert "simulated answer" in shown
    assert '"hello"' in shown


@runs
async def test_a_batch(guarded: Service, tmp_path: Path, ending: str) -> None:
    words = ["one", "two"]
    if ending == ".sh":
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
        lines = [line | {"custom_id": f"question-{number}"} for number in (1, 2)]
        (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
        words = [str(tmp_path / "lines.jsonl")]
    shown = await output(guarded.url, command("batch", ending, *words))
    assert sorted(re.findall(r"question-\d", shown)) == ["question-1", "question-2"]
    assert shown.count("simulated answer") == 2


@runs
async def test_a_schedule_that_is_posted_again_is_the_same(guarded: Service, ending: str) -> None:
    given = json.dumps({"content": "news"}) if ending == ".sh" else "news"
    first = await output(guarded.url, command("schedule", ending, given))
    schedules = (await guarded.http.get("/schedules")).json()["schedules"]
    (schedule,) = [each for each in schedules if each["name"] == "weekday-news"]
    assert schedule["schedule_id"] in first
    assert schedule["next_run_at"] in first


@runs
@pytest.mark.parametrize("answer", ["y", "n"])
async def test_an_agent_writes_only_what_is_approved(
    guarded: Service, ending: str, answer: str
) -> None:
    argv = command("agent", ending, prompt(ending, AGENT))
    shown = await output(guarded.url, argv, f"{answer}\n")
    assert "Done" in shown
    assert ("a.txt" in shown.splitlines()[-1]) is (answer == "y")


def signed(body: bytes) -> dict[str, str]:
    """The headers of a delivery by our service."""
    return Signer.of("SECRET", {"SECRET": SECRET}).headers("delivery", int(time.time()), body)


@runs
async def test_a_receiver_believes_our_service_alone(guarded: Service, ending: str) -> None:
    if ending == ".sh":
        body = '{"task_id": "x"}'
        head = signed(body.encode())
        argv = command("webhook", ending, *(head[f"webhook-{name}"] for name in
                                            ("id", "timestamp", "signature")))  # fmt: skip
        assert await output(guarded.url, argv, body) == "genuine\n"
        assert await output(guarded.url, argv, body + " ", code=1) == ""
        argv[3] = str(int(argv[3]) - 1000)
        assert await output(guarded.url, argv, body, code=1) == ""
        return
    port = "0" if ending != ".ps1" else "9377"
    receiver = await asyncio.create_subprocess_exec(
        *command("webhook", ending, port),
        env=environment(guarded.url),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LONGEST_S):
            assert receiver.stdout is not None
            url = (await receiver.stdout.readline()).decode().split()[-1]
            forged = await guarded.http.post(url, json={"task_id": "x"})
            head = signed(b"{}") | {"webhook-signature": "v1,AAAA"}
            wrong = await guarded.http.post(url, content=b"{}", headers=head)
            assert (forged.status_code, wrong.status_code) == (401, 401)
            task_id = await guarded.submit("called back", callback_url=url)
            line = (await receiver.stdout.readline()).decode()
            assert line.split()[:2] == [task_id, "completed"]
            assert "called back" in line
    finally:
        receiver.kill()
        await receiver.wait()


def test_each_topic_is_there_in_each_language() -> None:
    wanted = {f"{topic}{ending}" for topic in TOPICS for ending in RUN_BY}
    assert {path.name for path in EXAMPLES.iterdir()} == wanted | {"README.md"}
    listed = re.findall(r"\]\(([a-z_]+\.\w+)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(wanted)
    for name in wanted:
        head = (EXAMPLES / name).read_text(encoding="utf-8").partition("set -eu")[0][:700]
        assert "Start it: " in head, name


PAIRS = {"(": ")", "{": "}", "[": "]"}


def unbalanced(text: str) -> str | None:
    """The first bracket or string of a PowerShell program that does not end; None: all do."""
    text = re.sub(r"'[^'\n]*'|`.", "", re.sub(r"(?m)(?:^|(?<=\s))#.*$", "", text))
    open_: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        for char in line:
            if char == '"':
                # A string holds expressions in brackets, which may hold strings.
                if open_ and open_[-1] == '"':
                    open_.pop()
                else:
                    open_.append(char)
            elif char in PAIRS and (not open_ or open_[-1] != '"' or char == "("):
                open_.append(char)
            elif (
                char in PAIRS.values() and open_ and open_[-1] != '"' and PAIRS[open_.pop()] != char
            ):
                return f"line {number}: {char}"
        if open_ and open_[-1] == '"':
            return f"line {number}: a string has no end"
    return f"{open_[-1]} has no end" if open_ else None


@pytest.mark.parametrize("topic", TOPICS)
def test_the_brackets_of_powershell_are_closed(topic: str) -> None:
    text = (EXAMPLES / f"{topic}.ps1").read_text(encoding="utf-8")
    assert unbalanced(text) is None
    assert text.isascii(), "Windows PowerShell reads a file without a mark in its own code page"


@pytest.mark.parametrize("text", ["if ($a { 1 }", '"a', "@{ a = 1", '"$(f (1)"', "f (1})"])
def test_an_open_bracket_is_found(text: str) -> None:
    assert unbalanced(text)
    assert unbalanced('"$(f "x") ok" # (\n@{ a = (1) }') is None
