"""The audit of the limits: three models under kills, cancellations and refusals.

Keeps a queue full for minutes while the service is killed, tasks are cancelled as they wait and
as they run, and a fifth of all calls is answered with 429 and a Retry-After. The verdict comes
from the provider's own log of arrivals. Broken is a window with more arrivals than `rpm`, a
moment with more calls in flight than `concurrency`, a task that was accepted and lost, or one
that ended otherwise than it should.

What the limits allow: the time that a schedule needs for the same calls, in the same order and
each as long as it was, which starts every call at the first moment that a strict window, the
slots, the provider's demanded pauses (from a 429 until its Retry-After is over) and the outages
(from a kill until `/readyz`) leave to it. There is waiting work all the time, which is checked.
The use is that time divided by the time that the service took.
"""

import argparse
import asyncio
import heapq
import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from asyncsvc.clock import now_ms
from asyncsvc.selftest import clients, oracle
from asyncsvc.selftest.records import Ledger
from asyncsvc.storage import audit
from tests.benchmarks import stage
from tests.benchmarks.report import Report, progress

USE_TARGET = 0.95
CANCELLED_SHARE = 0.2
REFUSED_SHARE = 0.2
TOKENS = 10
MARGIN = 1.7
"""More work than the limits could ever let through, cancellations included."""
BATCH = 500
LIMITS: dict[str, tuple[int, int, float]] = {
    "window": (5, 40, 1 / 20),
    "slot": (1, 40, 1 / 20),
    "both": (3, 60, 1 / 20),
}
"""Name → calls at once, calls in a window, the length of a call as a share of the window: one
is held up by its window, one by its only slot, one by both alike."""


@dataclass(frozen=True)
class Plan:
    """`window_s` stands for the minute in which a provider counts."""

    window_s: float
    windows: float
    kills: int
    seed: int = 1

    @property
    def seconds(self) -> float:
        return self.window_s * self.windows

    @property
    def pause_s(self) -> float:
        """What a 429 asks for: a second where the window is a minute."""
        return self.window_s / 60

    def profile(self) -> dict[str, dict[str, Any]]:
        return {f"models.{name}": self._provider(*limit) for name, limit in LIMITS.items()}

    def _provider(self, concurrency: int, rpm: int, share: float) -> dict[str, Any]:
        half = self.window_s * share / 2
        return {
            "concurrency": concurrency,
            "rpm": rpm,
            "window_s": self.window_s,
            "first_token_s": half,
            "tokens_per_s": TOKENS / half,
            "answer_tokens": TOKENS,
            "faults": {f"429-after={self.pause_s:g}": REFUSED_SHARE},
        }

    def settings(self, url: str) -> dict[str, dict[str, Any]]:
        return {
            f"models.{name}": {
                "base_url": f"{url}/v1",
                "model": name,
                "concurrency": concurrency,
                "rpm": rpm,
                "rpm_window_s": self.window_s,
            }
            for name, (concurrency, rpm, _) in LIMITS.items()
        }


@dataclass
class Seen:
    """Times are seconds since the epoch, by one clock for all processes."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    cancelled_running: int = 0
    ended_at: float = 0.0
    wrong: list[str] = field(default_factory=list)


def allowed(
    calls: Sequence[dict[str, Any]],
    concurrency: int,
    rpm: int,
    window_s: float,
    pause_s: float,
    outages: Sequence[tuple[float, float]],
) -> float:
    """Seconds from the first to the last start of the schedule that the docstring describes."""
    ordered = sorted(calls, key=lambda call: float(call["arrived_at"]))
    begin = at = float(ordered[0]["arrived_at"])
    starts: deque[float] = deque(maxlen=rpm)
    slots = [begin] * concurrency
    closed = sorted(outages)
    for call in ordered:
        at = max(at, heapq.heappop(slots))
        if len(starts) == rpm:
            at = max(at, starts[0] + window_s)
        for down, up in closed:
            if down <= at < up:
                at = up
        length = float(call["finished_at"]) - float(call["arrived_at"])
        if call["status"] == 429:
            closed = sorted([*closed, (at + length, at + length + pause_s)])
        starts.append(at)
        heapq.heappush(slots, at + length)
    return at - begin


class Run:
    """One run; `go`, then read `report`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._to_cancel: set[str] = set()
        self.seen = Seen()
        self.report = Report(
            f"rate audit: {plan.windows:g} windows of {plan.window_s:g} s, {plan.kills} kills, "
            f"{CANCELLED_SHARE:.0%} cancelled, {REFUSED_SHARE:.0%} answered 429, seed {plan.seed}",
            ("model", "at once", "rpm", "arrivals", "429", "most in window", "most at once",
             "allowed s", "took s", "use"),
        )  # fmt: skip

    async def go(self) -> None:
        """The whole run."""
        plan = self._plan
        async with stage.workplace() as (folder, client):
            async with stage.simulator(folder, plan.profile()) as provider:
                service = stage.service(folder, plan.settings(provider.url))
                async with service:
                    await self._fill(client, service.url)
                    await self._time(client, service)
                    await self._account(client, service.url, provider.url)
                    await service.kill()
            self._look(folder, service)
        self._judge()

    async def _fill(self, client: aiohttp.ClientSession, url: str) -> None:
        """As many tasks as no schedule could start; a tenth of them will be cancelled as they
        wait, a tenth as they run."""
        number = 0
        for name, (concurrency, rpm, share) in LIMITS.items():
            a_window = min(rpm, concurrency / share)
            count = int(a_window * (self._plan.windows + 1) * MARGIN) + 10
            tasks = [
                {"content": f"Question {number + i} [[id:a{number + i}]]", "model": name}
                for i in range(count)
            ]
            for start in range(0, count, BATCH):
                part = tasks[start : start + BATCH]
                answer = await stage.post(client, f"{url}/tasks/batch", {"tasks": part})
                for offset, task in enumerate(answer["tasks"]):
                    self.seen.ledger.accepted[f"a{number + start + offset}"] = task["task_id"]
            number += count

    async def _time(self, client: aiohttp.ClientSession, service: stage.Child) -> None:
        """Kills spread over the time, cancellations all the while."""
        loop = asyncio.get_running_loop()
        plan, began = self._plan, loop.time()
        cancelling = asyncio.create_task(self._cancel(client, service.url, began))
        try:
            for number in range(plan.kills):
                share = (number + self._random.uniform(0.2, 0.9)) / plan.kills
                await asyncio.sleep(max(began + share * plan.seconds - loop.time(), 0))
                down = now_ms() / 1000
                await service.kill()
                await service.start()
                self.seen.outages.append((down, now_ms() / 1000))
                progress(f"kill {number + 1} of {plan.kills}")
            await asyncio.sleep(max(began + plan.seconds - loop.time(), 0))
        finally:
            cancelling.cancel()
            await asyncio.gather(cancelling, return_exceptions=True)
        self.seen.ended_at = now_ms() / 1000

    async def _cancel(self, client: aiohttp.ClientSession, url: str, began: float) -> None:
        """Cancel a tenth evenly from those that wait, and a tenth of those seen running."""
        loop = asyncio.get_running_loop()
        ids = list(self.seen.ledger.accepted.values())
        self._random.shuffle(ids)
        waiting = ids[: int(len(ids) * CANCELLED_SHARE / 2)]
        running = set(ids[len(waiting) : 2 * len(waiting)])
        every = self._plan.seconds / max(len(waiting), 1)
        for number, task_id in enumerate(waiting):
            await clients.cancel(client, url, task_id, self.seen.ledger)
            try:
                under_way = await stage.get(client, f"{url}/tasks?status=running&limit=50")
            except (*clients.CUT, aiohttp.ClientResponseError):
                under_way = {"tasks": []}
            for task in under_way["tasks"]:
                if task["task_id"] in running:
                    running.discard(task["task_id"])
                    self.seen.cancelled_running += 1
                    await clients.cancel(client, url, task["task_id"], self.seen.ledger)
            await asyncio.sleep(max(began + (number + 1) * every - loop.time(), 0))

    async def _account(self, client: aiohttp.ClientSession, url: str, provider: str) -> None:
        stats = await stage.get(client, f"{url}/tasks/stats")
        for name in LIMITS:
            pending = await stage.get(client, f"{url}/tasks?status=pending&model={name}&limit=1")
            self.seen.left[name] = len(pending["tasks"])
        self.seen.figures = await stage.get(client, f"{provider}/_sim/stats")
        self.seen.figures["tasks"] = stats
        self.seen.calls = await stage.all_calls(client, provider)

    def _look(self, folder: Path, service: stage.Child) -> None:
        """Hold the database of the dead service against what the clients received."""
        seen = self.seen
        database = stage.database(folder)
        lives = audit.lives(database)
        by_id = {life.task_id: life for life in lives}
        lost = sorted(set(seen.ledger.accepted.values()) - by_id.keys())
        seen.wrong += oracle.shortened(lost, "accepted and lost")
        seen.wrong += oracle.shortened(seen.ledger.odd, "odd answers")
        ended = [life for life in lives if life.state in ("completed", "failed", "cancelled")]
        seen.wrong += oracle.shortened(
            [fault for life in ended for fault in oracle.inspect(life, 4)], "task"
        )
        failed = [f"{life.task_id}: {life.error}" for life in ended if life.state == "failed"]
        seen.wrong += oracle.shortened(failed, "failed")
        kept = [i for i in seen.ledger.cancelled if by_id[i].state != "cancelled"]
        seen.wrong += oracle.shortened(kept, "cancelled and went on")
        seen.wrong += oracle.shortened(service.faults(), "the service's log")
        checked = audit.integrity(database)
        seen.wrong += [] if checked == "ok" else [f"integrity check: {checked}"]

    def _judge(self) -> None:
        report, seen = self.report, self.seen
        report.broken += seen.wrong
        for name in LIMITS:
            self._judge_model(name)
        tasks = seen.figures["tasks"]
        away = sum(up - down for down, up in seen.outages)
        report.notes.append(
            f"{len(seen.ledger.accepted)} tasks accepted, {tasks['completed']} completed, "
            f"{len(seen.ledger.cancelled)} cancelled ({seen.cancelled_running} of them tried "
            f"while running), {len(seen.outages)} kills, {away:.1f} s away"
        )

    def _judge_model(self, name: str) -> None:
        report, seen, plan = self.report, self.seen, self._plan
        concurrency, rpm, _ = LIMITS[name]
        mine = [c for c in seen.calls if c["model"] == name and c["arrived_at"] < seen.ended_at]
        arrivals = [float(call["arrived_at"]) for call in mine]
        report.require(len(mine) > 1, f"{name}: hardly a call was made")
        if len(mine) < 2:
            return
        rejected = seen.figures["models"][name]["violations"]
        for kind, count in rejected.items():
            report.require(not count, f"{name}: {count} calls turned away by the {kind} limit")
        most, at_once = oracle.most_within(arrivals, plan.window_s), oracle.most_at_once(mine)
        report.require(most <= rpm, f"{name}: {most} arrivals in one window, allowed are {rpm}")
        report.require(
            at_once <= concurrency, f"{name}: {at_once} at once, allowed are {concurrency}"
        )
        report.require(seen.left[name] > 0, f"{name}: the queue ran dry, the use says nothing")
        for call in mine:
            call["finished_at"] = min(call["finished_at"] or seen.ended_at, seen.ended_at)
        needs = allowed(mine, concurrency, rpm, plan.window_s, plan.pause_s, seen.outages)
        took = max(arrivals) - min(arrivals)
        refused = sum(call["status"] == 429 for call in mine)
        report.require(refused > 0, f"{name}: no call was answered 429")
        report.row(name, concurrency, rpm, len(mine), refused, most, at_once,
                   round(needs, 1), round(took, 1), needs / took)  # fmt: skip
        report.target(needs / took >= USE_TARGET, f"{name}: use {needs / took:.3f}")


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    audited = Run(plan)
    await audited.go()
    return audited.report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.rate_audit", description=__doc__
    )
    parser.add_argument("--window-s", type=float, default=60, help="length of the windows")
    parser.add_argument("--minutes", type=float, default=10, help="length of the whole run")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    windows = options.minutes * 60 / options.window_s
    plan = Plan(options.window_s, windows, options.kills, options.seed)
    return uvloop.run(run(plan)).finish()


if __name__ == "__main__":
    sys.exit(main())
