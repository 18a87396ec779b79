"""Agents that are killed: at each event of a ten-step agent, at random moments, and at the system
calls by which its workspace is put back.

The long form of a release: `python -m tests.benchmarks.agents --kills 200`. The agents, the kills
at random moments and what counts as broken are those of `selftest`.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import uvloop

from asyncsvc.selftest.agents import AT_ONCE, PROFILE, AgentKills, settings
from asyncsvc.selftest.oracle import shortened
from tests.benchmarks import stage, straced
from tests.benchmarks.report import Report, progress

LIFE_S = 10.0
"""A life that has not come to its system call by then is ended all the same."""
SWITCH = ("rename", "fsync", "fdatasync", "mkdir", "unlink", "unlinkat", "rmdir", "openat", "write")
"""System calls by which a workspace is put back."""
SWITCH_MOST = 12


class Killing(AgentKills):
    """Kills at chosen moments beside those at random."""

    at_calls = 0
    """Lives that ended at the system call that was chosen for them."""

    async def at_events(self, every: int) -> None:
        """Kill as each `every`-th event of an agent is seen, one life an event."""
        at, more = 1, True
        while more:
            ids = await self.submit(1)
            more = await self._kill_at_event(ids[0], at)
            await self._next_life(ids)
            at += every
        self.progress(f"{self.seen.lives} kills at events")

    async def at_system_calls(self, kills: int) -> None:
        """Kill while programs run, and the next life at a system call of putting back."""
        service = self.service
        for number in range(kills):
            ids = await self.submit(AT_ONCE)
            await self._kill_in_a_program(ids[0])
            call, nth = self.random.choice(SWITCH), self.random.randint(1, SWITCH_MOST)
            service.under = straced.injecting(call, f"signal=KILL:when={nth}")
            await service.launch()
            with suppress(TimeoutError):
                async with asyncio.timeout(LIFE_S):
                    await service.process.wait()
                self.at_calls += 1
            await service.kill()
            service.under = ()
            await self._next_life(ids)
            if number % 10 == 9:
                self.progress(f"{number + 1} kills at system calls")

    async def _kill_at_event(self, task_id: str, at: int) -> bool:
        """Kill when the event of that number is seen; False where the task ends before."""
        url = self.url(f"/tasks/{task_id}/events")
        async with self.client.get(url, headers={"Accept": "text/event-stream"}) as answer:
            async for line in answer.content:
                if line.startswith(b"id: ") and int(line[4:]) >= at:
                    await self.service.kill()
                    return True
        await self.service.kill()
        return False

    async def _kill_in_a_program(self, task_id: str) -> None:
        """Kill after a program has begun, which writes at once and ends a little later."""
        url = self.url(f"/tasks/{task_id}/events")
        wanted = self.random.randint(1, 5)
        async with self.client.get(url, headers={"Accept": "text/event-stream"}) as answer:
            async for line in answer.content:
                wanted -= b'"checkpoint":"' in line
                if not wanted:
                    break
        await asyncio.sleep(self.random.uniform(0.0, 0.15))
        await self.service.kill()

    async def _next_life(self, ids: Sequence[str]) -> None:
        await self.service.start()
        self.seen.lives += 1
        await self.judge_all(ids)


async def run(every: int, kills: int, calls: int, seed: int) -> Report:
    """The whole benchmark: a kill at each `every`-th event, so many at random moments, and so many
    at system calls."""
    began = time.monotonic()
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, PROFILE) as provider,
        stage.service(folder, settings(folder, provider.url)) as service,
    ):
        killing = Killing(service, folder, client, seed, progress)
        await killing.at_events(every)
        await killing.at_random(kills)
        if (why := straced.missing()) is None:
            await killing.at_system_calls(calls)
        faults = service.faults()
    report = Report(f"agents: killed, seed {seed}", ("what", "value"))
    seen = killing.seen
    report.row("agents of ten steps", seen.agents)
    report.row("kills", seen.lives)
    report.row("of these at a chosen system call", killing.at_calls)
    report.row("workspaces put back", seen.rollbacks)
    report.row("steps that were cut and asked for again", seen.asked_again)
    report.row("whole run, s", time.monotonic() - began)
    report.notes += [f"no kills at system calls: {why}"] if why else []
    report.broken += shortened(seen.faults, "effects")
    report.broken += shortened(faults, "the service's log")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.agents", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill at each so many events")
    parser.add_argument("--kills", type=int, default=200, help="kills at random moments")
    parser.add_argument("--calls", type=int, default=60, help="kills at system calls")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.every, options.kills, options.calls, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
