"""Which libraries a command imports: what it does not need is not paid for at its start."""

import json
import subprocess
import sys

import pytest

from tests.cli.processes import ROOT, environment

PROGRAM = """
import json, sys
before = set(sys.modules)
from asyncsvc.cli.parser import run
run(sys.argv[1:])
found = {name.partition(".")[0] for name in set(sys.modules) - before}
own = {name for name in sys.modules if name.startswith("asyncsvc.")}
print(json.dumps([sorted(found), sorted(own)]))
"""
NOWHERE = ("--url", "http://127.0.0.1:9")
HEAVY = {"asyncio", "inspect", "logging", "shutil", "ssl"}
"""Parts of Python that take long to import."""
OWN = ("asyncsvc.cli", "asyncsvc.errors", "asyncsvc.logs")


def imported(*argv: str) -> tuple[set[str], set[str]]:
    """The modules that a command line imports, by their top names, and our own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    found, own = json.loads(done.stdout.splitlines()[-1])
    return set(found) - {"asyncsvc"}, set(own)


@pytest.mark.parametrize(
    "argv",
    [["--version"], ["--help"], ["sumbit"], ["completion", "--words", "bash", "submit", "--"]],
)
def test_what_needs_no_library_imports_none(argv: list[str]) -> None:
    found, own = imported(*argv)
    assert found <= sys.stdlib_module_names
    assert not found & {*HEAVY, "argparse"}
    assert not {name for name in own if not name.startswith(OWN)}


@pytest.mark.parametrize(
    ("argv", "libraries"),
    [
        (["submit", "hi", *NOWHERE], set()),
        (["submit", "--help"], set()),
        (["cancel", "x", *NOWHERE], {"rich"}),
        (["chat", *NOWHERE], set()),
        (["tasks", *NOWHERE], {"rich"}),
        (["show", "x", "--json", *NOWHERE], {"rich"}),
        (["models"], {"rich"}),
    ],
)
def test_a_client_command_imports_at_most_what_draws_its_table(
    argv: list[str], libraries: set[str]
) -> None:
    found, own = imported(*argv)
    assert found - sys.stdlib_module_names <= libraries
    assert not found & {"asyncio", "shutil"}
    assert not own & {"asyncsvc.config.load", "asyncsvc.config.settings", "asyncsvc.server"}
