"""Whether limits that the settings do not name are found, kept and used.

Feeds a saturated queue to one model whose limits only the simulated provider knows, in scaled
time. After a warm-up of some windows it counts: the share of calls that were turned away, and the
calls accepted against what the true rate allows in that time. The provider's own record decides,
not the service's.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from asyncsvc.selftest import oracle
from asyncsvc.storage import audit
from tests.benchmarks import stage
from tests.benchmarks.report import Report, progress

RPM = 40
CONCURRENCY = 2
REFUSED_TARGET = 0.01
USE_TARGET = 0.85
TOKENS = 10
BATCH = 500


@dataclass(frozen=True)
class Scenario:
    """`name` says what the service has to learn; what its settings name is in `given`."""

    name: str
    given: dict[str, Any]
    window_s: float
    warm_up: int
    windows: int

    @property
    def call_s(self) -> float:
        """Two at once can use up the rate with a quarter of the time to spare."""
        return self.window_s * CONCURRENCY / RPM * 0.75

    def profile(self) -> dict[str, dict[str, Any]]:
        return {
            "models.hidden": {
                "concurrency": CONCURRENCY,
                "rpm": RPM,
                "window_s": self.window_s,
                "first_token_s": self.call_s / 2,
                "tokens_per_s": TOKENS / (self.call_s / 2),
                "answer_tokens": TOKENS,
            }
        }

    def settings(self, url: str) -> dict[str, dict[str, Any]]:
        return {
            "models.hidden": {
                "base_url": f"{url}/v1",
                "model": "hidden",
                "rpm_window_s": self.window_s,
                **self.given,
            },
        }


@dataclass(frozen=True)
class Seen:
    """Of the time after the warm-up; `model` is what the service shows at the end."""

    accepted: int
    refused: int
    before: int
    seconds: float
    model: dict[str, Any]
    faults: list[str]


async def play(scenario: Scenario) -> Seen:
    """Keep the queue full for all windows; then look at the provider's record."""
    async with stage.workplace() as (folder, client):
        async with stage.simulator(folder, scenario.profile()) as provider:
            service = stage.service(folder, scenario.settings(provider.url))
            async with service:
                await _submit(client, service.url, RPM * (scenario.warm_up + scenario.windows) * 2)
                await asyncio.sleep(scenario.window_s * (scenario.warm_up + scenario.windows + 0.5))
                shown = await stage.get(client, f"{service.url}/models")
                calls = await stage.all_calls(client, provider.url)
                await service.stop()
        return _seen(scenario, calls, shown["models"][0], _faults(folder, service))


def _seen(
    scenario: Scenario, calls: list[dict[str, Any]], model: dict[str, Any], faults: list[str]
) -> Seen:
    began = calls[0]["arrived_at"] + scenario.warm_up * scenario.window_s
    seconds = scenario.windows * scenario.window_s
    measured = [call for call in calls if began <= call["arrived_at"] < began + seconds]
    early = [call for call in calls if call["arrived_at"] < began]
    refused = [call for call in measured if call["status"] == 429]
    before = sum(call["status"] == 429 for call in early)
    return Seen(len(measured) - len(refused), len(refused), before, seconds, model, faults)


async def _submit(client: aiohttp.ClientSession, url: str, count: int) -> None:
    for first in range(0, count, BATCH):
        tasks = [{"content": f"Question {n}"} for n in range(first, min(first + BATCH, count))]
        await stage.post(client, f"{url}/tasks/batch", {"tasks": tasks})


def _faults(folder: Path, service: stage.Child) -> list[str]:
    ended = [life for life in audit.lives(stage.database(folder)) if life.state == "completed"]
    wrong = [fault for life in ended for fault in oracle.inspect(life, 1)]
    return oracle.shortened(wrong, "task") + oracle.shortened(service.faults(), "log")


def judge(report: Report, scenario: Scenario, seen: Seen) -> None:
    """Put one scenario into the table."""
    report.broken += [f"{scenario.name}: {fault}" for fault in seen.faults]
    share = seen.refused / max(seen.accepted + seen.refused, 1)
    use = seen.accepted / (RPM * scenario.windows)
    report.row(
        scenario.name, seen.accepted + seen.refused, round(seen.seconds, 1), seen.before,
        seen.refused, share, use, seen.model["rpm"], seen.model["concurrency"],
    )  # fmt: skip
    report.target(
        share <= REFUSED_TARGET, f"{scenario.name}: {share:.3f} refused, target {REFUSED_TARGET}"
    )
    report.target(use >= USE_TARGET, f"{scenario.name}: use {use:.3f}, target {USE_TARGET}")


async def run(scenarios: Sequence[Scenario]) -> Report:
    """The whole benchmark."""
    report = Report(
        f"learning: true limits {RPM} calls in a window, {CONCURRENCY} at once",
        (
            *("not set", "calls", "s", "429 in warm-up", "429", "share", "use"),
            *("rpm found", "at once found"),
        ),
    )
    for scenario in scenarios:
        progress(f"{scenario.name}: {scenario.windows} windows of {scenario.window_s:g} s")
        judge(report, scenario, await play(scenario))
    return report


def all_scenarios(window_s: float, warm_up: int, windows: int) -> list[Scenario]:
    both: dict[str, Any] = {"rpm": "auto", "concurrency": "auto"}
    given = {
        "both": both,
        "the rate": both | {"concurrency": CONCURRENCY},
        "concurrency": both | {"rpm": RPM},
    }
    return [Scenario(name, known, window_s, warm_up, windows) for name, known in given.items()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.learning", description=__doc__
    )
    parser.add_argument("--window", type=float, default=6, help="seconds that stand for a minute")
    parser.add_argument("--warm-up", type=int, default=5, help="windows that are not counted")
    parser.add_argument("--windows", type=int, default=15, help="windows that are counted")
    parser.add_argument("--only", help="one scenario: both, the rate or concurrency")
    options = parser.parse_args(argv)
    scenarios = all_scenarios(options.window, options.warm_up, options.windows)
    chosen = [s for s in scenarios if options.only in (None, s.name)]
    return uvloop.run(run(chosen)).finish()


if __name__ == "__main__":
    sys.exit(main())
