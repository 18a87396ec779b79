"""A copy of the project in a clean environment: an empty home, no key, no virtual environment.

`python3` there makes a virtual environment as usual, which sees the packages of this process in
place of new ones, and whose `pip` only checks how it is called: nothing is downloaded.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_S = 60.0
PYTHON3 = """#!/bin/sh
[ "$*" = "-m venv .venv" ] || {{ echo "python3 was called with: $*" >&2; exit 9; }}
"{python}" -m venv --without-pip .venv || exit 9
for folder in .venv/lib/python3*/site-packages; do
    printf '%s\\n' {packages} > "$folder/packages.pth"
done
cp "{pip}" .venv/bin/pip
"""
PIP = """#!/bin/sh
[ -f pyproject.toml ] || exit 9
case "$*" in "install ."|"install .[test]") echo "pip $*" >> called;; *) exit 9;; esac
"""
TESTS = """
import sys
from pathlib import Path

from tests.program import WHAT

assert sys.argv[1] in WHAT, sys.argv
with Path("called").open("a") as file:
    print("tests", *sys.argv[1:], file=file)
"""
"""In the place of `python -m tests`: the tests that it would start are those that are running."""


@dataclass(frozen=True)
class CleanPlace:
    """A folder with the project, and the environment of a new user."""

    folder: Path
    env: Mapping[str, str]

    def sh(self, script: str, *words: str, **variables: str) -> str:
        """Run a script, which must succeed; what it writes to stdout."""
        done = subprocess.run(
            ["sh", "-eu", "-c", script, "sh", *words],
            cwd=self.folder,
            env=dict(self.env) | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def started(self, script: str, until: str, **variables: str) -> Generator[str]:
        """A script that does not end, such as a service: its output up to a line that begins with
        `until`. Ctrl-C ends it with the block."""
        log = self.folder / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                ["sh", "-eu", "-c", script],
                cwd=self.folder,
                env=dict(self.env) | variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            assert process.stdout is not None
            lines: list[str] = []
            latest = time.monotonic() + LONGEST_S
            while not (lines and lines[-1].startswith(until)):
                line = process.stdout.readline()
                assert line, (lines, log.read_text())
                assert time.monotonic() < latest, lines
                lines.append(line)
            try:
                yield "".join(lines)
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.stdout.read()
                process.wait(LONGEST_S)


def clean_place(folder: Path) -> CleanPlace:
    """Copy the project there, as a clone would be."""
    here = folder / "asyncsvc"
    shutil.copytree(ROOT / "asyncsvc", here / "asyncsvc")
    for name in ("main.py", "settings.toml", "pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, here)
    (here / "tests").mkdir()
    for name, copied in {"__main__": "program", "memory": "memory", "__init__": "__init__"}.items():
        shutil.copy2(ROOT / "tests" / f"{name}.py", here / "tests" / f"{copied}.py")
    (here / "tests" / "__main__.py").write_text(TESTS)
    programs, home = folder / "bin", folder / "home"
    programs.mkdir()
    home.mkdir()
    packages = [f"'{path}'" for path in sys.path if path.endswith("site-packages")]
    _program(folder / "pip", PIP)
    python3 = PYTHON3.format(python=sys.executable, packages=" ".join(packages), pip=folder / "pip")
    _program(programs / "python3", python3)
    path = os.pathsep.join([str(programs), "/usr/local/bin", "/usr/bin", "/bin"])
    env = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "TZ": "UTC"}
    return CleanPlace(here, env)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
