"""One command for everything that is run on this code: `python -m tests WHAT`.

    python -m tests fast             the quick tests, under 90 s on two cores
    python -m tests all              lint, types, all tests, branch coverage: what CI runs
    python -m tests fix              formats the code and mends what the linter can mend
    python -m tests bench [NAME …]   a benchmark with its arguments; without a name, their list

Works on every system that runs Python. Further words go to pytest: `python -m tests fast -k wild`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.memory import MEMORY

ROOT = Path(__file__).resolve().parent.parent
CODE = ("asyncsvc", "tests", "main.py")
COVERED_IN_ALL = 85
COVERED_IN_ENGINE = 95
ENGINE = (
    "tasks",
    "storage",
    "journal",
    "limits",
    "providers",
    "routing",
    "scheduling",
    "execution",
    "intake",
)
"""The packages whose branches must be covered almost wholly."""
BENCHMARKS = "tests.benchmarks"
ROOM = 1 << 30
"""Bytes that must be free in memory before the tests put their files there."""


def run(*words: str, **variables: str) -> int:
    """Run a Python module in the root of the repository; the exit status."""
    print(f"== {' '.join(words)}", flush=True)
    # Without compiled files each worker and each process of a test compiles everything anew.
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | variables
    argv = [sys.executable, "-m", *words]
    return subprocess.run(argv, cwd=ROOT, env=environ, check=False).returncode


def first_failure(*steps: Sequence[str]) -> int:
    """Run steps until one fails; the exit status of that one, or 0."""
    return next((status for step in steps if (status := run(*step))), 0)


KEPT = ("-o", "tmp_path_retention_policy=failed", "-o", "tmp_path_retention_count=1")
"""Only the files of tests that failed are kept: memory has no room for all."""


FEW_STORIES = {"ASYNCSVC_TESTS_STORIES": "20"}


def in_memory() -> dict[str, str]:
    """The variable that puts the tests' files into memory, unless it is set already."""
    given = "PYTEST_DEBUG_TEMPROOT" in os.environ
    if given or MEMORY is None or shutil.disk_usage(MEMORY).free <= ROOM:
        return {}
    return {"PYTEST_DEBUG_TEMPROOT": str(MEMORY)}


def fast(rest: Sequence[str]) -> int:
    """The tests that start no process and wait for no clock."""
    return run("pytest", "-m", "not slow", *KEPT, *rest, **in_memory(), **FEW_STORIES)


def everything(rest: Sequence[str]) -> int:
    """Lint, types, the quick tests under branch coverage and its lower bounds, then the slow tests.

    The slow tests start processes, which would take two to three times as long under coverage; what
    they run is covered by the quick ones as well. So it is with the stories beyond a few.
    """
    engine = [
        ("coverage", "report", f"--include=asyncsvc/{part}/*", f"--fail-under={COVERED_IN_ENGINE}")
        for part in ENGINE
    ]
    tests, few = ("pytest", *KEPT, *rest), in_memory() | FEW_STORIES
    return (
        first_failure(
            ("ruff", "format", "--check", *CODE),
            ("ruff", "check", *CODE),
            ("mypy", *CODE),
            ("coverage", "erase"),
        )
        or run("coverage", "run", "-m", *tests, "-m", "not slow", **few)
        or first_failure(
            ("coverage", "combine", "--quiet"),
            ("coverage", "report", f"--fail-under={COVERED_IN_ALL}"),
            *engine,
        )
        or run(*tests, "-m", "slow or stories", **in_memory())
    )


def fix(rest: Sequence[str]) -> int:
    """Mend what can be mended without thought."""
    return first_failure(("ruff", "check", "--fix", *CODE), ("ruff", "format", *CODE))


def bench(rest: Sequence[str]) -> int:
    """Run one benchmark, or list them."""
    if not rest:
        folder = ROOT / "tests" / "benchmarks"
        runnable = [
            file.stem
            for file in sorted(folder.glob("*.py"))
            if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
        ]
        print("\n".join(runnable))
        return 0
    return run(f"{BENCHMARKS}.{rest[0]}", *rest[1:])


WHAT = {"fast": fast, "all": everything, "fix": fix, "bench": bench}


def main(words: Sequence[str]) -> int:
    """Do what the first word names; 2 where it names nothing."""
    if not words or words[0] not in WHAT:
        print(__doc__, file=sys.stderr)
        return 2
    return WHAT[words[0]](words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
