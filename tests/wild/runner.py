"""Runs a group of cases against one service in a process of its own, all at once."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import psutil

from tests.benchmarks.stage import FAULTY, toml
from tests.flows.process import Process, start
from tests.polling import until
from tests.wild.cases import LIMITS, Case, Run, runs
from tests.wild.doors import Answer, BatchEndpoint
from tests.wild.judge import Object, Outcome, judge
from tests.wild.provider import Provider, listening

AT_ONCE = 48
CLIENT_S = 40.0
"""How long a client waits where the case does not say: up to 48 cases share a busy machine."""
WATCH_S = 0.01


@dataclass(frozen=True)
class Verdict:
    """What does not hold of one run; empty where all does."""

    run: Run
    faults: list[str]


async def judged(cases: Sequence[Case], folder: Path) -> list[Verdict]:
    """The verdicts on all cases of one group, which have the same limits."""
    async with AsyncExitStack() as stack:
        providers = {
            run.name: await stack.enter_async_context(listening(run.case.upstream))
            for run in runs(cases)
        }
        path = _settings(cases, providers, folder)
        process: Process = await stack.enter_async_context(start(path))
        assert process.line.startswith("http://"), process.log
        http = await stack.enter_async_context(_client())
        room = asyncio.Semaphore(AT_ONCE)

        async def one(run: Run) -> Verdict:
            async with room:
                return await _run(run, process, http, providers[run.name])

        verdicts = await asyncio.gather(*(one(run) for run in runs(cases)))
        process.send(signal.SIGTERM)
        await process.ended()
        return verdicts + _of_log(process, verdicts[0].run)


def _of_log(process: Process, run: Run) -> list[Verdict]:
    """A fault of the service itself that no answer shows counts against the group's first run."""
    lines = [line for line in process.log.splitlines() if any(mark in line for mark in FAULTY)]
    return [Verdict(run, [f"the service's log: {line}" for line in lines])] if lines else []


def _settings(cases: Sequence[Case], providers: dict[str, Provider], folder: Path) -> Path:
    tables = {name: dict(table) for name, table in LIMITS[cases[0].limits].items()}
    tables["server"] = {"port": 0, "grace_s": 0.0}
    tables["storage"] = {"path": str(folder / "tasks.db")}
    tables["limits"] = {"disk_free_mb": 0, "loop_lag_ms": 0}
    for run in runs(cases):
        tables[f"models.{run.name}"] = run.case.settings(providers[run.name].base_url)
    path = folder / "settings.toml"
    path.write_text(toml(tables), encoding="utf-8")
    return path


@asynccontextmanager
async def _client() -> AsyncGenerator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        read_bufsize=1 << 24,  # a line of an event stream may be long
    ) as http:
        yield http


async def _run(
    run: Run, process: Process, http: aiohttp.ClientSession, provider: Provider
) -> Verdict:
    kind = run.case.model.get("type", "chat")
    door = BatchEndpoint(http, process.line, run.name, kind)
    growth = _Growth(process.pid if run.case.limits == "alone" else None)
    async with growth:
        answers = await _steps(run, door, partial(_model, http, process.line, run.name))
    outcome = Outcome(
        answers,
        provider.requests,
        (await _model(http, process.line, run.name))["enabled"],
        growth.mb,
    )
    faults = judge(run.case.expect, run.door, outcome)
    return Verdict(run, faults + [f"the script: {fault}" for fault in provider.faults])


async def _steps(
    run: Run, door: BatchEndpoint, model: Callable[[], Awaitable[Object]]
) -> list[tuple[str, Answer]]:
    under_way: list[tuple[str, asyncio.Task[Answer]]] = []
    for step in run.case.steps:
        if "wait_s" in step:
            await asyncio.sleep(step["wait_s"])
            continue
        if step.get("until_shut"):
            await until(model, lambda shown: shown["waiting_for"] is not None, CLIENT_S)
            continue
        name = step.get("as", run.door)
        seconds, patient_s = step.get("seconds", CLIENT_S), step.get("patient_s", 0.0)
        asked = [
            asyncio.create_task(_patient(run, door, step["body"], seconds, patient_s))
            for _ in range(step.get("count", 1))
        ]
        under_way += [(name, task) for task in asked]
        if not step.get("background"):
            await asyncio.wait(asked)
    return [(name, await task) for name, task in under_way]


async def _patient(
    run: Run, door: BatchEndpoint, body: dict[str, object], seconds: float, patient_s: float
) -> Answer:
    """Ask, and again each second for so long as the request is refused."""
    until = asyncio.get_running_loop().time() + patient_s
    while True:
        answer = await door.ask(run.door, dict(body), seconds)
        if answer.status != "refused" or asyncio.get_running_loop().time() >= until:
            return answer
        await asyncio.sleep(1.0)


async def _model(http: aiohttp.ClientSession, url: str, name: str) -> Object:
    """The model as `GET /models` shows it."""
    async with http.get(f"{url}/models") as response:
        models: list[Object] = (await response.json())["models"]
    return next(model for model in models if model["name"] == name)


class _Growth:
    """The most resident memory that a process took beyond what it had at first."""

    def __init__(self, pid: int | None) -> None:
        self._process = None if pid is None else psutil.Process(pid)
        self.mb: float | None = None

    async def __aenter__(self) -> None:
        if self._process is not None:
            self._before = self._process.memory_info().rss
            self._most = self._before
            self._watch = asyncio.create_task(self._look())

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self._watch.cancel()
            self.mb = (self._most - self._before) / 1e6

    async def _look(self) -> None:
        assert self._process is not None
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            await asyncio.sleep(WATCH_S)
