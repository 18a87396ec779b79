"""The program: commands by module, and exit code and message of each failure.

Only the module of the command at hand is imported, so `serve` pays for no client and no tables,
and `--help`, `--version` and completion pay for no library at all. Bad usage is one line on stderr
and exit code 2.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from asyncsvc import __version__
from asyncsvc.cli.failures import FAILED, INTERRUPTED, MISUSED, Failure, program
from asyncsvc.cli.terminal import Screen, say
from asyncsvc.errors import AsyncsvcError, SettingsError, UnsafeFile

if TYPE_CHECKING:
    from asyncsvc.cli import arguments

COMMANDS = {
    "serve": ("serve", "simulator"),
    "demo": ("demo",),
    "check": ("check",),
    "selftest": ("selftest",),
    "init": ("init",),
    "doctor": ("doctor",),
    "routing": ("route-eval", "route"),
    "rehearse": ("rehearse",),
    "submit": ("submit",),
    "chat": ("chat",),
    "task_list": ("tasks",),
    "tasks": ("show", "explain", "stats"),
    "steering": ("cancel", "pause", "resume", "retry"),
    "watch": ("watch",),
    "agents": ("approve", "deny", "fork", "ledger", "files"),
    "models": ("models", "pause-model", "resume-model", "reload"),
    "schedules": ("schedules", "schedule", "unschedule"),
    "tool": ("tool", "exec"),
    "mcp": ("mcp",),
    "transfer": ("backup", "restore", "export", "import"),
    "completion": ("completion",),
}
"""The commands of each module, in the order of the help."""


def main() -> NoReturn:
    """Run the command of `sys.argv` and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show Chinese gets question marks, not a traceback.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    sys.stdout, sys.stderr = Screen(sys.stdout), Screen(sys.stderr)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has left. What is still buffered must not be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run the command line and return its exit code."""
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["serve", *argv]
    name = argv[0]
    if name == "--version":
        say(f"asyncsvc {__version__}")
        return 0
    if name in ("-h", "--help"):
        from asyncsvc.cli.overview import overview

        print(overview(program()))
        return 0
    if argv[:2] == ["completion", "--words"]:
        from asyncsvc.cli.completing import complete

        return complete(argv[2:])
    if not any(name in names for names in COMMANDS.values()):
        return _fail([f"{_unknown(name)} See {program()} --help"], MISUSED)
    return _command(argv)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [each for names in COMMANDS.values() for each in names], n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return f"No such command {name!r}.{guess}"


def _command(argv: list[str]) -> int:
    """Run a command that there is; its failures are lines on stderr."""
    from asyncsvc.cli import arguments

    name = argv[0]
    try:
        return arguments.run(declared(name)[name], argv[1:])
    except arguments.HelpAsked:
        from asyncsvc.cli.examples import EXAMPLES
        from asyncsvc.cli.overview import command_help

        print(command_help(declared(name)[name], program(), EXAMPLES.get(name)))
        return 0
    except arguments.Misuse as error:
        return _fail([f"{_sentence(str(error))} See {program()} {name} --help"], error.code)
    except SettingsError as error:
        return _fail(error.lines, MISUSED)
    except Failure as error:
        return _fail([str(error)], error.code)
    except UnsafeFile as error:
        return _fail([str(error)], MISUSED)
    except AsyncsvcError as error:
        return _fail([str(error)], FAILED)


def declared(name: str | None = None) -> "dict[str, arguments.Command]":
    """Return the commands of the module that has this one; without a name, all commands."""
    found: dict[str, arguments.Command] = {}
    for module, names in COMMANDS.items():
        if name is None or name in names:
            found |= import_module(f"asyncsvc.cli.{module}").app.found
    return found


def _sentence(text: str) -> str:
    """Return a message that ends with exactly one stop, or with its own ? or !."""
    bare = text.rstrip(". ")
    return bare if bare.endswith(("?", "!")) else f"{bare}."


def _fail(lines: list[str], code: int) -> int:
    for line in lines:
        say(f"asyncsvc: {line}", sys.stderr)
    return code
