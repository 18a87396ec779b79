"""What the checkpoint of a workspace costs: the first, one after a few changes, and putting back.

A workspace of files of equal size, on the disk. Each round begins with a new task: the first
checkpoint copies all, the next those that were changed since; then the changes of one call are
synced, and the workspace is put back. Beside them the same bytes are written to one file and
synced: what the disk itself takes. The processor's time says more than the clock where other work
runs beside. Broken is a workspace that is not what it was at the checkpoint.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import uvloop

from asyncsvc.tools import trees
from asyncsvc.tools.task_workspaces import TaskWorkspaces
from tests.benchmarks.report import Report
from tests.tools.trees import snapshot

FIRST_TARGET_S, NEXT_TARGET_S = 0.15, 0.02
PER_FOLDER = 50
MOST = 1 << 34
QUIET_S = 0.1
"""Files that are younger than the tick of a file system are copied again."""


@dataclass
class Plan:
    files: int = 1000
    total_mb: int = 50
    changed: int = 10
    rounds: int = 7


@dataclass
class Took:
    """Seconds of each round, by the clock and of the processor, and how much memory the process
    had at most."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    most_mb: float = 0.0

    async def time(self, what: str, work: Callable[[], Awaitable[object]]) -> None:
        began, busy = time.perf_counter(), time.process_time()
        await work()
        self.seconds.setdefault(what, []).append(time.perf_counter() - began)
        self.processor.setdefault(what, []).append(time.process_time() - busy)


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"checkpoint: {plan.files:,} files, {plan.total_mb} MB, {plan.rounds} rounds",
        ("what", "median ms", "least ms", "processor ms"),
    )
    took = Took()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".checkpoint-") as name:
        stop = threading.Event()
        watch = asyncio.create_task(asyncio.to_thread(_watch, took, stop))
        for number in range(plan.rounds):
            await _round(plan, Path(name), f"task-{number}", took, report)
        stop.set()
        await watch
    for what, seconds in took.seconds.items():
        busy = median(took.processor[what])
        report.row(what, median(seconds) * 1000, min(seconds) * 1000, busy * 1000)
    report.notes.append(f"memory: {took.most_mb:.0f} MB more at most")
    for what, target in (("first checkpoint", FIRST_TARGET_S), (_next(plan), NEXT_TARGET_S)):
        least = min(took.seconds[what])
        report.target(
            least < target, f"{what}: {least * 1000:.0f} ms at best, target {target * 1000:.0f}"
        )
    return report


def _next(plan: Plan) -> str:
    return f"with {plan.changed} files changed"


def _watch(took: Took, stop: threading.Event) -> None:
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    while not stop.wait(0.01):
        took.most_mb = max(took.most_mb, (process.memory_info().rss - before) / 1e6)


async def _round(plan: Plan, root: Path, task_id: str, took: Took, report: Report) -> None:
    workspaces = TaskWorkspaces(root, lambda: MOST)
    await workspaces.begin(task_id, 0, {})
    work = root / "tasks" / task_id / "work-0"
    data = os.urandom(plan.total_mb * 1_000_000 // plan.files)
    await asyncio.to_thread(_fill, work, plan.files, data)
    await took.time("bare copy and sync", lambda: asyncio.to_thread(_bare, root, plan, data))
    await took.time("first checkpoint", lambda: workspaces.take(task_id, 0, "first"))
    await asyncio.to_thread(_change, work, plan, data[::-1])
    await took.time(_next(plan), lambda: workspaces.take(task_id, 0, "next"))
    await took.time("with nothing changed", lambda: workspaces.take(task_id, 0, "same"))
    name = await workspaces.take(task_id, 0, "last")
    wanted = await asyncio.to_thread(snapshot, work)
    await asyncio.to_thread(_change, work, plan, data)
    await took.time("changes synced", lambda: workspaces.sync(task_id, 0))
    await took.time("put back", lambda: workspaces.restore(task_id, 0, name or ""))
    found = await asyncio.to_thread(snapshot, work.with_name("work-1"))
    report.require(found == wanted, "the workspace is not what it was at the checkpoint")
    await workspaces.remove(task_id)
    report.require(not work.exists(), "the workspace is still there")


def _fill(work: Path, files: int, data: bytes) -> None:
    for number in range(files):
        path = work / f"folder-{number // PER_FOLDER}" / f"file-{number}"
        if number % PER_FOLDER == 0:
            path.parent.mkdir()
        path.write_bytes(data)
    trees.sync_tree(work)
    time.sleep(QUIET_S)


def _bare(root: Path, plan: Plan, data: bytes) -> None:
    with open(root / "bare", "wb", buffering=0) as file:
        for _ in range(plan.files):
            file.write(data)
        os.fsync(file.fileno())
    (root / "bare").unlink()


def _change(work: Path, plan: Plan, data: bytes) -> None:
    for path in sorted(work.glob("*/*"))[:: max(plan.files // plan.changed, 1)][: plan.changed]:
        path.write_bytes(data)
    time.sleep(QUIET_S)


def main(argv: Sequence[str] | None = None) -> int:
    words = "python -m tests.benchmarks.checkpoint"
    parser = argparse.ArgumentParser(prog=words, description=__doc__)
    plan = Plan()
    parser.add_argument("--files", type=int, default=plan.files)
    parser.add_argument("--total-mb", type=int, default=plan.total_mb)
    parser.add_argument("--changed", type=int, default=plan.changed)
    parser.add_argument("--rounds", type=int, default=plan.rounds)
    return uvloop.run(run(Plan(**vars(parser.parse_args(argv))))).finish()


if __name__ == "__main__":
    sys.exit(main())
