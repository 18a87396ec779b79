"""Python environments for other systems: made once a machine, apart from the product's own.

Owns the folder `asyncsvc-bench` in the user's cache. Promises that what a benchmark compares with
never shares a library with the product. An environment that cannot be made is a reason to leave
the comparison out, not a fault.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.report import progress

MOST_S = 900.0


class Absent(Exception):
    """What a comparison needs is not on this machine; the text says what and why."""


async def environment(packages: Sequence[str]) -> Path:
    """The bin folder of an environment with these packages. Raises Absent."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
    folder = cache / "asyncsvc-bench" / name
    whole = folder / "whole"
    if not whole.exists():
        progress(f"installing {', '.join(packages)} into {folder}")
        await _run(sys.executable, "-m", "venv", "--clear", str(folder))
        await _run(str(folder / "bin" / "pip"), "install", "--quiet", *packages)
        whole.touch()
    return folder / "bin"


async def _run(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(MOST_S):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Absent(f"{' '.join(words)} failed: {errors.decode(errors='replace')[-300:]}")
