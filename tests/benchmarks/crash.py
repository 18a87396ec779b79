"""Kill -9 at random moments under load, and an audit of what is left.

The long form of a release: `python -m tests.benchmarks.crash --kills 200 --rate 50`.
Promises to end by itself and to leave nothing behind. Broken is whatever a client received and
the database does not hold, whatever ran again after it had ended, whatever came twice or not
at all. It never kills anything but the service that it has started.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import orjson
import uvloop

from tests.benchmarks import audit, clients, stage
from tests.benchmarks.report import Report, progress
from tests.benchmarks.verdict import Kills, Verdict

MAX_RETRIES = 3
EARLY_SHARE = 0.1
"""Of the kills, those that hit a process which is still starting."""
FOLLOWED_SHARE = 0.1
CANCELLED_SHARE = 0.04
DRAIN_S = 120.0
PROFILE: dict[str, dict[str, Any]] = {
    "default": {"first_token_s": 0.03, "tokens_per_s": 300, "answer_tokens": 40},
    "models.quick": {"concurrency": 40},
    "models.limited": {"concurrency": 5},
    "models.flaky": {
        "concurrency": 20,
        "faults": {"500": 0.05, "reset": 0.05, "cut": 0.03, "429-after=0.2": 0.05},
    },
}
RATE = {"rpm": 40, "window_s": 2}
"""Of the limited model: what it allows in how many seconds."""
TAGS = ("", "", "", "[[sim:500 x1]]", "[[sim:reset at=9 x2]]", "[[sim:429-after=0.3 x1]]")


def profile(rate: Mapping[str, int] = RATE) -> dict[str, dict[str, Any]]:
    """The simulated provider's."""
    return {**PROFILE, "models.limited": {**PROFILE["models.limited"], **rate}}


def settings(url: str, rate: Mapping[str, int] = RATE) -> dict[str, dict[str, Any]]:
    """Settings over the simulated provider at `url`."""
    model = {"base_url": f"{url}/v1", "api_key_envs": []}
    return {
        "retry": {"max_retries": MAX_RETRIES, "base_s": 0.05, "max_s": 0.5},
        "breaker": {"failures": 20, "cooldown_s": 0.3},
        "models.quick": {**model, "model": "quick", "concurrency": 40},
        "models.limited": {
            **model, "model": "limited", "concurrency": 5,
            "rpm": rate["rpm"], "rpm_window_s": rate["window_s"],
        },
        "models.flaky": {**model, "model": "flaky", "concurrency": 20},
    }  # fmt: skip


class Crash:
    """One run: `go`, then `judge`."""

    rate: ClassVar[Mapping[str, int]] = RATE

    def __init__(self, kills: int, per_s: float, seed: int) -> None:
        self._kills = kills
        self._rate = per_s
        self._seed = seed
        self._random = random.Random(seed)
        self._ledger = clients.Ledger()
        self._followers: list[clients.Follower] = []
        self._feed = clients.FeedFollower()
        self._seen = Kills()
        self._enough = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self.report = Report(
            f"crash: {kills} kills at {per_s:g} submits/s, seed {seed}", ("what", "value")
        )

    async def go(self) -> None:
        """The whole run."""
        async with stage.workplace() as (folder, client):
            async with stage.simulator(folder, profile(self.rate)) as provider:
                service = stage.service(folder, settings(provider.url, self.rate))
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
            verdict = Verdict(
                self.report, self._ledger, self._seen, self._followers, self._feed, 1 + MAX_RETRIES
            )
            verdict.judge(stage.database(folder), calls, figures)
            self.report.broken += audit.shortened(service.faults(), "the service's log")

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
            await self._after_kills(service)
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

    async def _after_kills(self, service: stage.Child) -> None:
        """The last kill is over, the load goes on."""

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
        submitted = await stage.post(
            client, f"{url}/tasks", {"content": "The last one [[id:last]]", "model": "quick"}
        )
        self._ledger.accepted["last"] = task_id = submitted["task_id"]

        async def received() -> bool:
            latest = list(self._feed.events.values())[-500:]
            return any(f'"{task_id}"' in text and '"completed"' in text for text in latest)

        await stage.until(received, 30)

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
