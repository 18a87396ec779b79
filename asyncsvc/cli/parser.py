"""The program: commands by module, and exit code and message of each failure.

Only the module of the command at hand is imported, so `serve` pays for no client and no tables.
Bad usage is one line on stderr and exit code 2.
"""

import os
import sys
from importlib import import_module
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from asyncsvc import __version__
from asyncsvc.cli.options import FAILED, INTERRUPTED, MISUSED, Failure, program
from asyncsvc.cli.terminal import Screen, say
from asyncsvc.errors import AsyncsvcError, SettingsError, UnsafeFile

COMMANDS = {
    "serve": ("serve", "simulator"),
    "demo": ("demo",),
    "check": ("check",),
    "selftest": ("selftest",),
    "routing": ("route-eval", "route"),
    "submit": ("submit", "chat"),
    "tasks": ("tasks", "show", "explain", "stats", "cancel", "pause", "resume", "retry"),
    "watch": ("watch",),
    "agents": ("approve", "deny", "fork", "ledger", "files"),
    "models": ("models", "pause-model", "resume-model", "reload"),
    "schedules": ("schedules", "schedule", "unschedule"),
    "tool": ("tool", "exec"),
    "mcp": ("mcp",),
    "transfer": ("backup", "restore", "export", "import"),
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


def application(argv: list[str]) -> typer.Typer:
    """Return the program with the module of the command that `argv` begins with, or with all."""
    app = typer.Typer(
        name="asyncsvc",
        help="A task service for LLM calls: durable, rate-exact, streaming.\n\n"
        "Without a command it serves. `demo` shows it at work without any key.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(top)
    wanted = [module for module, names in COMMANDS.items() if argv[0] in names]
    for module in wanted or COMMANDS:
        app.add_typer(import_module(f"asyncsvc.cli.{module}").app)
    return app


def run(argv: list[str]) -> int:
    """Run the command line and return its exit code."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["serve", *argv]
    try:
        code = get_command(application(argv)).main(argv, prog_name=program(), standalone_mode=False)
    except typer.TyperException as error:
        text = " ".join(error.format_message().replace("Value error, ", "").split())
        known = any(argv[0] in names for names in COMMANDS.values())
        usage = f"{program()} {argv[0]}" if known else program()
        return _fail([f"{text.rstrip('.')}. See {usage} --help"], error.exit_code)
    except SettingsError as error:
        return _fail(error.lines, MISUSED)
    except Failure as error:
        return _fail([str(error)], error.code)
    except UnsafeFile as error:
        return _fail([str(error)], MISUSED)
    except AsyncsvcError as error:
        return _fail([str(error)], FAILED)
    return code if isinstance(code, int) else 0


def _fail(lines: list[str], code: int) -> int:
    for line in lines:
        say(f"asyncsvc: {line}", sys.stderr)
    return code


def top(
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    if version:
        say(f"asyncsvc {__version__}")
        raise typer.Exit
