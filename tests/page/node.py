"""Programs of npm that the tests use: `npm ci --ignore-scripts` in this folder installs them."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.needs import need

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
INSTALL = "npm ci --ignore-scripts --prefix tests/page"


def node(*words: str) -> str:
    """What node prints for these arguments. Skips where there is no node; fails with what it says
    where it fails."""
    path = shutil.which("node")
    need(None if path else "there is no node on this machine")
    done = subprocess.run(
        [path or "", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def typescript(config: Path) -> list[str]:
    """The faults that `tsc` finds, each with its explanation."""
    path = MODULES / ".bin" / "tsc"
    need(None if path.exists() and shutil.which("node") else f"TypeScript is absent: {INSTALL}")
    words = [str(path), "--project", str(config), "--pretty", "false"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    return re.sub(r"\n +", " ", done.stdout).splitlines()


def axe() -> str:
    """The source of axe-core, which looks for what keeps people from using a page."""
    path = MODULES / "axe-core" / "axe.min.js"
    need(None if path.exists() else f"axe-core is absent: {INSTALL}")
    return path.read_text(encoding="utf-8")
