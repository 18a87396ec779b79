"""The service as a process of its own, and the simulated provider beside the test, on free ports.

Each process is ended by its own pid, however a test ends; all waits are bounded; what a process
wrote to stderr is in `Process.log`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from asyncsvc.simulator import Profile, running
from tests.web.serving import Client, local_client

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Process:
    """A process that has printed its first line, or has ended without one (`line` is empty)."""

    child: asyncio.subprocess.Process
    line: str
    log_path: Path
    traced: bool = False
    """`child` is a tracer, which takes no signals for itself."""

    @property
    def pid(self) -> int:
        """The process itself."""
        if not self.traced:
            return self.child.pid
        return int(psutil.Process(self.child.pid).children()[0].pid)

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """The exit status, once it has ended by itself."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.child.wait()

    async def kill(self) -> None:
        """End it as a power cut would, without any chance to tidy up."""
        with suppress(ProcessLookupError, psutil.NoSuchProcess, IndexError):
            self.send(signal.SIGKILL)
        await self.ended()


@asynccontextmanager
async def process(log_path: Path, *argv: str, under: Sequence[str] = ()) -> AsyncIterator[Process]:
    """`python ARGV…` until the block ends, started by the command `under`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCSVC_")}
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        child = await asyncio.create_subprocess_exec(
            *under, sys.executable, *argv, cwd=ROOT, env=kept,
            stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    finally:
        os.close(log)
    assert child.stdout is not None
    running = Process(child, "", log_path, bool(under))
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = (await child.stdout.readline()).decode().strip()
        running = Process(child, line, log_path, bool(under))
        yield running
    finally:
        if child.returncode is None:
            await running.kill()


@dataclass(frozen=True)
class Provider:
    """The simulated provider, which outlives the service."""

    url: str
    http: httpx.AsyncClient

    async def calls(self, marker: str) -> list[dict[str, Any]]:
        """The calls of the prompts with this [[id:…]], in order of arrival."""
        calls = (await self.http.get("/_sim/calls")).json()["calls"]
        return [call for call in calls if call["marker"] == marker]


@dataclass(frozen=True)
class Remote(Client):
    """A service in a process of its own."""

    process: Process


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """A simulator in this process, without limits, twelve tokens an answer."""
    async with running(Profile.parse({"default": {"answer_tokens": 12}})) as simulator:
        url = simulator.base_url.removesuffix("/v1")
        async with local_client(url) as http:
            yield Provider(url, http)


def settings(
    folder: Path,
    url: str,
    grace_s: float = 0.0,
    concurrency: int = 4,
    database: Path | None = None,
    disk_free_mb: int = 0,
) -> Path:
    """A settings file with the model `fast` and a database in the folder, or elsewhere. With
    0 MB to be kept free only a write that fails tells that the disk is full."""
    path = folder / "settings.toml"
    path.write_text(
        f"""
[server]
port = 0
grace_s = {grace_s}
[storage]
path = "{database or folder / "tasks.db"}"
[limits]
disk_free_mb = {disk_free_mb}
loop_lag_ms = 0
[models.fast]
base_url = "{url}/v1"
model = "sim"
concurrency = {concurrency}
""",
        encoding="utf-8",
    )
    return path


def start(path: Path, under: Sequence[str] = ()) -> Any:
    """The service's process, as a context; its first line is the URL."""
    log = path.with_name("service.log")
    return process(log, "-m", "tests.flows.serve", str(path), under=under)


@asynccontextmanager
async def service(path: Path, under: Sequence[str] = ()) -> AsyncIterator[Remote]:
    """The service with these settings, which must start."""
    async with start(path, under) as running:
        assert running.line.startswith("http://"), running.log
        async with local_client(running.line, PATIENCE_S) as http:
            yield Remote(running.line, http, running)
