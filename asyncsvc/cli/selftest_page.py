"""The page of `selftest`: the run, its progress on stderr, and the result as text or JSON."""

import asyncio
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from asyncsvc import __version__
from asyncsvc.cli import tables
from asyncsvc.cli.options import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    Failure,
    print_json,
    program,
)
from asyncsvc.cli.serve import fastest_loop
from asyncsvc.cli.terminal import control, say, styled
from asyncsvc.selftest.checks import Check
from asyncsvc.selftest.processes import Program
from asyncsvc.selftest.selftest import (
    NEEDED_BYTES,
    NOT_PROVED,
    Plan,
    Result,
    SelfTest,
    scratch,
    verdict,
)

CHILD = Path(__file__).with_name("child.py")
STYLES = {"ok": "green", "look": "yellow", "failed": "bold red"}


def run(folder: Path, plan: Plan, keep: bool, as_json: bool) -> int:
    """Run the self-test on the disk of `folder`, print its page and return the exit code."""
    check_room(folder)
    progress = Progress()
    # What a killed service has left in the folder for temporary files goes away too. That folder
    # is not in the other, whose path may be too long for a socket.
    temporary = scratch(Path(tempfile.gettempdir()), keep=False)
    with scratch(folder, keep) as place, temporary as temp:
        environ = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temp))
        program = Program([sys.executable, str(CHILD)], place, environ)
        try:
            found = interruptible(SelfTest(program, place, plan, progress.show).go())
        finally:
            progress.clear()
    if as_json:
        print_json(document(found))
    else:
        print_page(found)
    if keep:
        say(f"kept: {place}", sys.stderr)
    return FAILED if found.failed else 0


def check_room(folder: Path) -> None:
    """Raise Failure where no scratch folder can be made in `folder`, or the disk is nearly full."""
    if not folder.is_dir():
        raise Failure(f"{folder} is no folder; name one with --dir", MISUSED)
    try:
        free = shutil.disk_usage(folder).free
        with scratch(folder, keep=False):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise Failure(f"{folder}: {reason}; name another with --dir", MISUSED) from None
    if free < NEEDED_BYTES:
        wanted = f"needs {NEEDED_BYTES >> 20} MB of free disk, and {free >> 20} MB are free"
        raise Failure(f"{folder}: the self-test {wanted}; name another with --dir", MISUSED)


def interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end. A signal ends it early, with all that it has started."""

    async def guarded() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for name in ("SIGTERM", "SIGHUP"):
            with suppress(NotImplementedError, AttributeError):  # Windows has Ctrl-C alone
                loop.add_signal_handler(getattr(signal, name), task.cancel)
        return await work

    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            raise Failure("interrupted; nothing is left behind", INTERRUPTED) from None


class Progress:
    """What is being done, on stderr: one line that changes at a terminal, else a line each."""

    def __init__(self) -> None:
        self._redrawn = styled(sys.stderr)

    def show(self, doing: str) -> None:
        if self._redrawn:
            control(sys.stderr, "\r\x1b[K")
            width = shutil.get_terminal_size().columns - 1
            print(doing[:width], end="", flush=True, file=sys.stderr)
        else:
            say(doing, sys.stderr)

    def clear(self) -> None:
        if self._redrawn:
            control(sys.stderr, "\r\x1b[K")


def document(found: Result) -> dict[str, Any]:
    """The page as JSON."""
    return {
        "durable": not found.failed,
        "version": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "folder": str(found.folder),
        "kills": found.plan.kills,
        "seed": found.plan.seed,
        "took_s": found.took_s,
        "checks": [
            {
                "name": check.name,
                "tried": check.tried,
                "found": check.found,
                "outcome": check.outcome.value,
                "details": list(check.details),
            }
            for check in found.checks
        ],
        "verdict": verdict(found),
        "not_proved": list(NOT_PROVED),
    }


def print_page(found: Result) -> None:
    """Print the page for people."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    for each in found.checks:
        style = STYLES[each.outcome.value]
        rows.add_row(Text(each.outcome.value, style), Text(each.name, "bold"), _lines(each, style))
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    head = f"asyncsvc {__version__}, {python}\nselftest in {found.folder}, seed {found.plan.seed}\n"
    last = Text(f"\n{verdict(found)}", STYLES["failed" if found.failed else "ok"])
    if {each.name for each in found.failed} - {"disk"}:
        last.append(
            f"\nfor a report: `{program()} selftest --seed {found.plan.seed} --keep` runs it again "
            "and keeps database and logs",
            "default",
        )
    rest = Table.grid(padding=(0, 1, 0, 0))
    for unproved in NOT_PROVED:
        rest.add_row("-", Text(unproved))
    tables.console().print(Group(Text(head), rows, last, Text("\nnot proved by this:"), rest))


def _lines(check: Check, style: str) -> Text:
    text = Text(f"{check.tried}\n").append(check.found, "bright_black")
    for detail in check.details:
        text.append(f"\n{detail}", style)
    return text
