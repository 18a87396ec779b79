"""The whole self-test: disk, sandbox, kills under load, database, killed agents, clock.

Owns the scratch folder, the order of the parts and the result. Promises that no database, provider
or key of the user is touched, and that nothing is left behind: the processes end with the block
they are started in, the folder is removed.
"""

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from asyncsvc import sandbox
from asyncsvc.config.settings import Tools
from asyncsvc.errors import AsyncsvcError
from asyncsvc.selftest import agents, checks, disk, processes
from asyncsvc.selftest.agents import AgentKills
from asyncsvc.selftest.checks import Check, Outcome
from asyncsvc.selftest.clocks import ClockWatch
from asyncsvc.selftest.crashes import Crashes, Load
from asyncsvc.selftest.processes import Program
from asyncsvc.storage import audit

PREFIX = "asyncsvc-selftest-"
NEEDED_BYTES = 300 << 20
"""Free disk that a run may need; it uses some tens of megabytes."""
REMOVE_TRIES, REMOVE_WAIT_S = 20, 0.1
FAILURES = (
    AsyncsvcError, OSError, aiohttp.ClientError, audit.UNREADABLE, ValueError, LookupError,
)  # fmt: skip
"""What a part may end with on a machine or with a service that does not hold: it does not start, or
what it has stored or answered cannot be read."""
NOT_PROVED = (
    "a power cut: what was synced survives a kill for certain, and a power cut only where the "
    "disk keeps its promise; to know, pull the plug of a machine that you can spare",
    "your providers: the limits held against a simulated one, on this machine",
    "what takes days: a run is a minute",
)


@dataclass(frozen=True)
class Plan:
    """How much is tried."""

    kills: int = 20
    seed: int = 1
    per_s: float = 20.0
    rpm: int = 20
    window_s: float = 6.0
    drain_s: float = 120.0

    @property
    def agent_kills(self) -> int:
        """A few: a life with agents takes longer."""
        return min(max(self.kills // 6, 1), 10)

    @property
    def load(self) -> Load:
        """Of the service without agents."""
        return Load(
            self.kills, self.per_s, self.seed, self.rpm, self.window_s,
            most_unanswered=40, drain_s=self.drain_s,
        )  # fmt: skip


@dataclass
class Result:
    """The lines of the page, and the verdict."""

    folder: Path
    plan: Plan
    checks: list[Check] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.outcome is Outcome.FAILED]

    @property
    def look(self) -> list[Check]:
        return [check for check in self.checks if check.outcome is Outcome.LOOK]


@contextmanager
def scratch(parent: Path, keep: bool) -> Generator[Path]:
    """A new folder in `parent`, removed at the end unless it is to `keep`."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
    try:
        yield folder
    finally:
        if not keep:
            _remove(folder)


def _remove(folder: Path) -> None:
    # Who presses Ctrl-C twice wants an end, and not a folder that is left.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(REMOVE_TRIES):
            # A program that a kill has cut off may still write for a moment.
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(REMOVE_WAIT_S)
    finally:
        signal.signal(signal.SIGINT, before)


class SelfTest:
    """One run in `folder`; `program` starts the service and the simulated provider."""

    def __init__(
        self, program: Program, folder: Path, plan: Plan, progress: Callable[[str], None]
    ) -> None:
        self._program = program
        self._folder = folder
        self._plan = plan
        self._progress = progress
        self._clock = ClockWatch()
        self._synced: list[float] = []
        self.result = Result(folder.parent, plan)

    async def go(self) -> Result:
        """The whole run."""
        began = time.monotonic()
        watching = asyncio.create_task(self._clock.run())
        try:
            async with processes.session() as client:
                await self._disk()
                held = await self._sandbox()
                await self._kills(client)
                if held:
                    await self._agents(client)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self.result.checks.append(self._clock.judge())
        self.result.took_s = round(time.monotonic() - began, 1)
        return self.result

    def _add(self, *found: Check) -> None:
        self.result.checks += found

    async def _disk(self) -> None:
        self._progress("disk")
        self._synced = await asyncio.to_thread(disk.measure, self._folder)
        self._add(disk.of_disk(self._synced, await asyncio.to_thread(disk.place, self._folder)))

    async def _sandbox(self) -> bool:
        """Whether there is one, so that agents can be tried."""
        self._progress("sandbox")
        chosen = await sandbox.choose(Tools(workspace=str(self._folder / "sandbox")))
        tried = "a program that tries to get out of the sandbox"
        if isinstance(chosen, sandbox.Unavailable):
            refused = "tools of agents that run programs are refused here"
            self._add(checks.hint("sandbox", tried, refused, [chosen.reason]))
            return False
        self._add(checks.hint("sandbox", tried, f"{chosen.name}: it does not get out"))
        return True

    async def _kills(self, client: aiohttp.ClientSession) -> None:
        folder, load = self._folder / "tasks", self._plan.load
        folder.mkdir()
        self._progress("kills: the first start")
        run = Crashes(self._program, folder, client, load, self._progress)
        try:
            evidence = await run.go()
            found = await audit.write_settings(processes.database(folder))
        except FAILURES as error:
            tried = "the service killed at random moments under load"
            self._add(checks.of_failure("kills", tried, error))
            return
        self._add(*checks.of_run(evidence, load, self._clock.stall_s))
        self._add(disk.of_acknowledgements(evidence.ledger.acknowledged_s, self._synced))
        self._add(checks.of_database(evidence.integrity, found, sys.platform == "darwin"))

    async def _agents(self, client: aiohttp.ClientSession) -> None:
        folder = self._folder / "agents"
        folder.mkdir()
        self._progress("agents: the first start")
        try:
            async with self._program.simulator(folder, agents.PROFILE) as provider:
                settings = agents.settings(folder, provider.url)
                async with self._program.service(folder, settings) as service:
                    killing = AgentKills(service, folder, client, self._plan.seed, self._progress)
                    await killing.at_random(self._plan.agent_kills)
                    faults = service.faults()
        except FAILURES as error:
            self._add(checks.of_failure("agents", "agents killed while their tools run", error))
            return
        finally:
            # The last service has no other after it, which would end what a kill has left.
            with suppress(OSError):
                await asyncio.to_thread(sandbox.end_leftovers, str(folder / "workspaces"))
        self._add(checks.of_agents(killing.seen, faults))


def verdict(result: Result) -> str:
    """The last line of the page."""
    count, amount = len(result.checks), f"({result.plan.kills} kills, {result.took_s:.0f} s)"
    if result.failed:
        names = ", ".join(check.name for check in result.failed)
        broken = any(check.done for check in result.failed)
        how = "NOT durable" if broken else "NOT shown to be durable"
        return f"{how} on this machine: {len(result.failed)} of {count} fail: {names}"
    if result.look:
        names = ", ".join(check.name for check in result.look)
        return f"durable on this machine: none of {count} fails, look at {names} {amount}"
    return f"durable on this machine: all {count} hold {amount}"
