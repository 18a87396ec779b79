"""Whether the allowed rate is kept, and whether it is used.

Feeds a saturated queue to one model with a rate limit, in scaled time, with and without
restarts of the service and with a network that delays calls. Broken is any call that the
simulated provider had to turn away. The use of the rate is the time that a schedule needs for
the same number of calls which starts each as soon as a strict window and the slots allow it,
divided by the time that it took: once as if the service had never been away, once with a
schedule that starts nothing in the seconds in which there was no service.
"""

import argparse
import asyncio
import heapq
import random
import signal
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from asyncsvc.clock import now_ms
from asyncsvc.selftest import oracle
from asyncsvc.storage import audit
from tests.benchmarks import stage
from tests.benchmarks.report import Report, progress

RPM = 40
CONCURRENCY = 5
USE_TARGET = 0.95
TOKENS = 20
JITTER_S = 0.05
"""Most delay on the way to the provider, in real time: it does not shrink with the window."""
STOPS = (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Scenario:
    """`call_s` is how long one answer takes."""

    name: str
    window_s: float
    tasks: int
    restarts: int = 0
    jitter_s: float = 0.0
    head: str = "at_once"

    @property
    def call_s(self) -> float:
        return self.window_s / 20

    def profile(self) -> dict[str, dict[str, Any]]:
        """The provider with its limit; half of the call's time goes before the first token."""
        return {
            "models.limited": {
                "concurrency": CONCURRENCY,
                "rpm": RPM,
                "window_s": self.window_s,
                "first_token_s": self.call_s / 2,
                "tokens_per_s": TOKENS / (self.call_s / 2),
                "answer_tokens": TOKENS,
                "network_jitter_s": self.jitter_s,
                "head": self.head,
            }
        }

    def settings(self, url: str) -> dict[str, dict[str, Any]]:
        return {
            "server": {"grace_s": self.call_s / 2},
            "models.limited": {
                "base_url": f"{url}/v1",
                "model": "limited",
                "concurrency": CONCURRENCY,
                "rpm": RPM,
                "rpm_window_s": self.window_s,
            },
        }


@dataclass
class Seen:
    """What one scenario has shown; times are seconds since the epoch."""

    arrivals: list[float] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    violations: dict[str, int] = field(default_factory=dict)
    most_in_window: int = 0
    not_completed: int = 0
    faults: list[str] = field(default_factory=list)


def ideal(
    begin: float, calls: int, scenario: Scenario, outages: Sequence[tuple[float, float]]
) -> float:
    """When the last of so many calls starts where only a strict window and slots hold it up."""
    starts: deque[float] = deque(maxlen=RPM)
    slots = [begin] * CONCURRENCY
    at = begin
    for _ in range(calls):
        at = heapq.heappop(slots)
        if len(starts) == RPM:
            at = max(at, starts[0] + scenario.window_s)
        for down, up in outages:
            if down <= at < up:
                at = up
        starts.append(at)
        heapq.heappush(slots, at + scenario.call_s)
    return at


async def play(scenario: Scenario, seed: int) -> Seen:
    """Submit all, restart as often as asked, wait until all are done."""
    seen = Seen()
    async with stage.workplace() as (folder, client):
        async with stage.simulator(folder, scenario.profile()) as provider:
            service = stage.service(folder, scenario.settings(provider.url))
            async with service:
                await _submit(client, service.url, scenario.tasks)
                await _restart(scenario, service, seen, random.Random(seed))
                await stage.all_done(client, service.url, 60 + 4 * scenario.window_s * 10)
                stats = await stage.get(client, f"{service.url}/tasks/stats")
                seen.not_completed = scenario.tasks - stats["completed"]
                figures = await stage.get(client, f"{provider.url}/_sim/stats")
                await service.stop()
            model = figures["models"]["limited"]
            seen.arrivals = sorted(model["arrivals"])
            seen.violations = model["violations"]
            seen.most_in_window = model["max_in_window"]
        seen.faults = _faults(folder, service)
    return seen


async def _submit(client: aiohttp.ClientSession, url: str, count: int) -> None:
    tasks = [{"content": f"Question {number}", "model": "limited"} for number in range(count)]
    await stage.post(client, f"{url}/tasks/batch", {"tasks": tasks})


async def _restart(
    scenario: Scenario, service: stage.Child, seen: Seen, chance: random.Random
) -> None:
    """Stops spread over the time that the work takes, each at a random moment."""
    loop = asyncio.get_running_loop()
    work_s = (scenario.tasks / RPM - 1) * scenario.window_s
    began = loop.time()
    for number in range(scenario.restarts):
        share = (number + chance.uniform(0.2, 0.9)) / scenario.restarts
        await asyncio.sleep(max(began + share * work_s - loop.time(), 0))
        down = now_ms() / 1000
        await service.send(STOPS[number % len(STOPS)])
        await service.start()
        seen.outages.append((down, now_ms() / 1000))


def _faults(folder: Path, service: stage.Child) -> list[str]:
    wrong = [f for life in audit.lives(stage.database(folder)) for f in oracle.inspect(life, 4)]
    return oracle.shortened(wrong, "task") + oracle.shortened(service.faults(), "log")


def judge(report: Report, scenario: Scenario, seen: Seen) -> None:
    """Put one scenario into the table."""
    report.broken += [f"{scenario.name}: {fault}" for fault in seen.faults]
    report.require(not seen.not_completed, f"{scenario.name}: {seen.not_completed} not completed")
    for kind, count in seen.violations.items():
        report.require(not count, f"{scenario.name}: {count} violations of the {kind} limit")
    begin, end, calls = seen.arrivals[0], seen.arrivals[-1], len(seen.arrivals)
    # Times and not counts are compared: a window opens for a burst, so that a count depends on
    # whether the end falls before or after one.
    whole = (ideal(begin, calls, scenario, ()) - begin) / (end - begin)
    up = (ideal(begin, calls, scenario, seen.outages) - begin) / (end - begin)
    away = sum(late - early for early, late in seen.outages)
    report.row(
        scenario.name, calls, round(end - begin, 1), seen.most_in_window,
        sum(seen.violations.values()), round(away, 2), whole, up,
    )  # fmt: skip
    report.target(up >= USE_TARGET, f"{scenario.name}: use {up:.3f}, target {USE_TARGET}")


async def run(scenarios: Sequence[Scenario], seed: int = 1) -> Report:
    """The whole benchmark."""
    report = Report(
        f"rate: {RPM} calls in a window, {CONCURRENCY} at once",
        ("scenario", "calls", "s", "most in window", "violations", "s down", "use", "use when up"),
    )
    for scenario in scenarios:
        progress(f"{scenario.name}: {scenario.tasks} tasks, window {scenario.window_s:g} s")
        judge(report, scenario, await play(scenario, seed))
    return report


def all_scenarios(window_s: float, windows: int) -> list[Scenario]:
    """Each asks for as many calls as `windows` windows hold."""
    tasks = RPM * windows
    return [
        Scenario("steady", window_s, tasks),
        Scenario("three restarts", window_s, tasks, restarts=3),
        Scenario("network jitter", window_s, tasks, jitter_s=JITTER_S),
        Scenario("jitter, restarts", window_s, tasks, restarts=3, jitter_s=JITTER_S),
        Scenario("late heads", window_s, tasks, head="first_token"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rate", description=__doc__)
    parser.add_argument("--window", type=float, default=6, help="seconds that stand for a minute")
    parser.add_argument("--windows", type=int, default=5, help="how many windows of work")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    scenarios = all_scenarios(options.window, options.windows)
    return uvloop.run(run(scenarios, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
