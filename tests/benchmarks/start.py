"""How long the service takes to start, and how much memory it uses when it has nothing to do.

Starts the service as a user does, waits for /readyz, lets it idle and reads its memory, several
times; the first run makes the database, the others find it. After each start a bare Python
imports the libraries that the product names as its dependencies, so that the ratio says what the
service adds to them. Both find their modules compiled, as they are on a user's machine from the
second start on, even where PYTHONDONTWRITEBYTECODE is set for the tests: a preparation compiles
them into a folder that goes away. Broken is a start that fails or a stop that does not end with 0.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from tests.benchmarks import stage
from tests.benchmarks.report import Report

RATIO_TARGET = 1.6
MEMORY_TARGET_MB = 70.0
IDLE_S = 1.0
LIBRARIES = (
    "aiohttp", "aiolimiter", "cronsim", "httptools", "httpx", "httpx_aiohttp", "orjson",
    "prometheus_client", "psutil", "pydantic", "python_multipart", "rich", "starlette",
    "starlette.applications", "uvicorn", "uvloop", "websockets", "yarl",
)  # fmt: skip
"""The dependencies of pyproject.toml by the names under which they are imported, without the
data of tzdata; starlette and uvicorn import most of themselves only on use."""
IMPORTS = f"import asyncio, sqlite3, {', '.join(LIBRARIES)}"
SETTINGS: dict[str, dict[str, Any]] = {
    "models.none": {"base_url": "http://127.0.0.1:9/v1", "model": "none"}
}


async def run(runs: int) -> Report:
    """The whole benchmark."""
    report = Report(
        f"start: {runs} runs of python main.py serve",
        ("run", "ready s", "imports s", "ratio", "idle MB"),
    )
    ready, memory, imports = [], [], []
    async with stage.workplace() as (folder, _):
        compiled = _compiled_into(folder / "compiled")
        await _import_libraries(compiled, "asyncsvc.cli.serve, asyncsvc.server")
        for number in range(runs):
            service = stage.service(folder, SETTINGS)
            service.environ.update(compiled)
            async with service:
                ready.append(service.ready_s)
                await asyncio.sleep(IDLE_S)
                memory.append(service.memory_mb())
                status = await service.stop()
            report.require(status == 0, f"run {number + 1} ended with status {status}")
            imports.append(await _import_libraries(compiled))
            report.row(f"{number + 1}", ready[-1], imports[-1], ready[-1] / imports[-1], memory[-1])
            report.broken += service.faults()
    ratio = median(ready) / median(imports)
    report.row("median", median(ready), median(imports), ratio, median(memory))
    report.target(ratio <= RATIO_TARGET, f"{ratio:.2f} of the imports, target {RATIO_TARGET}")
    report.target(
        median(memory) < MEMORY_TARGET_MB,
        f"{median(memory):.0f} MB idle, target {MEMORY_TARGET_MB:g} MB",
    )
    return report


def _compiled_into(folder: Path) -> Mapping[str, str]:
    """The variables by which Python writes compiled modules to a folder, and finds them there."""
    return {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}


async def _import_libraries(environ: Mapping[str, str], beside: str = "") -> float:
    """Seconds that a bare Python takes to start, to import the dependencies and to end.

    `beside` names modules that are imported after them.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    code = f"{IMPORTS}, {beside}" if beside else IMPORTS
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, **environ}
    )
    if await process.wait():
        raise RuntimeError("the dependencies cannot be imported; stderr says which")
    return loop.time() - began


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.start", description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.runs)).finish()


if __name__ == "__main__":
    sys.exit(main())
