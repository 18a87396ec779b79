"""A thousand WebSocket clients that come back at once, and a hundred that do not read.

First: each of a thousand clients follows a streaming task, twenty of them the same one. All drop
their connections in one moment and come back with their cursor; then the service is killed and
started again, and all come back to that. Broken is a client whose events are not those that the
service has stored, each once and in order. Resumed is who was sent a frame again.

Second: rounds of streams as fast as the service takes them, each followed by five clients, with
and without clients that follow a finished task of many megabytes and do not read, in turn. The
buffers of those are full before the first token of the streams (filling them is the cost of
reading, slow or not), and they are closed when they have stood for five seconds. Compared are
the medians of the times from the first chunk that a client has received to the last; beside it
stands the ratio of the service's processor seconds, which other work on the machine disturbs
less. Broken is a slow client that is not closed with 1013.
"""

import argparse
import asyncio
import os
import random
import resource
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import aiohttp
import orjson
import uvloop

from asyncsvc.selftest import clients, oracle
from asyncsvc.storage import audit
from tests.benchmarks import following, stage
from tests.benchmarks.report import Report, percentile, progress
from tests.benchmarks.slow_readers import SlowReaders

RESUMED_TARGET_S = 10.0
SLOWER_TARGET = 1.10
TOO_SLOW = 1013
A_TASK = 20
"""Clients that follow the same task."""
FILES = 8192
SETTLE_S = 2.0
PATIENCE_S = 60.0
STREAMS, A_STREAM = 20, 5
FILLED_S = 4.0
"""From the submit of the streams, by when all clients are connected and slow ones are full."""
CLOSED_S = 9.0
"""From their connection, by when all slow ones are closed: five seconds after they are full."""
LARGE = "Everything [[sim:tokens={tokens}]][[sim:rate=0]]"


@dataclass(frozen=True)
class Plan:
    """`stream_s`: how long a stream takes in the first part; `round_tokens`: of each of twenty
    streams in the second."""

    clients: int = 1000
    rounds: int = 1
    stream_s: float = 20.0
    tokens_s: float = 5.0
    slow: int = 100
    pairs: int = 4
    round_tokens: int = 40_000
    large_tokens: int = 400_000
    """Of what slow clients do not read: far more than all buffers on its way."""


def settings(url: str) -> dict[str, dict[str, Any]]:
    return {
        "server": {"max_connections": 5000, "grace_s": 0},
        "models.streams": {"base_url": f"{url}/v1", "model": "streams", "concurrency": 500},
    }


@dataclass
class Participant:
    """One client; `received` are its frames' texts by seq, `resumed_s` one time for each cut."""

    task_id: str
    received: list[tuple[int, str]] = field(default_factory=list)
    resumed_s: list[float] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    cut_at: float | None = None
    done: bool = False
    _ws: aiohttp.ClientWebSocketResponse | None = None

    async def run(self, client: aiohttp.ClientSession, url: str) -> None:
        """Follow until the service says that the task is over (1000)."""
        while not self.done:
            after = self.received[-1][0] if self.received else 0
            with suppress(*clients.CUT):
                async with client.ws_connect(f"{url}/ws/tasks/{self.task_id}?after={after}") as ws:
                    self._ws = ws
                    async for message in ws:
                        self._take(message)
                    self.done = ws.close_code == 1000
                    if ws.close_code not in (1000, 1006, None):
                        self.odd.append(f"{self.task_id} was closed with {ws.close_code}")
            self._ws = None
            if not self.done:
                await asyncio.sleep(clients.BACK_S * random.random())

    def drop(self) -> None:
        """Break the connection without a word, as a network does."""
        if self._ws is not None:
            # The socket itself: every public way to close says goodbye first.
            with socket.socket(fileno=os.dup(self._ws.get_extra_info("socket").fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)

    def cut(self, at: float) -> None:
        """Do not count what was received before this moment."""
        if not self.done:
            self.cut_at = at

    def _take(self, message: aiohttp.WSMessage) -> None:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return
        if self.cut_at is not None:
            self.resumed_s.append(asyncio.get_running_loop().time() - self.cut_at)
            self.cut_at = None
        event = orjson.loads(message.data)
        if "op" in event:
            self.odd.append(message.data)
        elif event["seq"] is not None:
            self.received.append((event["seq"], message.data))


async def _tasks(client: aiohttp.ClientSession, url: str, contents: Sequence[str]) -> list[str]:
    bodies = [{"content": content, "model": "streams"} for content in contents]
    answer = await stage.post(client, f"{url}/tasks/batch", {"tasks": bodies})
    return [task["task_id"] for task in answer["tasks"]]


async def reconnecting(report: Report, plan: Plan) -> None:
    """The first part."""
    profile = {
        "default": {
            "tokens_per_s": plan.tokens_s,
            "first_token_s": 0.2,
            "answer_tokens": round(plan.stream_s * plan.tokens_s),
        }
    }
    async with stage.workplace() as (folder, client):
        async with stage.simulator(folder, profile) as provider:
            service = stage.service(folder, settings(provider.url))
            async with service:
                count = max(plan.clients // A_TASK, 1)
                ids = await _tasks(client, service.url, [f"Story {n}" for n in range(count)])
                participants = [Participant(ids[n % count]) for n in range(plan.clients)]
                runs = [asyncio.create_task(m.run(client, service.url)) for m in participants]
                try:
                    for _ in range(plan.rounds):
                        await _cuts(report, service, participants)
                    async with asyncio.timeout(plan.stream_s + PATIENCE_S):
                        await asyncio.gather(*runs)
                finally:
                    for run_ in runs:
                        run_.cancel()
                    await asyncio.gather(*runs, return_exceptions=True)
                await service.stop()
        stored = {life.task_id: life for life in audit.lives(stage.database(folder))}
        report.broken += oracle.shortened(service.faults(), "the service's log")
    wrong = [fault for m in participants for fault in compared(m, stored[m.task_id])]
    ended = [f"{i} is {life.state}" for i, life in stored.items() if life.state != "completed"]
    report.broken += oracle.shortened(wrong, "client") + oracle.shortened(ended, "task")
    report.row("events received by all clients", sum(len(m.received) for m in participants))
    report.row("clients with gaps, doubles or other events", len({f.split()[0] for f in wrong}))


async def _cuts(report: Report, service: stage.Child, participants: Sequence[Participant]) -> None:
    """All drop at once; then the service is killed and started."""
    loop = asyncio.get_running_loop()

    async def all_hear() -> bool:
        return all(m.received and m.cut_at is None for m in participants)

    await stage.until(all_hear, PATIENCE_S)
    await asyncio.sleep(SETTLE_S)
    progress(f"{len(participants)} clients drop")
    now = loop.time()
    for participant in participants:
        participant.cut(now)
        participant.drop()
    await stage.until(all_hear, PATIENCE_S)
    _resumed(report, "dropped", participants)
    await asyncio.sleep(SETTLE_S)
    progress("kill")
    now = loop.time()
    await service.kill()
    for participant in participants:
        participant.cut(now)
    await service.start()
    report.row("killed: ready again, s", loop.time() - now)
    await stage.until(all_hear, PATIENCE_S)
    _resumed(report, "killed", participants)


def _resumed(report: Report, what: str, participants: Sequence[Participant]) -> None:
    times = [m.resumed_s[-1] for m in participants if m.resumed_s]
    report.require(len(times) == len(participants), f"{what}: only {len(times)} have resumed")
    for name, share in (("median", 0.5), ("last", 1.0)):
        report.row(f"{what}: resumed, {name} s", percentile(times, share))
    report.target(max(times) < RESUMED_TARGET_S, f"{what}: the last resumed in {max(times):.1f} s")


def compared(participant: Participant, life: audit.Life) -> list[str]:
    """What one client has received, held against what is stored."""
    wrong = list(participant.odd)
    events = [orjson.loads(text) for _, text in participant.received]
    seen = [(event["id"], event["seq"], event["type"], event["data"]) for event in events]
    if seen != life.events:
        seqs = [seq for seq, _ in participant.received]
        wrong.append(
            f"{participant.task_id} received {len(seqs)} events: {seqs}, of {len(life.events)}"
        )
    return wrong


async def beside_slow_ones(report: Report, plan: Plan) -> None:
    """The second part."""
    profile = {"default": {"first_token_s": FILLED_S, "answer_tokens": plan.round_tokens}}
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, profile) as provider,
        stage.service(folder, settings(provider.url)) as service,
    ):
        (large,) = await _tasks(client, service.url, [LARGE.format(tokens=plan.large_tokens)])
        await stage.all_done(client, service.url, PATIENCE_S)
        took: dict[bool, list[float]] = {False: [], True: []}
        used: dict[bool, list[float]] = {False: [], True: []}
        for number in range(2 * plan.pairs):
            # Without, with, with, without: a drift of the machine hits both alike.
            slow = number % 4 in (1, 2)
            ids = await _tasks(client, service.url, [f"Story {n}" for n in range(STREAMS)])
            async with following.Subscribers(service.url, ids * A_STREAM) as subscribers:
                readers = SlowReaders(service.port, f"/ws/tasks/{large}", plan.slow * slow)
                async with readers:
                    await asyncio.sleep(FILLED_S / 2)
                    before = service.cpu_s()
                    answer, _ = await asyncio.gather(
                        subscribers.all(), asyncio.sleep(CLOSED_S * slow)
                    )
                    codes = await asyncio.wait_for(readers.close_codes(), PATIENCE_S)
            report.broken += oracle.shortened([f for one in answer for f in one.faults()], "client")
            odd = [code for code in codes if code != TOO_SLOW]
            report.require(not odd, f"{len(odd)} slow clients were closed with {odd[:5]}")
            used[slow].append(service.cpu_s() - before)
            arrivals = [event[0] for one in answer for event in one.chunks()]
            took[slow].append((max(arrivals) - min(arrivals)) / 1000)
            with_ = "with" if slow else "without"
            progress(f"{with_} slow clients: {took[slow][-1]:.2f} s")
        report.broken += service.faults()
        report.row("memory of the service at the end, MB", service.memory_mb())
    _slower(report, took)
    ratio = median(used[True]) / median(used[False])
    report.row("ratio of the service's processor seconds", ratio)


def _slower(report: Report, took: dict[bool, list[float]]) -> None:
    alone, beside = median(took[False]), median(took[True])
    report.row("streams without slow clients, median s", alone)
    report.row("streams beside slow clients, median s", beside)
    report.row("ratio", beside / alone)
    for slow, name in ((False, "without"), (True, "with")):
        spread = ", ".join(f"{value:.2f}" for value in took[slow])
        report.notes.append(f"rounds {name} slow clients: {spread} s")
    ratio = beside / alone
    report.target(ratio < SLOWER_TARGET, f"{ratio:.2f} times slower beside slow clients")


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    enough_files()
    report = Report(
        f"crowd: {plan.clients} clients cut {plan.rounds} times by the network and by a kill; "
        f"{plan.slow} slow ones beside 100",
        ("what", "value"),
    )
    await reconnecting(report, plan)
    await beside_slow_ones(report, plan)
    return report


def enough_files() -> None:
    """Raise the soft limit on open files, which the children inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crowd", description=__doc__)
    parser.add_argument("--clients", type=int, default=default.clients)
    parser.add_argument("--rounds", type=int, default=default.rounds, help="cuts of each kind")
    parser.add_argument("--slow", type=int, default=default.slow, help="clients that do not read")
    parser.add_argument("--pairs", type=int, default=default.pairs, help="rounds with and without")
    given = parser.parse_args(argv)
    plan = Plan(clients=given.clients, rounds=given.rounds, slow=given.slow, pairs=given.pairs)
    return uvloop.run(run(plan)).finish()


if __name__ == "__main__":
    sys.exit(main())
