"""How long the service takes to start, and what it holds when it has nothing to do.

Starts it as a user does, waits for /readyz, lets it idle and reads its memory, several times;
the first run makes the database, the others find it. Broken is a start that fails or a stop that
does not end with 0.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

import uvloop

from tests.benchmarks import stage
from tests.benchmarks.report import Report

READY_TARGET_S = 1.0
MEMORY_TARGET_MB = 90.0
IDLE_S = 1.0
BOOT = (sys.executable, "-c", "import asyncio")
SETTINGS: dict[str, dict[str, Any]] = {
    "models.none": {"base_url": "http://127.0.0.1:9/v1", "model": "none"}
}


async def run(runs: int) -> Report:
    """The whole benchmark."""
    report = Report(
        f"start: {runs} runs of python main.py serve",
        ("run", "ready s", "python itself s", "ratio", "idle MB"),
    )
    ready, memory = [], []
    async with stage.workplace() as (folder, _):
        for number in range(runs):
            async with stage.service(folder, SETTINGS) as service:
                ready.append(service.ready_s)
                await asyncio.sleep(IDLE_S)
                memory.append(service.memory_mb())
                status = await service.stop()
            report.require(status == 0, f"run {number + 1} ended with status {status}")
            boot = await _boot()
            report.row(f"{number + 1}", ready[-1], boot, ready[-1] / boot, memory[-1])
            report.broken += service.faults()
    report.row("median", median(ready), "", "", median(memory))
    report.target(median(ready) < READY_TARGET_S, f"ready after {median(ready):.2f} s, target 1 s")
    report.target(median(memory) < MEMORY_TARGET_MB, f"{median(memory):.0f} MB idle, target 90 MB")
    return report


async def _boot() -> float:
    """Seconds that the interpreter takes to start and import asyncio."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    process = await asyncio.create_subprocess_exec(*BOOT)
    await process.wait()
    return loop.time() - began


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.start", description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.runs)).finish()


if __name__ == "__main__":
    sys.exit(main())
