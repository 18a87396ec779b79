"""Whether a model that hangs, or a tool that keeps a processor busy, slows other tasks down.

Alternates rounds with and without a hanging model whose slots are all taken and which has a
queue, or (`--tool`) a program of a tool that never ends; in each the same tasks are offered to a
second model at the same pace. Broken is a task of the second model that does not complete.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from statistics import median
from typing import Any

import aiohttp
import psutil
import uvloop

from tests.benchmarks import stage
from tests.benchmarks.report import Report, percentile, progress

CONCURRENCY = 5
CALL_S = 0.2
LOAD = 0.7
"""Share of the second model's slots that the offered tasks need."""
QUEUED = 100
CHANGE_TARGET, TOOL_TARGET = 0.10, 0.20
PROFILE: dict[str, dict[str, Any]] = {
    "models.calm": {"first_token_s": CALL_S / 2, "tokens_per_s": 200, "answer_tokens": 20},
    "models.hanging": {"faults": {"hang": 1.0}},
}


@dataclass(frozen=True)
class Plan:
    rounds: int = 6
    tasks: int = 120
    tool: bool = False
    """Beside a tool that keeps a processor busy, not beside a hanging model."""

    @property
    def share(self) -> float:
        """The percentile that is compared."""
        return 0.99 if self.tool else 0.95


def settings(url: str) -> dict[str, dict[str, Any]]:
    """The hanging model comes first: a task that names no model would rather go there."""
    model = {"base_url": f"{url}/v1", "concurrency": CONCURRENCY}
    return {
        "models.hanging": {**model, "model": "hanging"},
        "models.calm": {**model, "model": "calm"},
    }


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    share = 100 * plan.share
    report = Report(
        f"isolation: {plan.rounds} pairs of rounds of {plan.tasks} tasks",
        ("round", "p50 alone ms", "p50 beside", f"p{share:.0f} alone ms", "beside", "ratio"),
    )
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, PROFILE) as provider,
        stage.service(folder, settings(provider.url)) as service,
    ):
        await _offer(client, service.url, 20)
        pairs = [
            await _pair(report, client, service.url, number, plan) for number in range(plan.rounds)
        ]
        report.broken += service.faults()
    of = partial(percentile, share=plan.share)
    ratio = median(of(beside) / of(alone) for alone, beside in pairs)
    every = [[s for pair in pairs for s in pair[side]] for side in (0, 1)]
    report.row("all rounds together", *_cells(every[0], every[1], plan.share))
    report.notes.append(f"median of the rounds' ratios: {ratio:.3f}")
    target = TOOL_TARGET if plan.tool else CHANGE_TARGET
    report.target(
        abs(ratio - 1) < target, f"p{share:.0f} changed by {ratio - 1:+.1%}, target {target:.0%}"
    )
    return report


async def _pair(
    report: Report, client: aiohttp.ClientSession, url: str, number: int, plan: Plan
) -> tuple[list[float], list[float]]:
    """One round of each kind, in changing order."""
    progress(f"round {number + 1}")
    found: dict[bool, list[float]] = {}
    for troubled in (number % 2 == 0, number % 2 == 1):
        trouble = (_busy if plan.tool else _hanging)(client, url) if troubled else nullcontext()
        async with trouble:
            found[troubled] = await _offer(client, url, plan.tasks)
        enough = len(found[troubled]) == plan.tasks
        report.require(enough, "a task of the calm model did not complete")
    report.row(f"{number + 1}", *_cells(found[False], found[True], plan.share))
    return found[False], found[True]


def _cells(alone: Sequence[float], beside: Sequence[float], share: float) -> tuple[float, ...]:
    high = percentile(alone, share), percentile(beside, share)
    return (
        percentile(alone, 0.5) * 1000, percentile(beside, 0.5) * 1000,
        high[0] * 1000, high[1] * 1000, high[1] / high[0],
    )  # fmt: skip


@asynccontextmanager
async def _hanging(client: aiohttp.ClientSession, url: str) -> AsyncGenerator[None]:
    """A model that hangs, with a queue."""
    ids = await _hang(client, url)
    yield
    for task_id in ids:
        await stage.post(client, f"{url}/tasks/{task_id}/cancel")


@asynccontextmanager
async def _busy(client: aiohttp.ClientSession, url: str) -> AsyncGenerator[None]:
    """A program of a tool that keeps a processor busy."""
    body = {"code": "while True: pass", "timeout_s": 600.0}
    running = asyncio.create_task(stage.post(client, f"{url}/tools/exec_python", body))

    async def started() -> bool:
        return any("while True: pass" in child.cmdline() for child in _processes())

    try:
        await stage.until(started, 20)
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _processes() -> list[psutil.Process]:
    """All processes below this one that can be looked at."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.cmdline()
            found.append(child)
    return found


async def _hang(client: aiohttp.ClientSession, url: str) -> list[str]:
    """Fill the hanging model's slots and its queue."""
    task = {"content": "Are you there?", "model": "hanging"}
    body = {"tasks": [task] * (CONCURRENCY + QUEUED)}
    ids = [
        one["task_id"] for one in (await stage.post(client, f"{url}/tasks/batch", body))["tasks"]
    ]

    async def full() -> bool:
        running: int = (await stage.get(client, f"{url}/health"))["running"]
        return running == CONCURRENCY

    await stage.until(full, 20)
    return ids


async def _offer(client: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    """Submit evenly, all for the calm model.

    Gives the seconds from creation to completion, by the service's own times.
    """
    loop = asyncio.get_running_loop()
    gap = CALL_S / CONCURRENCY / LOAD
    began, ids = loop.time(), []
    for number in range(count):
        await asyncio.sleep(max(began + number * gap - loop.time(), 0))
        body = {"content": f"Question {number}", "model": "calm"}
        ids.append((await stage.post(client, f"{url}/tasks", body))["task_id"])
    return [s for task_id in ids if (s := await _seconds(client, url, task_id)) is not None]


async def _seconds(client: aiohttp.ClientSession, url: str, task_id: str) -> float | None:
    task: dict[str, Any] = {}

    async def finished() -> bool:
        task.update(await stage.get(client, f"{url}/tasks/{task_id}"))
        return task["finished_at"] is not None

    await stage.until(finished, 60)
    if task["status"] != "completed":
        return None
    times = [datetime.fromisoformat(task[name]) for name in ("created_at", "finished_at")]
    return (times[1] - times[0]).total_seconds()


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.isolation", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=default.rounds, help="pairs of rounds")
    parser.add_argument("--tasks", type=int, default=default.tasks, help="tasks in a round")
    parser.add_argument("--tool", action="store_true", help="beside a tool that is busy")
    options = parser.parse_args(argv)
    return uvloop.run(run(Plan(options.rounds, options.tasks, options.tool))).finish()


if __name__ == "__main__":
    sys.exit(main())
