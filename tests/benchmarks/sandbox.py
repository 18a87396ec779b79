"""What a sandbox costs, and how soon its limits bite.

Runs `python -I -c pass` in each backend and bare, in turn, so that a ratio of one run counts. Then
a tree of processes that runs out of time, and 100 MB of output: how long after the limit the
tree is gone, and how much memory the output took. Broken is a process that is there a second
after its limit, and output that takes 20 MB or more; the ratio is a target.
"""

import argparse
import asyncio
import gc
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil
import uvloop

from asyncsvc.sandbox import Command, Sandbox
from asyncsvc.sandbox.choice import BACKENDS, make
from asyncsvc.sandbox.command import Bounds, interpreter
from tests.benchmarks.report import Report

RATIO_TARGET = 2.5
GONE_TARGET_S = 1.0
MEMORY_TARGET_MB = 20.0
LIMIT_S = 2.0
TREE = """
import os, time
for _ in range(3):
    if not os.fork():
        os.setsid()
        break
while True:
    with open("pulse", "a") as file:
        file.write(".")
    time.sleep(0.005)
"""
FLOOD = "import sys\nfor _ in range(1000): sys.stdout.write('x' * 100_000)"
QUIET_S = 0.15
"""A tree that has not written for so long is gone: it writes every 5 ms."""


async def run(runs: int) -> Report:
    """The whole benchmark."""
    report = Report(
        f"sandbox: {runs} runs of python -I -c pass",
        ("backend", "ms", "of bare", "gone after s", "100 MB takes MB"),
    )
    sandboxes: list[Sandbox] = []
    for name in BACKENDS:
        made = await make(name, Bounds())
        if isinstance(made, str):
            report.notes.append(f"{name} is left out: {made}")
        else:
            sandboxes.append(made)
    with tempfile.TemporaryDirectory() as folder:
        await _measure(sandboxes, Path(folder), runs, report)
    return report


async def _measure(sandboxes: Sequence[Sandbox], folder: Path, runs: int, report: Report) -> None:
    took: dict[str, list[float]] = {"bare": []}
    for _ in range(runs):
        took["bare"].append(await _bare())
        for sandbox in sandboxes:
            took.setdefault(sandbox.name, []).append(await _passing(sandbox, folder))
    bare = median(took["bare"])
    report.row("bare", bare * 1000, 1.0, "", "")
    for sandbox in sandboxes:
        ratio = median(took[sandbox.name]) / bare
        gone = await _gone_after(sandbox, folder)
        memory = await _output_mb(sandbox, folder)
        report.row(sandbox.name, median(took[sandbox.name]) * 1000, ratio, gone, memory)
        report.target(
            ratio <= RATIO_TARGET, f"{sandbox.name}: {ratio:.2f} of bare, target {RATIO_TARGET}"
        )
        report.require(
            gone < GONE_TARGET_S, f"{sandbox.name}: the tree was gone after {gone:.2f} s"
        )
        report.require(
            memory < MEMORY_TARGET_MB, f"{sandbox.name}: the output took {memory:.1f} MB"
        )


async def _bare() -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    child = await asyncio.create_subprocess_exec(str(interpreter()), "-I", "-c", "pass", env={})
    if await child.wait():
        raise RuntimeError("Python does not start")
    return loop.time() - began


async def _passing(sandbox: Sandbox, folder: Path) -> float:
    ended = await sandbox.run(Command(["-I", "-c", "pass"], folder, python=True), lambda _: None)
    if ended.exit_code:
        raise RuntimeError(f"{sandbox.name}: {ended}")
    return ended.duration_s


async def _gone_after(sandbox: Sandbox, folder: Path) -> float:
    """Seconds from the limit to the last write of the tree."""
    pulse = folder / "pulse"
    pulse.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended = await sandbox.run(
        Command(["-I", "-c", TREE], folder, timeout_s=LIMIT_S, python=True), lambda _: None
    )
    if not ended.timed_out or not _size(pulse):
        raise RuntimeError(f"{sandbox.name}: {ended}")
    gone, size = loop.time(), _size(pulse)
    while loop.time() - gone < QUIET_S:
        await asyncio.sleep(0.005)
        if _size(pulse) != size:
            gone, size = loop.time(), _size(pulse)
    return gone - began - LIMIT_S


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _output_mb(sandbox: Sandbox, folder: Path) -> float:
    """How much the service's memory grew while 100 MB came."""
    gc.collect()
    process = psutil.Process(os.getpid())
    before = most = process.memory_info().rss

    def measure(_: str) -> None:
        nonlocal most
        most = max(most, process.memory_info().rss)

    async def watch() -> None:
        while True:
            measure("")
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    ended = await sandbox.run(Command(["-I", "-c", FLOOD], folder, python=True), measure)
    watching.cancel()
    if not ended.truncated:
        raise RuntimeError(f"{sandbox.name}: {ended}")
    return (most - before) / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sandbox", description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.runs)).finish()


if __name__ == "__main__":
    sys.exit(main())
