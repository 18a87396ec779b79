"""A hundred thousand tasks through one service, and what it costs to have done them.

Keeps the queue filled to a steady depth, at the highest rate that the service takes, with a
provider that answers at once, and samples the service's memory and descriptors while finished
tasks are purged. Broken is a task that did not complete, memory that grows with the number of
tasks, a peak above the limit, descriptors that do not come back, and a retention that purged
nothing although it had the time to. The lag of the loop is the service's own figure
(`asyncsvc_loop_lag_seconds` of `/metrics`) where there is one; beside it stands the latency of
`GET /livez` from outside, which has the other processes' share of the machine in it.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import uvloop

from tests.benchmarks import stage, wire
from tests.benchmarks.fast_provider import TEXT
from tests.benchmarks.report import Report, percentile, progress

CONCURRENCY = 50
BATCH = 100
WARM_UP_SHARE = 0.2
SLOPE_MB = 1.0
"""Per 10,000 tasks."""
PEAK_MB = 500.0
LAG_MS = 50.0
DESCRIPTORS = 8
SAMPLE_S = 0.25
PROBE_S = 0.02
ENOUGH_TASKS = 20_000
"""Below it the slope would be of the noise."""
PURGE_S = 65.0
"""Within this time after its retention is over a task is gone: purging looks once a minute."""
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
_LAG = re.compile(r'^asyncsvc_loop_lag_seconds\{percentile="99"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """`depth`: tasks accepted and not answered, at most; `retention_s`: of finished tasks."""

    tasks: int = 100_000
    depth: int = 1000
    retention_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    answered: int
    memory_mb: float
    upstream: int
    """Connections to the provider, which the service keeps open for the next calls."""
    descriptors: int
    """All others."""


@dataclass
class Seen:
    samples: list[Sample] = field(default_factory=list)
    livez_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def settings(url: str, plan: Plan) -> dict[str, dict[str, Any]]:
    model = {"base_url": f"{url}/v1", "model": "fast", "concurrency": CONCURRENCY}
    return {"models.fast": model}


def provider(folder: Path) -> stage.Child:
    return stage.child(folder, "provider", ["-m", "tests.benchmarks.fast_provider"], "/")


class Soak:
    """One run; `go`, then read `report`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._answered = 0
        self._began = 0.0
        self.seen = Seen()
        self.report = Report(
            f"soak: {plan.tasks:,} tasks, {plan.depth:,} waiting or under way, retention "
            f"{plan.retention_s:g} s",
            ("what", "value"),
        )

    async def go(self) -> None:
        """The whole run."""
        plan = self._plan
        async with stage.workplace() as (folder, client), provider(folder) as fast:
            tables = settings(fast.url, plan)
            tables["storage"] = {
                "path": str(stage.database(folder)),
                "retention_days": plan.retention_s / 86_400,
            }
            service = stage.service(folder, tables)
            async with service:
                self._began = perf_counter()
                cpu_before = service.cpu_s()
                watching = [
                    asyncio.create_task(self._watch(client, service, fast.url)),
                    asyncio.create_task(self._probe(service.port)),
                    asyncio.create_task(self._ask_for_lag(client, service.url)),
                ]
                try:
                    await self._feed(client, service.url)
                    await stage.all_done(client, service.url, 60)
                finally:
                    for task in watching:
                        task.cancel()
                    await asyncio.gather(*watching, return_exceptions=True)
                took = perf_counter() - self._began
                stats = await stage.get(client, f"{service.url}/tasks/stats")
                sample = await stage.get(client, f"{service.url}/tasks?limit=1")
                self._judge(took, service.cpu_s() - cpu_before, stats, sample["tasks"])
                await service.stop()
            self.report.broken += service.faults()[:5]

    async def _feed(self, client: aiohttp.ClientSession, url: str) -> None:
        """Batch after batch, as fast as the depth allows, until all are answered."""
        batch = {"tasks": [{"content": "What time is it?", "model": "fast"}] * BATCH}
        sent, reported = 0, 0
        async with asyncio.timeout(60 + self._plan.tasks / 20):
            while self._answered < self._plan.tasks:
                if sent < self._plan.tasks and sent - self._answered < self._plan.depth:
                    await stage.post(client, f"{url}/tasks/batch", batch)
                    sent += BATCH
                else:
                    await asyncio.sleep(0.01)
                if sent - reported >= 10_000:
                    reported = sent
                    last = self.seen.samples[-1]
                    progress(f"{sent:,} submitted, {last.memory_mb:.0f} MB, {last.at_s:.0f} s")

    async def _watch(
        self, client: aiohttp.ClientSession, service: stage.Child, provider_url: str
    ) -> None:
        """What the system says of the process; the provider says how far it is."""
        process = psutil.Process(service.process.pid)
        port = urlsplit(provider_url).port or 0
        next_sample = 0.0
        while True:
            async with client.get(provider_url) as answer:
                self._answered = int(await answer.text())
            now = perf_counter() - self._began
            if now >= next_sample:
                next_sample = now + SAMPLE_S
                self.seen.samples.append(sample(process, now, self._answered, port))
            await asyncio.sleep(0.02)

    async def _probe(self, port: int) -> None:
        """Whether the service answers at once, fifty times a second."""
        answered = asyncio.Event()

        def take(connection: wire.Connection, status: int) -> None:
            self.seen.livez_s.append(perf_counter() - connection.sent_at)
            if status != 200:
                self.seen.wrong.append(f"GET /livez was answered {status}")
            answered.set()

        line = await wire.connect(port, take)
        try:
            while True:
                answered.clear()
                line.send(LIVEZ, perf_counter())
                await answered.wait()
                await asyncio.sleep(PROBE_S)
        finally:
            line.close()

    async def _ask_for_lag(self, client: aiohttp.ClientSession, url: str) -> None:
        """The service's own 99th percentile of the last minute, where it has one."""
        while True:
            await asyncio.sleep(5)
            async with client.get(f"{url}/metrics") as answer:
                found = _LAG.search(await answer.text())
            if found is not None:
                self.seen.lags_s.append(float(found[1]))

    def _judge(
        self, took: float, cpu_s: float, stats: dict[str, Any], latest: list[dict[str, Any]]
    ) -> None:
        report, plan, seen = self.report, self._plan, self.seen
        report.broken += seen.wrong[:5]
        bad = {s: stats[s] for s in ("failed", "cancelled", "pending", "running") if stats[s]}
        report.require(not bad, f"not all completed: {bad}")
        report.require(
            all(task["result_preview"] == "".join(TEXT) for task in latest),
            f"the latest task says {latest}",
        )
        purged = plan.tasks - stats["total"]
        report.require(purged >= 0, f"{stats['total']} tasks are stored, {plan.tasks} were sent")
        if took > plan.retention_s + PURGE_S:
            report.require(purged > 0, f"nothing was purged in {took:.0f} s")
        report.row("tasks/s", plan.tasks / took)
        report.row("processor share of the service", cpu_s / took)
        report.row("purged meanwhile", purged)
        self._judge_memory()
        self._judge_lag()

    def _judge_memory(self) -> None:
        report, plan = self.report, self._plan
        samples = self.seen.samples
        warm = [s for s in samples if s.answered >= plan.tasks * WARM_UP_SHARE]
        peak = max(s.memory_mb for s in samples)
        report.row("memory at first, MB", samples[0].memory_mb)
        report.row("memory after warm-up, MB", warm[0].memory_mb)
        report.row("memory at the end, MB", warm[-1].memory_mb)
        report.row("peak, MB", peak)
        report.require(peak < PEAK_MB, f"peak of {peak:.0f} MB, allowed are {PEAK_MB:g}")
        fifth = max(len(warm) // 5, 1)
        early = median(s.descriptors for s in warm[:fifth])
        late = median(s.descriptors for s in warm[-fifth:])
        report.row("descriptors after warm-up", early)
        report.row("descriptors at the end", late)
        report.require(late - early <= DESCRIPTORS, f"descriptors grew from {early} to {late}")
        upstream = max(s.upstream for s in samples)
        report.row("connections to the provider, at most", upstream)
        report.require(
            upstream <= CONCURRENCY + DESCRIPTORS, f"{upstream} connections for {CONCURRENCY} calls"
        )
        if plan.tasks >= ENOUGH_TASKS:
            slope = slope_mb(warm)
            report.row("memory per 10,000 tasks after warm-up, MB", slope)
            report.require(slope < SLOPE_MB, f"memory grows by {slope:.2f} MB per 10,000 tasks")

    def _judge_lag(self) -> None:
        report, seen = self.report, self.seen
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            report.row(f"GET /livez, {name} ms", percentile(seen.livez_s, share) * 1000)
        if seen.lags_s:
            lag, by = max(seen.lags_s) * 1000, "the service's own p99 of a minute"
        else:
            lag, by = percentile(seen.livez_s, 0.99) * 1000, "p99 of GET /livez from outside"
        report.row("loop lag, ms", lag)
        report.notes.append(f"loop lag: {by}")
        report.target(lag < LAG_MS, f"loop lag {lag:.1f} ms ({by}), target {LAG_MS:g} ms")


def sample(process: psutil.Process, at_s: float, answered: int, provider_port: int) -> Sample:
    """What the system says of the service.

    Connections to the provider are counted apart: how many there are follows the load, up to the
    limit of calls at once, and a slow machine reaches it late.
    """
    memory = float(process.memory_info().rss) / 1e6
    held = process.num_fds()
    peers = [c.raddr for c in process.net_connections("tcp") if c.raddr]
    upstream = sum(peer.port == provider_port for peer in peers)
    return Sample(at_s, answered, memory, upstream, held - upstream)


def slope_mb(samples: Sequence[Sample]) -> float:
    """Growth of memory per 10,000 tasks, by least squares."""
    if len({s.answered for s in samples}) < 2:
        return 0.0
    fitted = linear_regression([s.answered for s in samples], [s.memory_mb for s in samples])
    return fitted.slope * 10_000


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    soak = Soak(plan)
    began = time.monotonic()
    await soak.go()
    soak.report.row("whole run, s", time.monotonic() - began)
    return soak.report


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=default.tasks)
    parser.add_argument("--depth", type=int, default=default.depth, help="tasks not yet answered")
    parser.add_argument("--retention-s", type=float, default=default.retention_s)
    given = parser.parse_args(argv)
    return uvloop.run(run(Plan(given.tasks, given.depth, given.retention_s))).finish()


if __name__ == "__main__":
    sys.exit(main())
