"""Arguments, options and failures that several commands share.

An option has one name, type and help text in all commands.
"""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import asyncsvc
from asyncsvc.cli.arguments import Argument, Option
from asyncsvc.cli.failures import FAILED as FAILED
from asyncsvc.cli.failures import INTERRUPTED as INTERRUPTED
from asyncsvc.cli.failures import MISUSED as MISUSED
from asyncsvc.cli.failures import Failure as Failure
from asyncsvc.cli.failures import program as program
from asyncsvc.cli.terminal import json_text, say
from asyncsvc.config.environment import Environment
from asyncsvc.config.listening import DEFAULT_FILE

HERE, THERE = "On this machine", "With a running service"

SettingsFile = Annotated[
    Path | None,
    Option("--settings", metavar="FILE", help="Default: settings.toml, here or with main.py"),
]
Url = Annotated[
    str | None,
    Option(
        "--url",
        metavar="URL",
        envvar="ASYNCSVC_URL",
        help="The service. Default: host and port of the settings.",
    ),
]
Json = Annotated[bool, Option("--json", help="JSON, for scripts.")]
States = Literal["scheduled", "pending", "running", "paused", "completed", "failed", "cancelled"]
Port = Annotated[int | None, Option(metavar="N", min=0, max=65535, help="0 takes a free one.")]
Database = Annotated[Path | None, Option(metavar="FILE", help="The SQLite file.")]
Prompt = Annotated[str, Argument(metavar="TEXT|-", help="The prompt; - reads stdin.")]
TaskId = Annotated[str, Argument(metavar="ID", help="A task's id, or the end of it.")]
ModelOption = Annotated[
    str | None, Option(metavar="MODEL", help="A model of the settings; else routed.")
]
Lane = Annotated[Literal["priority", "short", "long"], Option(help="Which queue.")]
Priority = Annotated[int, Option(metavar="N", min=0, max=9, help="Higher first in its lane.")]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = r"([0-9.]+)([smhdw]?)"
_DURATION = r"[0-9]+(\.[0-9]+)?[smhdw]?|([0-9]+[smhdw])+"


def duration(text: str) -> float:
    """Return the seconds of a duration: 30, 30s, 5m, 1.5h, 1d, 2w, or several such as 1h30m.

    Raises ValueError that says how one is written. The parser of each option that is a duration;
    see `Duration`.
    """
    given = text.strip().lower()
    if re.fullmatch(_DURATION, given) is None:
        raise ValueError(f"{text!r} is no duration; one looks like 30s, 5m, 1h or 1d")
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, given))


def duration_option(name: str, help_text: str) -> Any:
    """Return the option for `Annotated[float | None, …]` whose value is a duration in seconds."""
    return Option(
        name, metavar="TIME", parser=duration, help=f"{help_text} Such as 30s, 5m, 1h or 1d."
    )


AgentFlag = Annotated[bool, Option("--agent", help="As an agent, which uses tools.")]
Tools = Annotated[
    list[str] | None,
    Option("--tool", metavar="NAME", help="A tool that the agent may use; else all."),
]
Approvals = Annotated[
    list[str] | None,
    Option("--approve", metavar="NAME", help="A tool that waits for your approval."),
]
MostSteps = Annotated[
    int | None,
    Option("--max-steps", metavar="N", min=1, help="Calls of its model at most."),
]
Files = Annotated[
    list[Path] | None,
    Option("--file", metavar="PATH", help="A text file that the agent's workspace gets."),
]


def settings_file(named: Path | None) -> Path | None:
    """Return the settings file: the named one, or the one here, or the one beside main.py.

    None: there is none, so the built-in defaults count. A named one is not checked here.
    """
    if named is not None:
        return named
    main = [Path(sys.argv[0]).resolve()] if Path(sys.argv[0]).name == "main.py" else []
    folders = [Path.cwd(), *(file.parent for file in main), Path(asyncsvc.__file__).parents[1]]
    files = [folder / DEFAULT_FILE for folder in folders]
    return next((file for file in files if file.is_file()), None)


def environment(file: Path | None) -> Environment:
    """Return the variables of this process and of the `.env` beside that settings file.

    Raises SettingsError.
    """
    return Environment.beside(file, os.environ)


def read_text(given: str) -> str:
    """Return the text of the command line, or that of stdin for `-`."""
    if given == "-":
        try:
            given = sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Failure("what stdin holds is not UTF-8 text", MISUSED) from None
    if not given.strip():
        raise Failure("there is no text to submit", MISUSED)
    return given


def task_fields(text: str, model: str | None, lane: str, priority: int) -> dict[str, Any]:
    """Return the body of a submit; `text` is that of the command line, `-` for stdin."""
    fields = {"content": read_text(text), "lane": lane, "priority": priority}
    return fields if model is None else fields | {"model": model}


def agent_fields(
    agent: bool,
    tools: list[str] | None,
    approve: list[str] | None,
    max_steps: int | None,
    files: list[Path] | None,
) -> dict[str, Any]:
    """Return the fields of a submit that only an agent has; none where it is no agent."""
    given = {"tools": tools, "approve": approve, "max_steps": max_steps, "files": files}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value}
    if not agent:
        if fields:
            names = {"tools": "--tool", "max_steps": "--max-steps", "files": "--file"}
            name = min(fields)
            raise Failure(f"{names.get(name, f'--{name}')} goes with --agent", MISUSED)
        return {}
    if files:
        fields["files"] = _texts(files)
    return {"type": "agent"} | fields


def _texts(files: list[Path]) -> dict[str, str]:
    """The texts of files by their paths in a workspace: below this folder they keep their path,
    others have their name alone."""
    found: dict[str, str] = {}
    for file in files:
        inside = not file.is_absolute() and ".." not in file.parts
        name = file.as_posix() if inside else file.name
        if name in found:
            raise Failure(f"two files would be {name!r} in the workspace", MISUSED)
        try:
            found[name] = file.read_bytes().decode()
        except UnicodeDecodeError:
            raise Failure(f"{file} is not text in UTF-8", MISUSED) from None
        except OSError as error:
            raise Failure(f"{file}: {error.strerror or error}", MISUSED) from None
    return found


def print_created(answer: dict[str, Any], created_id: str, note: str, as_json: bool) -> int:
    """Print an id and, at a terminal, a note; or the whole answer as JSON. Return the exit code."""
    if as_json:
        print_json(answer)
        return 0
    say(created_id)
    if sys.stderr.isatty():
        say(note, sys.stderr)
    return 0


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    print(json_text(value, indent=2), flush=True)
