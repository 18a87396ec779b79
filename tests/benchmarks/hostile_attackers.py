"""The attackers of a run: hostile models with tasks for them, or a hostile client's process.

Owns the names of the attacks and what the service needs in its settings for each. Promises that
an attack ends with its time, and that its tasks are cancelled then. Never judges.
"""

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.benchmarks import hostile_client, hostile_provider, stage
from tests.benchmarks.hostile_honest import LOST
from tests.benchmarks.hostile_target import ATTACKS

FILES_MB = 300
"""How much an attack on the disk may write."""
MEGABYTE = 1_000_000
AT_ONCE = 4
"""Tasks for a model that attacks."""
PREPARED_S = 180.0
EXTRA_S = 20.0
"""How much longer than its time an attack may take to end."""
HONEST_TOKEN, HOSTILE_TOKEN = "honest-token-of-the-benchmark", "hostile-token-of-the-benchmark"
NONE = "none"
"""No attack: what the machine does to the figures by itself."""
ALL_MODELS = "provider:all-models-at-once"
ALL_IN_TURN = "client:all-in-turn"
IN_TURN_SHARE = 0.1
"""Of the time of an attack, for each of those in turn."""


@dataclass(frozen=True)
class Plan:
    """How long an attack takes and memory may take to come back; `scale`: of what is prepared.

    `timed`: whether latencies and the return of memory are judged, which short runs on a shared
    machine cannot show; `without`: attacks that are left out where many run on one service.
    """

    seconds: float = 60.0
    warm_s: float = 3.0
    back_s: float = 60.0
    scale: float = 1.0
    timed: bool = True
    without: frozenset[str] = frozenset()


def names() -> list[str]:
    """All attacks, as `provider:NAME` and `client:NAME`, and `none`."""
    providers = [f"provider:{name}" for name in hostile_provider.ATTACKS]
    clients = [f"client:{name}" for name in ATTACKS]
    return [NONE, *providers, ALL_MODELS, *clients, ALL_IN_TURN]


def described(name: str) -> str:
    """What an attack does."""
    whole = {
        NONE: "No attack, for comparison",
        ALL_MODELS: "Tasks for all models that attack, a hundred at once",
        ALL_IN_TURN: "All attacks of clients, one after the other on one service",
    }
    if name in whole:
        return whole[name]
    side, _, short = name.partition(":")
    act = ATTACKS[short] if side == "client" else hostile_provider.ATTACKS[short]
    return (act.__doc__ or "").splitlines()[0].rstrip(".")


def models_of(name: str) -> list[str]:
    """The hostile models that an attack needs; `silent` where it is a client's."""
    side, _, short = name.partition(":")
    if side != "provider":
        return ["silent"]
    return list(hostile_provider.ATTACKS) if name == ALL_MODELS else [short]


def settings(name: str, honest: str, hostile: str, folder: Path) -> dict[str, dict[str, Any]]:
    """The product's defaults, but that retries and the breaker do not end an attack early."""
    tables: dict[str, dict[str, Any]] = {
        "server": {"grace_s": 0},
        "breaker": {"failures": 1000},
        "retry": {"max_retries": 1, "base_s": 0.1, "max_s": 0.5},
        "models.honest": {"base_url": f"{honest}/v1", "model": "honest", "concurrency": 50},
    }
    for model in models_of(name):
        kind = "embedding" if model in hostile_provider.EMBEDDINGS else "chat"
        tables[f"models.{model}"] = {
            "base_url": f"{hostile}/v1", "model": model, "type": kind, "concurrency": AT_ONCE,
        }  # fmt: skip
    if name == "client:files":
        free = shutil.disk_usage(folder).free / MEGABYTE
        tables["limits"] = {"disk_free_mb": max(round(free) - FILES_MB, 1)}
    return tables


class Attackers:
    """`async with`: prepared; `act` for the time of the attack."""

    def __init__(self, name: str, service: stage.Child, plan: Plan) -> None:
        self._side, _, self._short = name.partition(":")
        self._models = models_of(name)
        self._attacks, self._each_s = [self._short], plan.seconds
        if name == ALL_IN_TURN:
            self._attacks = [one for one in ATTACKS if one not in plan.without]
            self._each_s = plan.seconds * IN_TURN_SHARE
        elif name == ALL_MODELS:
            self._models = [one for one in self._models if one not in plan.without]
        self._service = service
        self._plan = plan
        self._headers = {"authorization": f"Bearer {HOSTILE_TOKEN}"}
        self._process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Start the hostile client, where it is one, and wait until it is ready to begin."""
        if self._side != "client":
            yield
            return
        arguments = [
            "-m", hostile_client.PROGRAM, *self._attacks, "--port", str(self._service.port),
            "--token", HOSTILE_TOKEN, "--seconds", str(self._each_s),
            "--scale", str(self._plan.scale),
        ]  # fmt: skip
        pipe = asyncio.subprocess.PIPE
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=stage.ROOT, stdin=pipe, stdout=pipe
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PREPARED_S):
                if await process.stdout.readline() != b"ready\n":
                    raise RuntimeError(f"{self._short} could not be prepared")
            yield
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def act(self, seen: Counter[str], stop: asyncio.Event) -> None:
        """Attack until the time is over or `stop` is set."""
        if self._side == NONE:
            await asyncio.sleep(self._plan.seconds)
            return
        if self._side == "provider":
            await self._submit(seen, stop)
            return
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"begin\n")
        most_s = len(self._attacks) * (self._each_s + EXTRA_S)
        waits = asyncio.create_task(self._process.stdout.read())
        stops = asyncio.create_task(stop.wait())
        await asyncio.wait((waits, stops), timeout=most_s,
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        stops.cancel()
        if waits.done() and (answered := waits.result()):
            seen.update(orjson.loads(answered))
        elif not stop.is_set():
            raise RuntimeError(f"{self._short} did not come to its end")

    async def _submit(self, seen: Counter[str], stop: asyncio.Event) -> None:
        """Keep a few tasks under way for each of the hostile models; cancel them at the end."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._plan.seconds
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(
            self._service.url, headers=self._headers, timeout=timeout
        ) as client:
            while loop.time() < ends and not stop.is_set():
                for model in self._models:
                    with suppress(*LOST):
                        await self._fill(client, model)
                await asyncio.sleep(0.25)
            for model in self._models:
                await self._end(client, model, seen)

    async def _fill(self, client: aiohttp.ClientSession, model: str) -> None:
        query = {"model": model, "status": "pending", "limit": str(AT_ONCE)}
        async with client.get("/tasks", params=query) as answer:
            if answer.status != 200 or (await answer.json())["tasks"]:
                return
        task: dict[str, Any] = {"model": model, "content": "hello", "cache": False}
        if model in hostile_provider.EMBEDDINGS:
            task = {"model": model, "type": "embedding", "input": "hello", "cache": False}
        async with client.post("/tasks/batch", json={"tasks": [task] * AT_ONCE}):
            pass

    async def _end(self, client: aiohttp.ClientSession, model: str, seen: Counter[str]) -> None:
        """Count how the tasks ended and cancel those that have not."""
        with suppress(*LOST):
            async with client.get("/tasks", params={"model": model, "limit": "500"}) as answer:
                tasks = (await answer.json()).get("tasks", ())
            for task in tasks:
                error = task.get("error") or {}
                seen[error.get("code") or task["status"]] += 1
                if task["status"] in ("pending", "running", "scheduled"):
                    async with client.post(f"/tasks/{task['task_id']}/cancel"):
                        pass
