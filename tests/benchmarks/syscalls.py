"""Kills at exact system calls under load, and the order of syncs and answers.

Promises to end by itself and to leave nothing behind. Each life of the service ends as it
enters its k-th write to the database or its k-th sync; what is left is held against what
clients received, as in `crash.py`. Then a log of all writes, syncs and sends is read: an
acknowledgement that was sent before the sync of its commit is broken.
"""

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from asyncsvc.selftest import oracle
from asyncsvc.selftest.crashes import Crashes, Load
from tests.benchmarks import crash, stage, straced
from tests.benchmarks.report import Report, progress

MOST = {straced.WRITES: 4_000, straced.SYNCS: 120}
"""The highest k: a life under load comes to it in some seconds."""
LIFE_S = 60.0
"""A life that has not come to its k by then is ended all the same, and counted."""
AT_ONCE = 20
LIMIT = (240, 30.0)
"""Calls in seconds of the limited model. A window holds strictly for calls that arrive within a
thirtieth of it after they were noted, and under a tracer a commit alone takes longer than that of a
short one."""


class SystemCalls(Crashes):
    """The load and the evidence of `Crashes`, with other deaths."""

    def __init__(
        self, folder: Path, client: aiohttp.ClientSession, load: Load, reach: float
    ) -> None:
        super().__init__(stage.PROGRAM, folder, client, load, progress)
        self._most = {call: round(most * reach) for call, most in MOST.items()}
        self.hits = dict.fromkeys(MOST, 0)
        self.missed = 0

    async def kill_once(self, service: stage.Child) -> None:
        call = self.random.choice(sorted(MOST))
        # As many early ones as late ones: the first calls open and migrate the database.
        nth = round(math.exp(self.random.uniform(0, math.log(self._most[call]))))
        if self.random.random() < 0.5:
            nth = self.random.randint(1, self._most[call])
        if service.process.returncode is None:
            await service.kill()
            await self.look()
        service.under = straced.injecting(call, f"signal=KILL:when={nth}")
        await self._live(service, call)
        await self.look()

    async def _live(self, service: stage.Child, call: str) -> None:
        loop, lives = asyncio.get_running_loop(), self.evidence.lives
        began = loop.time()
        await service.launch()
        answering = asyncio.create_task(service.answers())
        answering.add_done_callback(
            lambda done: (
                lives.ready_s.append(loop.time() - began)
                if not done.cancelled() and done.exception() is None
                else None
            )
        )
        try:
            async with asyncio.timeout(LIFE_S):
                await service.process.wait()
            self.hits[call] += 1
            lives.early += not answering.done()
        except TimeoutError:
            self.missed += 1
            await service.kill()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def after_kills(self, service: stage.Child) -> None:
        service.under = ()
        self.evidence.lives.ready_s.append(await service.start())


async def ordered(submits: int, report: Report) -> None:
    """Submit under a tracer and read its log."""
    async with stage.workplace() as (folder, client):
        load = Load(0, 0, 1)
        async with stage.simulator(folder, load.profile()) as provider:
            service = stage.service(folder, load.settings(provider.url))
            log = folder / "calls.log"
            service.under = straced.recording(log)
            async with service:
                ids = await _submit(client, service.url, submits)
                await stage.all_done(client, service.url, load.drain_s)
                status = await service.stop()
            report.require(status == 0, f"the traced service ended with status {status}")
            with log.open(encoding="utf-8", errors="replace") as lines:
                found = straced.order(lines, ids)
    report.row("submits in the log of system calls", found.acknowledged)
    report.row("commits in it", found.commits)
    report.row("syncs of the log in it", found.syncs)
    report.row("acknowledged before their sync", len(found.exceptions))
    report.require(
        found.acknowledged == len(ids) == submits,
        f"{submits} submits, {len(ids)} acknowledged, {found.acknowledged} found in the log",
    )
    report.broken += oracle.shortened(found.exceptions, "order")


async def _submit(client: aiohttp.ClientSession, url: str, submits: int) -> list[str]:
    """Some at once, so that commits hold several; some wait, some stream meanwhile."""
    ids: list[str] = []
    numbers = iter(range(submits))

    async def one_after_another() -> None:
        for number in numbers:
            body: dict[str, Any] = {"content": f"Question {number}", "model": "quick"}
            if number % 3:
                body["delay_s"] = 0.5
            ids.append((await stage.post(client, f"{url}/tasks", body))["task_id"])

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return ids


async def run(kills: int, rate: float, seed: int, submits: int, reach: float = 1.0) -> Report:
    """The whole benchmark; `reach` shortens the lives."""
    began = time.monotonic()
    title = f"syscalls: {kills} kills at {rate:g} submits/s, seed {seed}"
    report = Report(title, ("what", "value"))
    async with stage.workplace() as (folder, client):
        calls = SystemCalls(folder, client, Load(kills, rate, seed, *LIMIT), reach)
        crash.judge(report, await calls.go())
    for call, count in calls.hits.items():
        report.row(f"killed at {call}", count)
    report.row("of them before it took tasks", calls.evidence.lives.early)
    report.require(not calls.missed, f"{calls.missed} lives did not come to their kill")
    progress(f"{submits} submits under a tracer")
    await ordered(submits, report)
    report.row("whole run, s", time.monotonic() - began)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.syscalls", description=__doc__
    )
    parser.add_argument("--kills", type=int, default=80)
    parser.add_argument("--rate", type=float, default=50, help="submits per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--submits", type=int, default=1000, help="whose order is looked at")
    options = parser.parse_args(argv)
    if lacking := straced.missing():
        parser.error(lacking)
    benchmark = run(options.kills, options.rate, options.seed, options.submits)
    return uvloop.run(benchmark).finish()


if __name__ == "__main__":
    sys.exit(main())
