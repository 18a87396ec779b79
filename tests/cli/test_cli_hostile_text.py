"""Each command with hostile texts from the service, from files and from its own arguments."""

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from asyncsvc.cli.arguments import Parameter
from asyncsvc.cli.parser import COMMANDS, declared
from tests.cli.poisoned import POISON, proxy
from tests.cli.processes import Place, Terminal

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
OURS = re.compile(r"\x1b\[(?!5;41m|2J)[0-9;]*[mABCDGJK]|\x1b\[\?(?:25|2004)[hl]|\r(?=\x1b\[2?K|\n)")
"""Colours, a cursor that is moved or hidden, and lines drawn anew: what rich, `watch` and the
editing of a line write at a terminal. What POISON holds is none of it."""
SERVERS = {"serve", "simulator", "demo"}
"""Commands that go on until a signal."""
FOLDER = "a\x1b]0;folder\x07\u202eb\x9b31m"
"""A name that a file system takes."""
AGENTS = {
    "approve": "paused", "deny": "paused", "fork": "completed", "ledger": "completed",
    "files": "completed",
}  # fmt: skip
"""Commands for agents, and the state of the agent that each is tried with."""
CALL = {"name": "write_file", "arguments": {"path": "a.txt", "content": POISON}}
SCRIPT = "#agent " + json.dumps([{"text": "Now." + POISON, "calls": [CALL]}, "Done." + POISON])
SHOWN = {
    "route",
    "submit",
    "chat",
    "show",
    "explain",
    "tasks",
    "models",
    "watch",
    "schedules",
    "ledger",
    "files",
}
"""Commands that show texts of the service, at the least."""

COMMAND_NAMES = [name for names in COMMANDS.values() for name in names]
PARAMETERS: dict[str, list[Parameter]] = {
    name: command.parameters for name, command in declared().items()
}


@dataclass(frozen=True)
class Hostile:
    """A place whose commands find the poisoned service, with the address of the service itself."""

    place: Place
    service: str

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(self.service + path, json=body, trust_env=False, timeout=60)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def agent(self, state: str) -> str:
        """An agent that has written a file, or that waits for the approval of doing so."""
        approve = ["write_file"] if state == "paused" else []
        task = {"type": "agent", "content": SCRIPT, "model": "fast", "approve": approve}
        task_id = str(self.post("/tasks", task)["task_id"])
        url = f"{self.service}/tasks/{task_id}"
        while httpx.get(url, trust_env=False).json()["status"] not in (state, "failed"):
            time.sleep(0.05)
        return task_id


@pytest.fixture(scope="module")
def hostile(service: Place) -> Iterator[Hostile]:
    with proxy(service.env["ASYNCSVC_URL"]) as url:
        place = Place(service.folder, dict(service.env) | {"ASYNCSVC_URL": url})
        found = Hostile(place, service.env["ASYNCSVC_URL"])
        found.post("/schedules", {"cron": "@yearly", "task": {"content": POISON}})
        found.post("/tasks", {"content": POISON, "model": "fast"})
        yield found


@pytest.fixture(autouse=True)
def resumed(hostile: Hostile) -> Iterator[None]:
    """Other tests have the same service: `pause-model` leaves it with its model paused."""
    yield
    hostile.post("/models/fast/resume", {})


def arguments(name: str, hostile: Hostile, tmp_path: Path) -> list[str]:
    """A command line with each argument that the command needs, and options that show more."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    found = [name]
    for parameter in PARAMETERS[name]:
        if parameter.positional:
            found.append(value(name, parameter.name, hostile, folder))
        elif parameter.name in ("settings", "profile"):
            found += [f"--{parameter.name}", value(name, parameter.name, hostile, folder)]
        elif parameter.name in ("wait", "plain"):
            found.append(f"--{parameter.name}")
    return found


def value(command: str, parameter: str, hostile: Hostile, folder: Path) -> str:
    """An argument by the name of its parameter; a new one needs a line here."""
    task = {"content": "what is tea?" + POISON, "model": "fast"}
    if parameter == "task_id" and command in AGENTS:
        return hostile.agent(AGENTS[command])
    if parameter in ("task_id", "task_ids"):
        return str(hostile.post("/tasks", task)["task_id"])
    if parameter == "schedule_id":
        body = {"cron": "@yearly", "task": task}
        return str(hostile.post("/schedules", body)["schedule_id"])
    file = folder / parameter
    if (command, parameter) in FILES:
        file.write_text(FILES[command, parameter])
    typed = POISON.replace("\0", "")
    known = {
        "shell": "bash",
        "text": "what is tea?" + typed,
        "name": "fast",
        "cron": "@yearly",
        "path": "a.txt",
    }
    return known.get(parameter) or str(file)


_MODEL = f'base_url = "http://127.0.0.1:9"\nmodel = {json.dumps("an id" + POISON)}\n'
_SETTINGS = f"[server]\nport = 0\n[models.one]\n{_MODEL}"
FILES = {
    ("route-eval", "file"): json.dumps({"text": "hi" + POISON, "class": "none" + POISON}),
    ("import", "file"): json.dumps({"task_id": POISON}) + "\n",
    ("serve", "settings"): _SETTINGS.replace("\x7f", ""),
    ("check", "settings"): _SETTINGS.replace("\x7f", ""),
    ("restore", "settings"): _SETTINGS.replace("\x7f", ""),
    ("simulator", "profile"): f"[models.{json.dumps('a model' + POISON)}]\n".replace("\x7f", ""),
}
"""What files hold, by command and parameter. TOML takes no DEL, not even escaped by JSON's way."""


def remains(text: str) -> list[str]:
    """Characters that could act on a terminal, beside what is our own."""
    return UNSAFE.findall(OURS.sub("", text))


@pytest.mark.parametrize("name", COMMAND_NAMES)
def test_no_control_character_of_others_reaches_a_terminal(
    name: str, hostile: Hostile, tmp_path: Path
) -> None:
    terminal = Terminal(hostile.place, 100, *arguments(name, hostile, tmp_path))
    if name in SERVERS:
        terminal.until("listening on http" if name != "demo" else "asyncsvc")
        terminal.popen.send_signal(signal.SIGINT)
    elif name == "chat":
        terminal.until("> ")
        terminal.write(b"what is tea?\n")
        terminal.until("\\end\r\n> ")
        terminal.write(b"\x04")
    elif name == "mcp":
        terminal.write(b"\x04")  # it reads messages until its input ends
    shown = terminal.ended().out
    assert remains(shown) == [], shown
    assert "Traceback" not in shown
    if name in SHOWN:
        assert "␛]52;c;Y2xpcA==" in shown, shown


def test_none_comes_from_an_agent_that_is_talked_to(hostile: Hostile) -> None:
    argv = ("chat", "--agent", "--model", "fast", "--approve", "write_file")
    terminal = Terminal(hostile.place, 100, *argv)
    terminal.until("> ")
    terminal.write(SCRIPT.encode() + b"\n")
    terminal.until("why not: ")
    terminal.write(b"y\n")
    terminal.until("approved")
    terminal.until("Done.")
    terminal.write(b"\x04")
    shown = terminal.ended().out
    assert remains(shown) == [], shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("name", [n for n in COMMAND_NAMES if n not in SERVERS])
def test_none_reaches_a_pipe_and_json_keeps_each_text(
    name: str, hostile: Hostile, tmp_path: Path
) -> None:
    line = arguments(name, hostile, tmp_path)
    as_json = any(parameter.name == "as_json" for parameter in PARAMETERS[name])
    ended = hostile.place.run(*line, *(["--json"] if as_json else []), text="what is tea?\n")
    assert remains(ended.out + ended.err) == []
    if as_json and ended.code == 0 and name not in EMPTY:
        assert POISON in texts([json.loads(part) for part in documents(name, ended.out)])


EMPTY = {"backup", "import", "reload", "route-eval", "stats"}
"""Commands whose JSON holds figures and names of files alone."""


def documents(name: str, out: str) -> list[str]:
    """`watch` writes one document a line, the others one in all."""
    return out.splitlines() if name == "watch" else [out]


def texts(value: Any) -> str:
    """All texts within a JSON value, one after the other."""
    if isinstance(value, dict):
        return "".join(texts(each) for each in value.values())
    return "".join(map(texts, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(
    "name", [name for name in COMMAND_NAMES if "url" in {p.name for p in PARAMETERS[name]}]
)
def test_a_hostile_refusal_is_one_safe_line(name: str, hostile: Hostile, tmp_path: Path) -> None:
    refusing = {"ASYNCSVC_URL": hostile.place.env["ASYNCSVC_URL"] + "/refuse"}
    ended = hostile.place.run(*arguments(name, hostile, tmp_path), text="hello\n", **refusing)
    assert remains(ended.out + ended.err) == []
    assert "Traceback" not in ended.err
    if ended.code == 1:
        assert ended.err.count("\n") == 1, ended.err
