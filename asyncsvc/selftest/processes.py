"""The service and the simulated provider as processes in a folder of their own.

Owns ports, files of settings and children. Promises that every child is gone when its block is
left, however that comes about, and that only children are ever signalled. Measures nothing but the
time until a child answers.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import psutil

from asyncsvc.errors import AsyncsvcError

HOST = "127.0.0.1"
PORTS = (20_000, 32_000)
"""Below the range that systems hand out by themselves: a client that keeps calling a dead
server there may be given that very port and connect to itself, and the port is then taken."""
READY_S = 120.0
"""A start takes a second; on a machine with ten times the work it can do, a minute."""
STOP_S = 60.0
POLL_S = 0.003
PROBE_S = 10.0
"""Of one question whether it is ready."""
FAULTY = ("Traceback", "a fault of ours", "a commit failed", "died and is replaced")
"""What the service's log must not hold after any run."""


def free_port() -> int:
    """A port that no process listens on now."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """A file of tables; a name with dots is a table in a table."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


class NotReady(AsyncsvcError):
    """A child ended or did not answer; the message has its last words."""


class Child:
    """A process that answers HTTP; it can be started again on the same port."""

    def __init__(
        self, folder: Path, name: str, argv: Sequence[str], ready: str, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.ready_s = 0.0
        """How long the latest start took."""
        self.most_ready_s = READY_S
        self.environ: dict[str, str] = {}
        """Variables of its environment beside those of this process."""
        self.log = folder / f"{name}.log"
        self.under: Sequence[str] = ()
        """A command that starts it in its turn, such as a tracer."""
        self._argv = [*argv, "--port", str(self.port)]
        self._ready = ready
        self._cwd = cwd or folder
        self._last_answer = "it was not asked"
        self._process: asyncio.subprocess.Process | None = None

    async def launch(self) -> None:
        """Start it and do not wait until it answers.

        Its stdin ends with this process, by which a child may know that it is left alone.
        """
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCSVC_")}
        environ |= self.environ
        with self.log.open("ab") as log:
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *self.under, *self._argv, cwd=self._cwd, env=environ,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=log,
                )
            )  # fmt: skip
            try:
                self._process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                # uvloop kills a process whose start is cancelled and does not wait for its end.
                self._process = await starting
                raise

    async def start(self) -> float:
        """Start it; the seconds until it answered. Raises NotReady."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.launch()
        await self.answers()
        self.ready_s = loop.time() - began
        return self.ready_s

    async def answers(self) -> None:
        """Wait until it answers its path of readiness with 200. Raises NotReady."""
        try:
            async with asyncio.timeout(self.most_ready_s):
                while not await self._answers():
                    if self.process.returncode is not None:
                        ended = f"{self.name} ended with status {self.process.returncode}"
                        raise NotReady(f"{ended}: {self.words()[-2000:]}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            late = f"{self.name} was not ready within {self.most_ready_s:g} s ({self._last_answer})"
            raise NotReady(f"{late}: {self.words()[-2000:]}") from None

    async def _answers(self) -> bool:
        asked = f"GET {self._ready} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(PROBE_S):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                try:
                    writer.write(asked.encode())
                    head = await reader.readline()
                    if b" 200 " in head:
                        return True
                    body = (await reader.read()).decode(errors="replace").rpartition("\r\n")[2]
                    self._last_answer = f"{head.decode(errors='replace').strip()} {body}"
                finally:
                    writer.close()
        except OSError as error:  # a TimeoutError too
            self._last_answer = str(error) or f"no answer within {PROBE_S:g} s"
        return False

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def kill(self) -> None:
        """End it without any chance to tidy up: SIGKILL, on Windows TerminateProcess."""
        await self._end(psutil.Process.kill, everything=True)

    async def stop(self) -> int:
        """Ask it to stop, by SIGTERM; its exit status. On Windows, which has no such signal for a
        process without a console of its own, this is `kill`."""
        return await self._end(psutil.Process.terminate, everything=False)

    async def send(self, number: signal.Signals) -> int:
        """Send a signal and wait until the process is gone; its exit status."""
        return await self._end(lambda process: process.send_signal(number), everything=False)

    async def _end(self, how: Callable[[psutil.Process], None], everything: bool) -> int:
        if self.process.returncode is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(self.process.pid)
                # A tracer takes no signals for itself, and ends when all that it follows has.
                for each in process.children(recursive=everything) if self.under else [process]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        how(each)
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()

    def cpu_s(self) -> float:
        """Processor seconds that it has used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def memory_mb(self) -> float:
        """Resident memory."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def words(self) -> str:
        """What it has written on stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def faults(self) -> list[str]:
        """Lines of its log that tell of a fault in the product."""
        return [line for line in self.words().splitlines() if any(f in line for f in FAULTY)]

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end()

    async def end(self) -> None:
        """Kill it if it runs."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()


@dataclass(frozen=True)
class Program:
    """How the command line is started: its words before a command, and the folder it runs in."""

    words: Sequence[str]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of this process."""

    def simulator(self, folder: Path, profile: Mapping[str, Mapping[str, Any]]) -> Child:
        """The simulated provider; `profile` has the tables of its file."""
        file = folder / "profile.toml"
        file.write_text(toml(profile), encoding="utf-8")
        argv = [*self.words, "simulator", "--profile", str(file)]
        return self._child(folder, "simulator", argv, "/_sim/stats")

    def service(self, folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> Child:
        """The service on a database in `folder`; `tables` are those of its settings."""
        file = folder / "settings.toml"
        own = {"storage": {"path": str(database(folder))}, "log": {"format": "text"}}
        file.write_text(toml({**own, **tables}), encoding="utf-8")
        argv = [*self.words, "serve", "--settings", str(file)]
        return self._child(folder, "service", argv, "/readyz")

    def _child(self, folder: Path, name: str, argv: Sequence[str], ready: str) -> Child:
        child = Child(folder, name, argv, ready, self.cwd)
        child.environ |= self.environ
        return child


def database(folder: Path) -> Path:
    """Where the service of that folder keeps its tasks."""
    return folder / "asyncsvc.db"


def session() -> aiohttp.ClientSession:
    """An HTTP client without a limit of connections, which asks no proxy."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))


async def get(client: aiohttp.ClientSession, url: str) -> Any:
    """The JSON of a GET; raises where the status is not 2xx."""
    async with client.get(url) as answer:
        answer.raise_for_status()
        return await answer.json()


async def post(client: aiohttp.ClientSession, url: str, body: Any = None) -> Any:
    """The JSON of a POST; raises where the status is not 2xx."""
    async with client.post(url, json=body) as answer:
        answer.raise_for_status()
        return await answer.json()


async def unfinished(client: aiohttp.ClientSession, url: str) -> int:
    """How many tasks the service still has to do."""
    stats = await get(client, f"{url}/tasks/stats")
    return sum(int(stats[state]) for state in ("scheduled", "pending", "running", "paused"))


async def all_done(client: aiohttp.ClientSession, url: str, within_s: float) -> None:
    """Wait until no task is left to do; raises TimeoutError."""

    async def idle() -> bool:
        return not await unfinished(client, url)

    await until(idle, within_s)


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Ask again and again; raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def all_calls(client: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """The simulated provider's record of every call, in order of arrival."""
    answer = await get(client, f"{url}/_sim/calls?limit=50000")
    calls: list[dict[str, Any]] = answer["calls"]
    return calls
