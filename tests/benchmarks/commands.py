"""How long commands of the command line take, as multiples of a bare Python.

Each command runs in turn with `python -c pass`, so that both meet the same machine; the median of
each is compared. Calls go to a service in this process that answers at once. All find their modules
compiled, as they are on a user's machine from the second start on. Broken is a command that fails.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tests.benchmarks.report import Report
from tests.cli.scripted_service import scripted_service

ROOT = Path(__file__).parents[2]
LIGHT, CLIENT = 5.0, 11.7
"""At most so many times a bare Python: 0.15 s and 0.35 s beside 0.03 s."""
BARE = ["-c", "pass"]
COMMANDS: dict[str, float] = {
    "--version": LIGHT,
    "--help": LIGHT,
    "completion --words bash tasks --status": LIGHT,
    "completion --words bash submit --model fa": CLIENT,
    "submit --help": CLIENT,
    "submit hello": CLIENT,
    "tasks": CLIENT,
    "stats --json": CLIENT,
    "models": CLIENT,
}
ANSWERS: dict[str, Any] = {
    "POST /tasks": {"task_id": "t", "status": "pending", "position": 1, "eta_s": 0},
    "GET /tasks": {"tasks": [], "next_cursor": None},
    "GET /tasks/stats": {"total": 0},
    "GET /models": {"models": []},
}


def run(runs: int) -> Report:
    """The whole benchmark."""
    report = Report(
        f"commands: median of {runs} runs, each in turn with a bare Python",
        ("command", "s", "bare s", "ratio", "target"),
    )
    with TemporaryDirectory() as compiled, scripted_service() as service:
        service.answers |= ANSWERS
        environ = {
            **os.environ,
            "PYTHONPYCACHEPREFIX": compiled,
            "PYTHONDONTWRITEBYTECODE": "",
            "ASYNCSVC_URL": service.url,
        }
        for line, target in COMMANDS.items():
            argv = [str(ROOT / "main.py"), *line.split()]
            for part in (BARE, argv):
                _timed(part, environ)  # compiles
            pairs = [(_timed(argv, environ), _timed(BARE, environ)) for _ in range(runs)]
            taken = median(own.seconds for own, _ in pairs)
            bare = median(other.seconds for _, other in pairs)
            report.require(all(own.code == 0 for own, _ in pairs), f"{line} has failed")
            report.row(line, taken, bare, taken / bare, target)
            report.target(taken / bare <= target, f"{line}: {taken / bare:.1f} of {target:g}")
    return report


class Timed(NamedTuple):
    """How long a program took, and its exit code."""

    seconds: float
    code: int


def _timed(argv: Sequence[str], environ: Mapping[str, str]) -> Timed:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *argv], env=environ, capture_output=True, check=False)
    return Timed(time.perf_counter() - began, done.returncode)


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m tests.benchmarks.commands"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args(argv)
    return run(options.runs).finish()


if __name__ == "__main__":
    sys.exit(main())
