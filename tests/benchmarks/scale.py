"""What a task and a chunk cost the service while few or many others wait or stream.

The cost of a task is the processor time of the service for one task, submitted and completed by a
provider without delay, while 10 to 10,000 others wait for another model. The cost of a chunk is its
processor time for one chunk of the provider, while 1 to 1,000 tasks stream at the same rate and
each is followed by one client; what the service uses in the same time with nothing to do is taken
off. Processor time, not elapsed time, so that a busy machine changes little. The target for tasks
holds between the dearest size and the cheapest; that for chunks between the dearest and the
smallest, as many streams may be cheaper: one commit then carries the chunks of all. Broken is a
task that does not complete.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop

from tests.benchmarks import following, stage, turnaround
from tests.benchmarks.report import Report, progress
from tests.benchmarks.stage import Child

RATIO_TARGET = 1.3
IN_FLIGHT = 16
RATE = 20.0
MOST_BATCH = 1000


@dataclass(frozen=True)
class Plan:
    """The sizes, how many tasks are done at each, and how long streams last at least."""

    waiting: Sequence[int] = (10, 100, 1000, 10_000)
    streaming: Sequence[int] = (1, 10, 100, 1000)
    tasks: int = 400
    seconds: float = 5
    chunks: int = 400
    """Of all streams at least: processor time well above the system's 10 ms of resolution."""


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"scale: {plan.tasks} tasks beside waiting ones, streams at {RATE:g} chunks/s",
        ("what", "ms of processor", "per the smallest size"),
    )
    if plan.waiting:
        await _tasks(report, plan)
    if plan.streaming:
        await _chunks(report, plan)
    return report


async def _tasks(report: Report, plan: Plan) -> None:
    profile = {"models.waits": {"concurrency": 1, "first_token_s": 100_000}}
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, profile) as silent,
        turnaround.provider(folder) as upstream,
        stage.service(folder, _settings(silent.url, upstream.url)) as service,
        turnaround.ours(client, service) as system,
    ):
        await system(plan.tasks, IN_FLIGHT)  # imports, caches and connections are warm
        costs: list[float] = []
        there = 0
        for waiting in plan.waiting:
            await _submit(client, service, "waits", waiting - there)
            there = waiting
            await asyncio.sleep(1)  # what follows from the submits is not the tasks' cost
            before = service.cpu_s()
            _, wrong = await system(plan.tasks, IN_FLIGHT)
            costs.append(1000 * (service.cpu_s() - before) / plan.tasks)
            report.require(not wrong, f"{wrong} tasks beside {waiting} waiting did not complete")
            report.row(f"a task beside {waiting:,} waiting", costs[-1], costs[-1] / costs[0])
            progress(f"{waiting} waiting: {costs[-1]:.2f} ms")
        _judge(report, "a task", max(costs) / min(costs))
        report.broken += service.faults()


async def _chunks(report: Report, plan: Plan) -> None:
    costs: list[float] = []
    for streaming in plan.streaming:
        seconds = max(plan.seconds, plan.chunks / RATE / streaming)
        first_s = max(3.0 * streaming / 200, 1.0)
        profile = {"models.streams": {"first_token_s": first_s, "tokens_per_s": RATE}}
        async with (
            stage.workplace() as (folder, client),
            stage.simulator(folder, profile) as provider,
            stage.service(folder, _settings(provider.url, provider.url)) as service,
        ):
            cost = await _stream(report, client, service, streaming, seconds, first_s)
            report.broken += service.faults()
        costs.append(cost)
        report.row(f"a chunk of {streaming:,} streams", cost, cost / costs[0])
        progress(f"{streaming} streams: {cost:.3f} ms")
    _judge(report, "a chunk", max(costs) / costs[0])


async def _stream(
    report: Report,
    client: aiohttp.ClientSession,
    service: Child,
    streaming: int,
    seconds: float,
    first_s: float,
) -> float:
    """Milliseconds of processor for a chunk of the provider."""
    tokens = round(RATE * seconds)
    idle = service.cpu_s()
    await asyncio.sleep(2)
    idle = (service.cpu_s() - idle) / 2
    ids = await _submit(client, service, "streams", streaming, tokens)
    async with following.Subscribers(service.url, ids) as subscribers:
        before = service.cpu_s()
        received = await subscribers.all()
        used = service.cpu_s() - before - idle * (seconds + first_s)
    for one in received:
        report.broken += one.faults()
    return 1000 * used / (streaming * tokens)


async def _submit(
    client: aiohttp.ClientSession, service: Child, model: str, count: int, tokens: int = 1
) -> list[str]:
    body = {"content": f"Tell [[sim:tokens={tokens}]]", "model": model}
    ids: list[str] = []
    while len(ids) < count:
        tasks = [body] * min(count - len(ids), MOST_BATCH)
        answer = await stage.post(client, f"{service.url}/tasks/batch", {"tasks": tasks})
        ids += [task["task_id"] for task in answer["tasks"]]
    return ids


def _judge(report: Report, what: str, ratio: float) -> None:
    report.target(
        ratio <= RATIO_TARGET,
        f"{what} costs {ratio:.2f} × as much where it is dearest, target {RATIO_TARGET:g} ×",
    )


def _settings(slow: str, fast: str) -> dict[str, dict[str, Any]]:
    return {
        "queue": {"max_length": 100_000},
        "timeouts": {"short_s": 3600, "first_token_s": 3600},
        "server": {"grace_s": 0, "max_connections": 2000},
        "limits": {"memory_mb": 2000},
        "models.waits": {"base_url": f"{slow}/v1", "model": "waits", "concurrency": 1},
        "models.streams": {"base_url": f"{slow}/v1", "model": "streams", "concurrency": 1000},
        "models.fast": {"base_url": f"{fast}/v1", "model": "fast", "concurrency": IN_FLIGHT},
    }


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="*", default=default.waiting)
    parser.add_argument("--streaming", type=int, nargs="*", default=default.streaming)
    parser.add_argument("--tasks", type=int, default=default.tasks, help="done at each size")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of each stream")
    given = parser.parse_args(argv)
    plan = Plan(given.waiting, given.streaming, given.tasks, given.seconds)
    return uvloop.run(run(plan)).finish()


if __name__ == "__main__":
    sys.exit(main())
