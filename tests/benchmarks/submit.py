"""How fast tasks are taken in: at most, and while others stream.

The first part holds POST /tasks against a bare endpoint on the same server configuration, in
alternation (many short rounds, since a shared machine changes its speed from one second to the
next); the second offers submits at a steady rate while tasks stream, and looks at the
tail of their latency. Promises that the tasks submitted only wait, so that nothing but intake
is measured. Broken is any answer but 202, and any acknowledged task that is not stored.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import orjson
import uvloop

from tests.benchmarks import following, stage, wire
from tests.benchmarks.report import Report, percentile, progress

CONNECTIONS = 64
SHARE_TARGET = 0.25
P95_TARGET_MS = 50.0
STREAM_TOKENS_S = 20
SPARE_S = 60
"""By how much the streams would outlast the offer: they are cancelled after it."""
WARM_UP = 500
WAITING = {"content": "Summarise the minutes of the meeting in three lines.", "model": "waits"}
PROFILE: dict[str, dict[str, Any]] = {
    "models.waits": {"concurrency": 1, "first_token_s": 100_000},
    "models.streams": {"tokens_per_s": STREAM_TOKENS_S, "first_token_s": 0.5},
}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 15
    count: int = 2000
    offered: float = 300
    streams: int = 200
    seconds: float = 10
    followed: bool = True
    backlog: int = 0


def settings(url: str, streams: int) -> dict[str, dict[str, Any]]:
    model = {"base_url": f"{url}/v1"}
    return {
        "queue": {"max_length": 1_000_000},
        "timeouts": {"short_s": 3600, "first_token_s": 3600, "idle_s": 3600},
        "server": {"grace_s": 0},
        "models.waits": {**model, "model": "waits", "concurrency": 1},
        "models.streams": {**model, "model": "streams", "concurrency": max(streams, 1)},
    }


def bare(folder: Path) -> stage.Child:
    return stage.child(folder, "bare", ["-m", "tests.benchmarks.bare_endpoint"], "/readyz")


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"submit: {CONNECTIONS} connections, {plan.rounds} rounds of {plan.count}; then "
        f"{plan.offered:g}/s for {plan.seconds:g} s beside {plan.streams} streams",
        ("what", "service", "bare endpoint", "ratio"),
    )
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, PROFILE) as provider,
        stage.service(folder, settings(provider.url, 1)) as service,
        bare(folder) as yardstick,
    ):
        sent = await _throughput(report, plan, service, yardstick)
        await _stored(report, client, service, sent)
        report.broken += service.faults()
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, PROFILE) as provider,
        stage.service(folder, settings(provider.url, plan.streams)) as service,
    ):
        if plan.backlog:
            await _saturated(report, service, plan.backlog)
        await _latency(report, plan, client, service)
        report.broken += service.faults()
    return report


async def _throughput(
    report: Report, plan: Plan, service: stage.Child, yardstick: stage.Child
) -> int:
    """Alternating rounds; gives how many tasks were submitted."""
    data = wire.request("/tasks", orjson.dumps(WAITING))
    pairs = []
    for child in (service, yardstick):
        await wire.saturate(child.port, data, WARM_UP, CONNECTIONS)
    for number in range(plan.rounds):
        ours, wrong = await wire.saturate(service.port, data, plan.count, CONNECTIONS)
        bare_, bare_wrong = await wire.saturate(yardstick.port, data, plan.count, CONNECTIONS)
        pairs.append((ours, bare_))
        report.require(not wrong and not bare_wrong, f"{wrong} submits were not answered 202")
        report.row(f"round {number + 1}, requests/s", ours, bare_, ours / bare_)
    share = median(ours / bare_ for ours, bare_ in pairs)
    report.row(
        "median, requests/s", median(p[0] for p in pairs), median(p[1] for p in pairs), share
    )
    report.target(share >= SHARE_TARGET, f"share {share:.3f} of bare, target {SHARE_TARGET}")
    return WARM_UP + plan.rounds * plan.count


async def _saturated(report: Report, service: stage.Child, count: int) -> None:
    """Let so many tasks wait."""
    data = wire.request("/tasks", orjson.dumps(WAITING))
    _, wrong = await wire.saturate(service.port, data, count, CONNECTIONS)
    report.require(not wrong, f"{wrong} submits were not answered 202")


async def _stored(
    report: Report, client: aiohttp.ClientSession, service: stage.Child, sent: int
) -> None:
    stats = await stage.get(client, f"{service.url}/tasks/stats")
    report.require(
        stats["total"] == sent, f"{sent} submits were acknowledged, {stats['total']} are stored"
    )


async def _latency(
    report: Report, plan: Plan, client: aiohttp.ClientSession, service: stage.Child
) -> None:
    tokens = round(STREAM_TOKENS_S * (plan.seconds + SPARE_S))
    body = {"content": f"Tell a story [[sim:tokens={tokens}]]", "model": "streams"}
    streams = [
        task["task_id"]
        for start in range(0, plan.streams, 1000)
        for task in (
            await stage.post(
                client,
                f"{service.url}/tasks/batch",
                {"tasks": [body] * min(plan.streams - start, 1000)},
            )
        )["tasks"]
    ]
    async with following.Subscribers(service.url, streams if plan.followed else []) as subscribers:
        await asyncio.sleep(1.5)
        progress(f"{len(streams)} streams run; offering {plan.offered:g} submits/s")
        before = service.cpu_s()
        data = wire.request("/tasks", orjson.dumps(WAITING))
        latencies, wrong = await wire.offer(service.port, data, plan.offered, plan.seconds)
        used = (service.cpu_s() - before) / plan.seconds
        running = (await stage.get(client, f"{service.url}/health"))["running"]
        report.require(not wrong, f"{wrong} of the offered submits were not answered 202")
        report.require(
            running > plan.streams - 1, f"only {running} of {plan.streams} streams were running"
        )
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            report.row(f"offered, {name} ms", percentile(latencies, share) * 1000, "", "")
        report.row("processor share of the service", used, "", "")
        p95 = percentile(latencies, 0.95) * 1000
        report.target(p95 < P95_TARGET_MS, f"p95 {p95:.1f} ms, target {P95_TARGET_MS:g} ms")
        for task_id in streams:
            await stage.post(client, f"{service.url}/tasks/{task_id}/cancel")
        for follower in await subscribers.all():
            report.broken += follower.faults()


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.submit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--count", type=int, default=default.count, help="submits in a round")
    parser.add_argument("--offered", type=float, default=default.offered, help="submits per second")
    parser.add_argument("--streams", type=int, default=default.streams, help="tasks streaming")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of the offer")
    parser.add_argument("--unfollowed", action="store_true", help="the streams have no followers")
    parser.add_argument("--backlog", type=int, default=0, help="tasks that wait before the offer")
    given = parser.parse_args(argv)
    plan = Plan(
        given.rounds,
        given.count,
        given.offered,
        given.streams,
        given.seconds,
        not given.unfollowed,
        given.backlog,
    )
    return uvloop.run(run(plan)).finish()


if __name__ == "__main__":
    sys.exit(main())
