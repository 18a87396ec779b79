"""Kill -9 at random moments under load, and an audit of what is left.

Promises to end by itself and to leave nothing behind. Broken is whatever a client was told and
the database does not hold, whatever ran again after it had ended, whatever came twice or not
at all. It never kills anything but the service that it has started.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from tests.benchmarks import audit, clients, stage
from tests.benchmarks.report import Report, percentile, progress

MAX_RETRIES = 3
EARLY_SHARE = 0.1
"""Of the kills, those that hit a process which is still starting."""
FOLLOWED_SHARE = 0.1
CANCELLED_SHARE = 0.04
READY_TARGET_S = 10.0
DRAIN_S = 120.0
PROFILE: dict[str, dict[str, Any]] = {
    "default": {"first_token_s": 0.03, "tokens_per_s": 300, "answer_tokens": 40},
    "models.quick": {"concurrency": 40},
    "models.limited": {"concurrency": 5, "rpm": 40, "window_s": 2},
    "models.flaky": {
        "concurrency": 20,
        "faults": {"500": 0.05, "reset": 0.05, "cut": 0.03, "429-after=0.2": 0.05},
    },
}
TAGS = ("", "", "", "[[sim:500 x1]]", "[[sim:reset at=9 x2]]", "[[sim:429-after=0.3 x1]]")


def settings(url: str) -> dict[str, dict[str, Any]]:
    """Settings over the simulated provider at `url`."""
    model = {"base_url": f"{url}/v1", "api_key_envs": []}
    return {
        "retry": {"max_retries": MAX_RETRIES, "base_s": 0.05, "max_s": 0.5},
        "breaker": {"failures": 20, "cooldown_s": 0.3},
        "models.quick": {**model, "model": "quick", "concurrency": 40},
        "models.limited": {
            **model, "model": "limited", "concurrency": 5, "rpm": 40, "rpm_window_s": 2,
        },
        "models.flaky": {**model, "model": "flaky", "concurrency": 20},
    }  # fmt: skip


@dataclass
class Kills:
    """What is seen between two lives of the service."""

    ready_s: list[float] = field(default_factory=list)
    finished: dict[str, audit.Finished] = field(default_factory=dict)
    rerun: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def look(self, database: Path, accepted: set[str]) -> None:
        """Hold a dead service's database against what was known before."""
        now = audit.finished(database)
        self.rerun += audit.changed(self.finished, now)
        self.lost += sorted(accepted - audit.known(database))
        self.finished = now


class Crash:
    """One run: `go`, then `judge`."""

    def __init__(self, kills: int, rate: float, seed: int) -> None:
        self._kills = kills
        self._rate = rate
        self._seed = seed
        self._random = random.Random(seed)
        self._ledger = clients.Ledger()
        self._followers: list[clients.Follower] = []
        self._feed = clients.FeedFollower()
        self._seen = Kills()
        self._enough = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self.report = Report(
            f"crash: {kills} kills at {rate:g} submits/s, seed {seed}", ("what", "value")
        )

    async def go(self) -> None:
        """The whole run."""
        async with stage.workplace() as (folder, client):
            async with stage.simulator(folder, PROFILE) as provider:
                service = stage.service(folder, settings(provider.url))
                try:
                    await self._under_load(service, client, folder)
                    calls = await stage.all_calls(client, provider.url)
                    figures = await stage.get(client, f"{provider.url}/_sim/stats")
                    await self._look_at_results(client, service.url)
                    status = await service.stop()
                    self.report.require(status == 0, f"the last stop ended with status {status}")
                finally:
                    if service.process.returncode is None:
                        await service.kill()
            self._judge(stage.database(folder), calls, figures)
            self._judge_log(service)

    async def _under_load(
        self, service: stage.Child, client: aiohttp.ClientSession, folder: Path
    ) -> None:
        self._seen.ready_s.append(await service.start())
        feed = asyncio.create_task(self._feed.run(client, service.url))
        load = asyncio.create_task(self._load(client, service.url))
        try:
            for number in range(1, self._kills + 1):
                await self._kill_once(service, folder)
                if number % 10 == 0:
                    progress(f"{number} kills, {len(self._ledger.accepted)} tasks accepted")
            self._enough.set()
            await load
            await stage.all_done(client, service.url, DRAIN_S)
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(*self._background)
            await self._feed_is_complete(client, service.url)
        finally:
            for task in (feed, load, *self._background):
                task.cancel()
            await asyncio.gather(feed, load, *self._background, return_exceptions=True)

    async def _kill_once(self, service: stage.Child, folder: Path) -> None:
        """Let it work for a moment, kill it, look at what is left, and have it back."""
        await asyncio.sleep(self._random.uniform(0.05, 1.3))
        await service.kill()
        self._look(folder)
        while self._random.random() < EARLY_SHARE:
            await service.launch()
            await asyncio.sleep(self._random.uniform(0.1, 0.9))
            await service.kill()
            self._look(folder)
        self._seen.ready_s.append(await service.start())

    def _look(self, folder: Path) -> None:
        accepted = set(self._ledger.accepted.values())
        self._seen.look(audit.copy(stage.database(folder), folder / "copy"), accepted)

    async def _load(self, client: aiohttp.ClientSession, url: str) -> None:
        async def accepted(task_id: str) -> None:
            dice = random.random()
            if dice < FOLLOWED_SHARE:
                follower = clients.Follower(task_id)
                self._followers.append(follower)
                self._start(follower.run(client, url))
            elif dice < FOLLOWED_SHARE + CANCELLED_SHARE:
                await asyncio.sleep(random.random() * 0.3)
                await clients.cancel(client, url, task_id, self._ledger)

        await clients.keep_submitting(
            client, url, self._rate, self._make, self._ledger, accepted, self._enough
        )

    def _start(self, work: Any) -> None:
        self._background.add(asyncio.create_task(work))

    def _make(self, number: int) -> tuple[str, dict[str, Any], bool]:
        dice = random.Random(f"{self._seed}:{number}")
        marker = f"c{self._seed}-{number}"
        model = dice.choices(("quick", "flaky", "limited", None), (4, 3, 1, 2))[0]
        tag = dice.choice(TAGS) if model != "limited" else ""
        length = f"[[sim:tokens={dice.randint(20, 60)}]]"
        body: dict[str, Any] = {
            "content": f"Question {number} [[id:{marker}]]{length}{tag}",
            "model": model,
            "priority": dice.randint(0, 9),
            "lane": dice.choice(("priority", "short", "short", "long")),
        }
        if dice.random() < 0.05:
            body["delay_s"] = round(dice.random(), 2)
        if dice.random() < 0.1:
            body["session_id"] = f"session-{dice.randint(1, 5)}"
        return marker, body, dice.random() < 0.5

    async def _feed_is_complete(self, client: aiohttp.ClientSession, url: str) -> None:
        """Give the feed's client the time to hear of the last event."""
        told = await stage.post(
            client, f"{url}/tasks", {"content": "The last one [[id:last]]", "model": "quick"}
        )
        self._ledger.accepted["last"] = task_id = told["task_id"]

        async def heard() -> bool:
            latest = list(self._feed.events.values())[-500:]
            return any(f'"{task_id}"' in text and '"completed"' in text for text in latest)

        await stage.until(heard, 30)

    # The verdict --------------------------------------------------------------------------------

    async def _look_at_results(self, client: aiohttp.ClientSession, url: str) -> None:
        """What a client reads of tasks that have ended is what the events say."""
        some = [f.task_id for f in self._followers[:50]] + sorted(self._ledger.cancelled)[:50]
        wrong = []
        for task_id in some:
            task = await stage.get(client, f"{url}/tasks/{task_id}")
            async with client.get(f"{url}/tasks/{task_id}/events?after=0") as answer:
                lines = (await answer.text()).splitlines()
            parts: list[str] = []
            for event in map(orjson.loads, lines):
                if event["type"] == "attempt":
                    parts.clear()
                elif event["type"] == "chunk":
                    parts.append(event["data"]["text"])
            if "".join(parts) != (task["result"] or ""):
                wrong.append(
                    f"{task_id} ({task['status']}): {''.join(parts)!r} != {task['result']!r}"
                )
        self.report.broken += audit.shortened(wrong, "result and joined chunks differ")

    def _judge(self, database: Path, calls: list[dict[str, Any]], figures: dict[str, Any]) -> None:
        report, ledger, seen = self.report, self._ledger, self._seen
        seen.look(database, set(ledger.accepted.values()))
        lives = audit.lives(database)
        by_marker: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for call in calls:
            if call["marker"]:
                by_marker[call["marker"]].append(call)
        report.broken += audit.shortened(seen.lost, "accepted and lost")
        report.broken += audit.shortened(seen.rerun, "ended and changed again")
        report.broken += audit.shortened(ledger.odd, "odd answers")
        report.broken += audit.shortened(
            [fault for life in lives for fault in audit.inspect(life, 1 + MAX_RETRIES)], "task"
        )
        report.broken += audit.shortened(
            [f for life in lives for f in audit.against_calls(life, by_marker[life.marker])],
            "task and provider",
        )
        report.broken += audit.shortened(self._twins(lives), "submitted once, stored twice")
        report.broken += audit.shortened(self._ends(lives), "ended wrongly")
        report.broken += audit.shortened(self._heard(lives), "follower")
        checked = audit.integrity(database)
        report.require(checked == "ok", f"integrity check: {checked}")
        for name, model in figures["models"].items():
            for kind, count in model["violations"].items():
                report.require(not count, f"{count} violations of {name}'s {kind} limit")
        self._tell(lives, calls)

    def _twins(self, lives: list[audit.Life]) -> list[str]:
        ids = defaultdict(set)
        for life in lives:
            ids[life.marker].add(life.task_id)
        return [f"{marker}: {found}" for marker, found in ids.items() if len(found) > 1]

    def _ends(self, lives: list[audit.Life]) -> list[str]:
        """Every task has ended, and in a way that the provider or a client has caused."""
        wrong = []
        for life in lives:
            code = (life.error or {}).get("code")
            if life.task_id in self._ledger.cancelled and life.state != "cancelled":
                wrong.append(f"{life.task_id} was cancelled and is {life.state}")
            elif life.state == "failed" and life.attempts != 1 + MAX_RETRIES:
                wrong.append(f"{life.task_id} failed with {code} after {life.attempts} attempts")
            elif life.state not in ("completed", "failed", "cancelled"):
                wrong.append(f"{life.task_id} is {life.state}")
        return wrong

    def _heard(self, lives: list[audit.Life]) -> list[str]:
        """Each follower has heard each event once, and the feed's client all of all tasks."""
        wrong = list(self._feed.odd)
        by_id = {life.task_id: life for life in lives}
        for follower in self._followers:
            wrong += follower.odd
            seqs = [seq for seq, _ in follower.events]
            if seqs != [event[1] for event in by_id[follower.task_id].events]:
                wrong.append(f"{follower.task_id}: heard {seqs}")
        stored = {event[0]: (life.task_id, event) for life in lives for event in life.events}
        if stored.keys() != self._feed.events.keys():
            missing = sorted(stored.keys() - self._feed.events.keys())[:10]
            unknown = sorted(self._feed.events.keys() - stored.keys())[:10]
            wrong.append(f"the feed lacks {missing} and has {unknown} which are not stored")
        for number, text in self._feed.events.items():
            event = orjson.loads(text)
            told = (event["task_id"], (number, event["seq"], event["type"], event["data"]))
            if number in stored and told != stored[number]:
                wrong.append(f"the feed said {told}, stored is {stored[number]}")
        return wrong

    def _judge_log(self, service: stage.Child) -> None:
        self.report.broken += audit.shortened(service.faults(), "the service's log")

    def _tell(self, lives: list[audit.Life], calls: list[dict[str, Any]]) -> None:
        report, ready = self.report, self._seen.ready_s
        ends: dict[str, int] = defaultdict(int)
        for life in lives:
            ends[life.state] += 1
        cut = sum(life.causes("interrupted") for life in lives)
        report.row("accepted", len(self._ledger.accepted))
        report.row("submits without an answer", self._ledger.unsure)
        for state, count in sorted(ends.items()):
            report.row(state, count)
        report.row("interrupted by kills", cut)
        report.row("calls at the provider", len(calls))
        report.row("events, all heard by the feed's client", len(self._feed.events))
        report.row("tasks followed by a client of their own", len(self._followers))
        report.row("ready, median s", percentile(ready, 0.5))
        report.row("ready, max s", max(ready))
        report.require(cut > 0, "no kill has hit a running task: the run proves nothing")
        report.target(
            max(ready) < READY_TARGET_S,
            f"ready after {max(ready):.1f} s, target {READY_TARGET_S} s",
        )


async def run(kills: int, rate: float, seed: int) -> Report:
    """The whole benchmark."""
    crash = Crash(kills, rate, seed)
    began = time.monotonic()
    await crash.go()
    crash.report.row("whole run, s", time.monotonic() - began)
    return crash.report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50, help="submits per second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.kills, options.rate, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
