"""One streaming task with a thousand followers, beside a bare broadcast of the same events.

The provider streams faster than a thousand sockets can be served, so that the service is at its
limit; the bare endpoint then sends the same stored chunk events to as many sockets. The rate is
chunk events delivered per second from the first arrival to the last. Clients are raw sockets that
count frames and cost a small part of what the servers do. Broken is a follower that gets another
number of chunk events than are stored.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, cast

import aiohttp
import uvloop

from tests.benchmarks import stage
from tests.benchmarks.report import Report, progress
from tests.benchmarks.slow_readers import head
from tests.benchmarks.stage import HOST, Child

RATIO_TARGET = 0.7
CHUNK, LAST = b'"type":"chunk"', b'"status":"completed"'
OPENING_S = 5.0
"""When the first token comes: time for a thousand clients to connect."""
MOST_S = 120.0


@dataclass(frozen=True)
class Plan:
    followers: int = 1000
    tokens: int = 200
    rate: float = 200
    rounds: int = 3

    @property
    def first_s(self) -> float:
        return max(OPENING_S * self.followers / 1000, 0.5)


class Counter(asyncio.Protocol):
    """A WebSocket client that counts chunk events; `opened` after the handshake, `ended` after
    the task's last event or at the loss of the connection."""

    def __init__(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.chunks, self.bytes = 0, 0
        self.first, self.last = 0.0, 0.0
        self._path = path
        self._rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(head(self._path))

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        self.bytes += len(data)
        whole = self._rest + data
        if found := whole.count(CHUNK):
            self.last = perf_counter()
            self.first = self.first or self.last
            self.chunks += found
        if LAST in whole and not self.ended.done():
            self.ended.set_result(None)
        self._rest = cut_word(whole)

    def connection_lost(self, _: Exception | None) -> None:
        for future in (self.opened, self.ended):
            if not future.done():
                future.set_result(None)


def cut_word(data: bytes) -> bytes:
    """The end of what was read in which a word that is looked for may have begun."""
    for size in range(len(LAST) - 1, 0, -1):
        if data.endswith(LAST[:size]) or (size < len(CHUNK) and data.endswith(CHUNK[:size])):
            return data[-size:]
    return b""


@asynccontextmanager
async def connected(port: int, path: str, count: int) -> AsyncIterator[list[Counter]]:
    """So many clients whose handshake is done."""
    loop = asyncio.get_running_loop()
    counters: list[Counter] = []
    try:
        for _ in range(count):
            _, counter = await loop.create_connection(lambda: Counter(path), HOST, port)
            counters.append(counter)
        async with asyncio.timeout(MOST_S):
            await asyncio.gather(*(counter.opened for counter in counters))
        yield counters
    finally:
        for counter in counters:
            if counter.transport is not None:
                counter.transport.abort()


async def ended(counters: Sequence[Counter]) -> float:
    """Wait for the last event of each; chunk events delivered per second."""
    async with asyncio.timeout(MOST_S):
        await asyncio.gather(*(counter.ended for counter in counters))
    took = max(each.last for each in counters) - min(each.first for each in counters)
    return sum(counter.chunks for counter in counters) / max(took, 1e-9)


async def _ours(
    report: Report, plan: Plan, client: aiohttp.ClientSession, service: Child
) -> tuple[float, float, list[str]]:
    """(deliveries/s, processor seconds per 1,000 deliveries, the stored chunk events)."""
    body = {"content": f"Tell [[sim:tokens={plan.tokens}]]", "model": "streams"}
    task = (await stage.post(client, f"{service.url}/tasks", body))["task_id"]
    async with connected(service.port, f"/ws/tasks/{task}", plan.followers) as counters:
        before = service.cpu_s()
        rate = await ended(counters)
        used = service.cpu_s() - before
    async with client.get(f"{service.url}/tasks/{task}/events?after=0") as answer:
        lines = (await answer.text()).splitlines()
    chunks = [line for line in lines if CHUNK.decode() in line]
    wrong = sum(counter.chunks != len(chunks) for counter in counters)
    report.require(not wrong, f"{wrong} followers did not get the {len(chunks)} stored chunks")
    return rate, 1000 * used / (len(chunks) * plan.followers), [*chunks, lines[-1]]


async def _bare(
    report: Report, plan: Plan, client: aiohttp.ClientSession, yardstick: Child, events: list[str]
) -> tuple[float, float]:
    """(deliveries/s, processor seconds per 1,000 deliveries)."""
    async with connected(yardstick.port, "/ws", plan.followers) as counters:
        before = yardstick.cpu_s()
        sending = asyncio.create_task(_go(client, yardstick, events))
        rate = await ended(counters)
        await sending
        used = yardstick.cpu_s() - before
    wrong = sum(counter.chunks != len(events) - 1 for counter in counters)
    report.require(not wrong, f"{wrong} clients of the bare endpoint did not get all")
    return rate, 1000 * used / ((len(events) - 1) * plan.followers)


async def _go(client: aiohttp.ClientSession, yardstick: Child, events: list[str]) -> None:
    timeout = aiohttp.ClientTimeout(total=MOST_S)
    async with client.post(f"{yardstick.url}/go", json=events, timeout=timeout) as answer:
        answer.raise_for_status()


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"fanout: one task of {plan.tokens} tokens at {plan.rate:g}/s to {plan.followers:,} "
        "followers",
        ("what", "service", "bare broadcast", "ratio"),
    )
    pairs: list[tuple[float, float]] = []
    costs: list[tuple[float, float]] = []
    profile: dict[str, dict[str, Any]] = {
        "models.streams": {"first_token_s": plan.first_s, "tokens_per_s": plan.rate}
    }
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, profile) as provider,
        stage.service(folder, settings(provider.url, plan.followers)) as service,
        stage.child(
            folder, "bare", ["-m", "tests.benchmarks.bare_broadcast"], "/readyz"
        ) as yardstick,
    ):
        for number in range(plan.rounds):
            rate, cost, events = await _ours(report, plan, client, service)
            bare_rate, bare_cost = await _bare(report, plan, client, yardstick, events)
            pairs.append((rate, bare_rate))
            costs.append((cost, bare_cost))
            name = f"round {number + 1}, {len(events) - 1} events"
            report.row(f"{name}, deliveries/s", rate, bare_rate, rate / bare_rate)
            progress(f"{name}: {rate:.0f}/s, bare {bare_rate:.0f}/s")
        report.row("memory MB", service.memory_mb(), yardstick.memory_mb(), "")
        report.broken += service.faults()
    ours, bare = (median(cost[side] for cost in costs) for side in (0, 1))
    report.row("processor s per 1,000 deliveries", ours, bare, bare / max(ours, 1e-9))
    ratio = median(rate / bare_rate for rate, bare_rate in pairs)
    report.target(ratio >= RATIO_TARGET, f"{ratio:.2f} of a bare broadcast, target {RATIO_TARGET}")
    return report


def settings(url: str, followers: int) -> dict[str, dict[str, Any]]:
    model = {"base_url": f"{url}/v1", "model": "streams", "concurrency": 1}
    return {"models.streams": model, "server": {"max_connections": followers + 100}}


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fanout", description=__doc__)
    parser.add_argument("--followers", type=int, default=default.followers)
    parser.add_argument("--tokens", type=int, default=default.tokens)
    parser.add_argument("--rate", type=float, default=default.rate, help="tokens per second")
    parser.add_argument("--rounds", type=int, default=default.rounds)
    given = parser.parse_args(argv)
    return uvloop.run(run(Plan(given.followers, given.tokens, given.rate, given.rounds))).finish()


if __name__ == "__main__":
    sys.exit(main())
