"""How many tasks a second go all the way, and how much latency one call gains on an idle service.

The provider answers at once with 20 chunks. Each system has a fixed number of tasks in flight: a
new one is submitted as soon as one has finished. In one run, in alternating rounds:

- the service: POST /tasks, one WebSocket client that follows the whole feed with every chunk; a
  task counts when its `completed` event has arrived;
- huey with SQLite and `synchronous` FULL, its consumer and its producer in processes of their own;
- FastAPI and arq on a Redis with `appendfsync always`, submitted to by the same client as the
  service.

The peers store no chunks and send none to clients. They are set to their advantage, as their
modules say. A peer that is not on this machine is left out, with the reason as a note. Broken is a
task that does not complete, and a stored text that is not the provider's.
"""

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import aiohttp
import orjson
import uvloop

from asyncsvc.storage import audit
from tests.benchmarks import stage, wire
from tests.benchmarks.fast_provider import texts
from tests.benchmarks.report import Report, percentile, progress
from tests.benchmarks.scratch import Absent, environment
from tests.benchmarks.stage import HOST, ROOT, Child

CHUNKS = 20
OVER_HUEY, OVER_ARQ = 1.5, 3.0
ADDED_TARGET_MS = 5.0
MOST_ROUND_S = 120.0
PEERS = ROOT / "tests" / "benchmarks" / "peers"
HUEY = ("huey==3.5.4", "httpx==0.28.1")
ARQ = (
    "arq==0.28.0", "fastapi==0.165.0", "httpx==0.28.1", "uvicorn", "uvloop", "httptools", "hiredis",
)  # fmt: skip
BODY = {"content": "hello", "model": "fast"}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    in_flight: Sequence[int] = (64, 256)
    rounds: int = 5
    tasks: int = 800
    calls: int = 300
    peers: bool = True


class System(Protocol):
    """One of those compared: runs `count` tasks and gives (tasks per second, how many failed)."""

    async def __call__(self, count: int, in_flight: int) -> tuple[float, int]: ...


class Feed:
    """A stream of the tasks that finish: `received` takes True for a completed one."""

    def __init__(self) -> None:
        self.received: Callable[[bool], None] = lambda _: None


class _Round:
    """One round: as many tasks under way as asked for, until `count` have finished."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._data = wire.request("/tasks", orjson.dumps(BODY))
        self._free: list[wire.Connection] = []
        self._lines: list[wire.Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._submitted = self._finished = 0
        self.wrong = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, in_flight: int) -> None:
        for _ in range(min(in_flight, self._count)):
            self._lines.append(await wire.connect(self._port, self._answered))
        self._free += self._lines

    def start(self) -> None:
        self._submitted = len(self._lines)
        for _ in range(self._submitted):
            self._submit()

    def received(self, completed: bool) -> None:
        self._finished += 1
        self.wrong += not completed
        if self._submitted < self._count:
            self._submitted += 1
            self._submit()
        elif self._finished == self._count and not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def _answered(self, connection: wire.Connection, status: int) -> None:
        if status == 202:
            connection.sent_at = 0.0  # servers close what is idle for a while
            self._free.append(connection)
        elif not self.done.done():
            self.done.set_exception(RuntimeError(f"a submit was answered {status}"))

    async def _opened(self) -> None:
        line = await wire.connect(self._port, self._answered)
        self._lines.append(line)
        line.send(self._data, 1.0)

    def _submit(self) -> None:
        while self._free:
            line = self._free.pop()
            if line.alive:
                line.send(self._data, 1.0)
                return
        task = asyncio.create_task(self._opened())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)


async def drive(port: int, feed: Feed, count: int, in_flight: int) -> tuple[float, int]:
    """Submit a task for each that finishes.

    Gives tasks per second from the first submit to the last end, and how many did not complete.
    """
    one = _Round(port, count)
    await one.open(in_flight)
    feed.received = one.received
    began = perf_counter()
    one.start()
    async with asyncio.timeout(MOST_ROUND_S):
        await one.done
    took = perf_counter() - began
    one.close()
    return count / took, one.wrong


@asynccontextmanager
async def following(work: Callable[[], Any]) -> AsyncIterator[None]:
    """Read a feed beside the block."""
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def settings(upstream: str, in_flight: int) -> dict[str, dict[str, Any]]:
    return {
        "server": {"max_connections": 2000},
        "limits": {"memory_mb": 2000},
        "models.fast": {"base_url": f"{upstream}/v1", "model": "fast", "concurrency": in_flight},
    }


def provider(folder: Path) -> Child:
    arguments = ["-m", "tests.benchmarks.fast_provider", "--chunks", str(CHUNKS)]
    return stage.child(folder, "provider", arguments, "/")


@asynccontextmanager
async def ours(client: aiohttp.ClientSession, service: Child) -> AsyncIterator[System]:
    """The service, followed by one client of its whole feed."""
    feed = Feed()
    async with client.ws_connect(f"{service.url}/ws", max_msg_size=0) as socket:
        await socket.send_json({"op": "subscribe", "all": True})

        async def read() -> None:
            async for message in socket:
                if '"type":"status"' in message.data:
                    data = orjson.loads(message.data)["data"]
                    if data["status"] in ("completed", "failed", "cancelled"):
                        feed.received(data["status"] == "completed")

        async with following(read):
            yield lambda count, in_flight: drive(service.port, feed, count, in_flight)


@asynccontextmanager
async def huey(folder: Path, upstream: str) -> AsyncIterator[System]:
    """huey's producer and consumer. Raises Absent."""
    python = str(await environment(HUEY) / "python")
    words = (python, str(PEERS / "huey_queue.py"), "produce", str(folder), f"{upstream}/v1")
    with (folder / "huey.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def run(count: int, in_flight: int) -> tuple[float, int]:
        stdin.write(f"{count} {in_flight}\n".encode())
        async with asyncio.timeout(MOST_ROUND_S):
            found = json.loads(await stdout.readline())
        return found["per_s"], found["wrong"]

    try:
        yield run
    finally:
        stdin.close()  # the producer ends its consumer and then itself
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def arq(
    folder: Path, client: aiohttp.ClientSession, upstream: str, jobs: int
) -> AsyncIterator[System]:
    """Redis, FastAPI and arq's worker. Raises Absent."""
    server = shutil.which("redis-server")
    if server is None:
        raise Absent("there is no redis-server (Debian: apt-get install redis-server)")
    python = str(await environment(ARQ) / "python")
    store = folder / "redis"
    store.mkdir()
    redis_port = stage.free_port()
    redis = [
        server, "--port", str(redis_port), "--bind", HOST, "--dir", str(store), "--save", "",
        "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
    ]  # fmt: skip
    script, redis_at = str(PEERS / "fastapi_arq.py"), ["--redis", str(redis_port)]
    worker = [python, script, "worker", *redis_at, "--upstream", f"{upstream}/v1"]
    web = stage.child(folder, "fastapi", [script, "web", *redis_at], "/readyz", program=python)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_process(folder, redis))
        await _listens(redis_port)
        await stack.enter_async_context(_process(folder, [*worker, "--jobs", str(jobs)]))
        await stack.enter_async_context(web)
        answer = await stack.enter_async_context(
            client.get(f"{web.url}/done", timeout=aiohttp.ClientTimeout(total=None))
        )
        await answer.content.readline()
        feed, expected = Feed(), "".join(texts(CHUNKS))

        async def read() -> None:
            async for line in answer.content:
                feed.received(orjson.loads(line)["text"] == expected)

        await stack.enter_async_context(following(read))
        yield lambda count, in_flight: drive(web.port, feed, count, in_flight)


@asynccontextmanager
async def _process(folder: Path, words: Sequence[str]) -> AsyncIterator[None]:
    """A child without HTTP; gone when the block is left."""
    with (folder / "others.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listens(port: int) -> None:
    async def connected() -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        writer.close()
        return True

    await stage.until(connected, stage.READY_S)


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"turnaround: {CHUNKS} chunks an answer without delay, {plan.rounds} rounds of "
        f"{plan.tasks} tasks; median tasks/s and median of the ratios",
        ("in flight", "service", "huey", "ratio", "FastAPI + arq", "ratio", "provider's calls/s"),
    )
    most = max(plan.in_flight)
    async with (
        stage.workplace() as (folder, client),
        provider(folder) as upstream,
        stage.service(folder, settings(upstream.url, most)) as service,
        AsyncExitStack() as stack,
    ):
        systems: dict[str, System] = {
            "service": await stack.enter_async_context(ours(client, service))
        }
        if plan.peers:
            for name, peer in (
                ("huey", huey(folder, upstream.url)),
                ("FastAPI + arq", arq(folder, client, upstream.url, most)),
            ):
                try:
                    systems[name] = await stack.enter_async_context(peer)
                except Absent as reason:
                    report.notes.append(f"{name} is left out: {reason}")
        for in_flight in plan.in_flight:
            await _rounds(report, plan, systems, in_flight, upstream, service)
        await _added(report, plan, client, service, upstream)
        report.broken += service.faults()
        await service.kill()
        _stored(report, folder)
    return report


async def _rounds(
    report: Report,
    plan: Plan,
    systems: dict[str, System],
    in_flight: int,
    upstream: Child,
    service: Child,
) -> None:
    """One row: every system in turn, so often as the plan says, after one short warm-up each."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    used = 0.0
    for system in systems.values():
        await system(max(plan.tasks // 5, in_flight), in_flight)
    for number in range(plan.rounds):
        for name, system in systems.items():
            before = service.cpu_s()
            per_s, wrong = await system(plan.tasks, in_flight)
            used += (service.cpu_s() - before) if name == "service" else 0.0
            rates[name].append(per_s)
            report.require(not wrong, f"{name}: {wrong} tasks did not complete")
        rates_now = ", ".join(f"{name} {rate[-1]:.0f}/s" for name, rate in rates.items())
        progress(f"{in_flight} in flight, round {number + 1}: {rates_now}")
    data = wire.request("/v1/chat/completions", b'{"stream":true}')
    alone, _ = await wire.saturate(upstream.port, data, plan.tasks, 64, status=200)
    cells: list[object] = [f"{in_flight}", median(rates["service"])]
    for name, target in (("huey", OVER_HUEY), ("FastAPI + arq", OVER_ARQ)):
        if name not in rates:
            cells += ["", ""]
            continue
        ratio = median(a / b for a, b in zip(rates["service"], rates[name], strict=True))
        cells += [median(rates[name]), ratio]
        report.target(
            ratio >= target, f"{in_flight} in flight: {ratio:.2f} × {name}, target {target:g} ×"
        )
    report.row(*cells, alone)
    ms = 1000 * used / (plan.rounds * plan.tasks)
    report.notes.append(f"{in_flight} in flight: {ms:.2f} ms of processor a task in the service")


async def _added(
    report: Report, plan: Plan, client: aiohttp.ClientSession, service: Child, upstream: Child
) -> None:
    """One call at a time, in turn to the provider itself and through the service."""
    body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    bare: list[float] = []
    through: list[float] = []
    for _ in range(plan.calls):
        for url, found in ((upstream.url, bare), (service.url, through)):
            began = perf_counter()
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                text = await answer.read()
            found.append((perf_counter() - began) * 1000)
            report.require(answer.status == 200 and b"[DONE]" in text, f"{url}: {answer.status}")
    added = median(through) - median(bare)
    report.notes.append(
        f"one call through /v1 on an idle service: p50 {median(through):.2f} ms, p95 "
        f"{percentile(through, 0.95):.2f} ms; the provider alone: {median(bare):.2f} ms"
    )
    report.target(
        added <= ADDED_TARGET_MS, f"{added:.1f} ms added to one call, target {ADDED_TARGET_MS:g} ms"
    )


def _stored(report: Report, folder: Path) -> None:
    """What a killed service has left on the disk."""
    expected = "".join(texts(CHUNKS))
    wrong = [
        life.task_id
        for life in audit.lives(stage.database(folder))
        if life.result != expected or life.text != expected
    ]
    report.require(not wrong, f"{len(wrong)} tasks have another text stored than was sent")


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.turnaround", description=__doc__
    )
    parser.add_argument("--in-flight", type=int, nargs="+", default=default.in_flight)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--tasks", type=int, default=default.tasks, help="tasks in a round")
    parser.add_argument("--calls", type=int, default=default.calls, help="for the added latency")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    given = parser.parse_args(argv)
    plan = Plan(given.in_flight, given.rounds, given.tasks, given.calls, not given.alone)
    return uvloop.run(run(plan)).finish()


if __name__ == "__main__":
    sys.exit(main())
