"""The stage of a benchmark: the simulated provider, the service and others as processes.

Owns folders, ports and children. Promises that every child is gone when the stage is left,
however that comes about, and that only children are ever signalled. Never measures anything
but the time until a child answers.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import psutil

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
PORTS = (20_000, 32_000)
"""Below the range that systems hand out by themselves: a client that keeps calling a dead
server there may be given that very port and connect to itself, and the port is then taken."""
READY_S = 20.0
STOP_S = 30.0
POLL_S = 0.003
FAULTY = ("Traceback", "a fault of ours", "a commit failed", "died and is replaced")
"""What the service's log must not hold after any benchmark."""


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


class Child:
    """A process that answers HTTP; it can be started again on the same port."""

    def __init__(
        self,
        folder: Path,
        name: str,
        arguments: Sequence[str],
        ready: str,
        program: str = sys.executable,
    ) -> None:
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
        self._arguments = [program, *arguments, "--port", str(self.port)]
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None

    async def launch(self) -> None:
        """Start it and do not wait until it answers."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ASYNCSVC_")}
        environ |= self.environ
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.under, *self._arguments, cwd=ROOT, env=environ,
                stdout=asyncio.subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    async def start(self) -> float:
        """Start it; the seconds until it answered. Raises RuntimeError with its last words."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.launch()
        await self.answers()
        self.ready_s = loop.time() - began
        return self.ready_s

    async def answers(self) -> None:
        """Wait until it answers its path of readiness with 200."""
        asked = f"GET {self._ready} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
        async with asyncio.timeout(self.most_ready_s):
            while not await self._answers(asked.encode()):
                if self.process.returncode is not None:
                    raise RuntimeError(f"{self._arguments}: {self.words()[-2000:]}")
                await asyncio.sleep(POLL_S)

    async def _answers(self, asked: bytes) -> bool:
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        try:
            writer.write(asked)
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def send(self, number: signal.Signals) -> int:
        """Send a signal and wait until the process is gone; its exit status."""
        if self.process.returncode is None:
            if self.under:
                # A tracer takes no signals for itself, and ends when all that it follows has.
                everything = number is signal.SIGKILL
                for child in psutil.Process(self.process.pid).children(recursive=everything):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.send_signal(number)
            else:
                self.process.send_signal(number)
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()

    async def kill(self) -> None:
        await self.send(signal.SIGKILL)

    async def stop(self) -> int:
        return await self.send(signal.SIGTERM)

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
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()


def simulator(folder: Path, profile: Mapping[str, Mapping[str, Any]]) -> Child:
    """The simulated provider; `profile` has the tables of its file."""
    file = folder / "profile.toml"
    file.write_text(toml(profile), encoding="utf-8")
    arguments = ["main.py", "simulator", "--profile", str(file)]
    return Child(folder, "simulator", arguments, "/_sim/stats")


def service(folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> Child:
    """The service on a database in `folder`; `tables` are those of its settings."""
    file = folder / "settings.toml"
    stored = {"storage": {"path": str(database(folder))}}
    file.write_text(toml({**stored, **tables}), encoding="utf-8")
    arguments = ["main.py", "serve", "--settings", str(file)]
    return Child(folder, "service", arguments, "/readyz")


def database(folder: Path) -> Path:
    """Where the service of that folder keeps its tasks."""
    return folder / "asyncsvc.db"


@asynccontextmanager
async def workplace() -> AsyncIterator[tuple[Path, aiohttp.ClientSession]]:
    """A folder that goes away, and a client for what is not measured."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    with tempfile.TemporaryDirectory(prefix="asyncsvc-bench-") as folder:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            yield Path(folder), client


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
