"""What each command writes at a terminal of 80 and of 120 columns, through a terminal emulator.

No table is wider than the terminal, no word is broken by its edge, and no id is cut: it stands
there whole, or by its last eight characters. A new command needs a line in CASES.
"""

import asyncio
import io
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
import pytest_asyncio
from wcwidth import wcswidth

from asyncsvc.cli.parser import COMMANDS, run
from asyncsvc.cli.terminal import Screen
from tests.agents.waiting import asked, ended, placed, step, waits
from tests.web.serving import HANG, Service, expect, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = 400
WIDTHS = (80, 120)
WIDEST = 1000
IDS = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-"
CASES = {
    "check": "check --settings {settings}",
    "init": "init --dir {new}",
    "route-eval": "route-eval {labelled}",
    "route": "route {prompt}",
    "rehearse": "rehearse --db {copy} --since 1d",
    "submit": "submit {prompt} --model fast --wait",
    "tasks": "tasks --all",
    "show": "show {failed}",
    "explain": "explain {done}",
    "stats": "stats",
    "cancel": "cancel {other} {done} absent",
    "pause": "pause {later}",
    "resume": "resume --session none --yes",
    "retry": "retry {failed}",
    "watch": "watch {done}",
    "approve": "approve {asks}",
    "deny": "deny {asks2}",
    "fork": "fork {asks3} {prompt}",
    "ledger": "ledger {asks3}",
    "files": "files {asks3}",
    "models": "models",
    "pause-model": "pause-model fast",
    "resume-model": "resume-model fast",
    "reload": "reload",
    "schedules": "schedules",
    "schedule": "schedule @daily {prompt}",
    "unschedule": "unschedule {schedule}",
    "tool": "tool write_file {file}",
    "exec": "exec -- python3 --version",
    "backup": "backup {new}",
    "restore": "restore {absent} --db {new}",
    "export": "export {new}",
    "import": "import {exported}",
}
"""A command line of each command; `{name}` stands for an argument that `arguments` gives."""
HELP_ALONE = {
    "serve": "writes log lines",
    "simulator": "writes log lines",
    "demo": "starts a service; its picture is in test_cli_demo",
    "chat": "reads lines; see test_cli_conversing",
    "mcp": "writes no text",
    "completion": "writes a script",
    "doctor": "looks at the machine",
    "selftest": "starts services",
}
"""Commands whose help alone is looked at, and why."""
NAMES = [name for names in COMMANDS.values() for name in names]
SETTINGS = """
[server]
port = 0
[models.a-model-with-a-long-name]
base_url = "http://127.0.0.1:9/v1"
api_key_env = "A_VARIABLE_WITH_A_LONG_NAME_THAT_IS_NOT_SET_ANYWHERE"
model = "an-organisation/a-model-of-it-with-many-parameters-0725"
"""
LONG = "How do rivers shape the land, and why does a valley of a glacier look so different? " * 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ready:
    service: Service
    arguments: dict[str, str]
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ready(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ready]:
    folder = tmp_path_factory.mktemp("widths")
    async with serving(folder, tools={"workspace": str(folder / "workspaces")}) as service:
        yield Ready(service, await arguments(service, folder), folder)


async def arguments(service: Service, folder: Path) -> dict[str, str]:
    """The arguments of CASES, for which there are tasks of each state."""
    done = await service.submit(LONG, model="fast")
    await service.done(done)
    failed = await service.submit(f"{LONG} [[sim:status=400]]", model="fast")
    await service.done(failed)
    await service.running(HANG, model="fast")
    calls = [*step(1, "I write"), *ended(1, asked("c1"))]
    asks = [
        await placed(service.parts, [*calls, *waits("c1", diff="+new")], model="fast")
        for _ in range(3)
    ]
    await service.parts.holds.resume("fast")  # `placed` holds it
    body = {"cron": "@yearly", "timezone": "America/Argentina/Buenos_Aires"}
    made = await service.http.post("/schedules", json=body | {"task": {"content": LONG}})
    labelled = folder / "labelled.jsonl"
    labelled.write_text(json.dumps({"text": LONG, "class": "reasoning"}) + "\n")
    (folder / "settings.toml").write_text(SETTINGS)
    (folder / "exported.jsonl").write_text("")
    shutil.copy(folder / "tasks.db", folder / "copy.db")
    return {
        "done": done,
        "failed": failed,
        "later": await service.submit(LONG, delay_s=3600),
        "other": await service.submit(LONG, delay_s=3600),
        "asks": asks[0],
        "asks2": asks[1],
        "asks3": asks[2],
        "schedule": expect(made, 201)["schedule_id"],
        "prompt": LONG,
        "settings": str(folder / "settings.toml"),
        "labelled": str(labelled),
        "exported": str(folder / "exported.jsonl"),
        "copy": str(folder / "copy.db"),
        "absent": str(folder / "absent.db"),
        "file": json.dumps({"path": "a.txt", "content": "x"}),
    }


async def test_each_command_has_a_case() -> None:
    assert {*NAMES} <= CASES.keys() | HELP_ALONE.keys()


async def written(argv: list[str], columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of that width is sent."""
    stream = Terminal()
    for name, value in {"COLUMNS": columns, "LINES": 50, "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Screen(stream))
    monkeypatch.setattr(sys, "stderr", Screen(stream))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    await asyncio.to_thread(run, argv)
    return stream.getvalue()


def lines(sent: str, columns: int) -> list[str]:
    """What an emulated terminal of that width shows of it."""
    screen = pyte.Screen(columns, ROWS)
    pyte.Stream(screen).feed(sent.replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display if line.strip()]


def check(sent: str, columns: int) -> None:
    whole, shown = lines(sent, WIDEST), lines(sent, columns)
    for line in whole:
        if wcswidth(line) > columns:
            words = max(wcswidth(word) for word in line.split())
            assert words > columns, f"wider than {columns} columns:\n{line}"
    text = "\n".join(whole)
    ids = set(re.findall(f"{IDS}[0-9a-f]{{12}}", text))
    for line in shown:
        for part in re.findall(f"{IDS}[0-9a-f]*…?|[0-9a-f]{{8}}…", line):
            assert part in ids, f"an id is cut in:\n{line}"
    assert "…" not in re.sub(r"…(?=\s|$)", "", text), "a word is cut within a line"


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
async def test_the_help_of_a_command_fits(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await written([name, "--help"], columns, monkeypatch)
    assert "Usage: " in sent
    check(sent, columns)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", [name for name in NAMES if name in CASES])
async def test_what_a_command_writes_fits(
    name: str, columns: int, ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSVC_URL", ready.service.url)
    monkeypatch.delenv("ASYNCSVC_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    known = ready.arguments | {"new": str(tmp_path / "new")}
    argv = [part.format(**known) for part in CASES[name].split()]
    sent = await written(argv, columns, monkeypatch)
    await ready.service.parts.holds.resume("fast")  # other cases submit to it
    assert sent.strip()
    assert "Traceback" not in sent
    check(sent, columns)
