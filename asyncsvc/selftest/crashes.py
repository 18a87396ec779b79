"""Kills at random moments under load, and what they have left.

Owns the load, the moments of the kills and the gathering of the evidence; `oracle` judges it.
Promises to end by itself: what is not done in time is evidence too. It never kills anything but
the service that it has started.
"""

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from asyncsvc.selftest import clients, processes
from asyncsvc.selftest.processes import Child, Program
from asyncsvc.selftest.records import Evidence, Followed
from asyncsvc.storage import audit

MAX_RETRIES = 3
EARLY_SHARE = 0.1
"""Of the kills, those that hit a process which is still starting."""
FOLLOWED_SHARE = 0.1
CANCELLED_SHARE = 0.04
LAST_EVENT_S = 30.0
PROFILE: dict[str, dict[str, Any]] = {
    "default": {"first_token_s": 0.03, "tokens_per_s": 300, "answer_tokens": 40},
    "models.quick": {"concurrency": 40},
    "models.flaky": {
        "concurrency": 20,
        "faults": {"500": 0.05, "reset": 0.05, "cut": 0.03, "429-after=0.2": 0.05},
    },
}
TAGS = ("", "", "", "[[sim:500 x1]]", "[[sim:reset at=9 x2]]", "[[sim:429-after=0.3 x1]]")


@dataclass(frozen=True)
class Load:
    """How often and how hard: `per_s` submits a second, and the limit of the model `limited`."""

    kills: int
    per_s: float
    seed: int
    rpm: int = 40
    window_s: float = 2
    concurrency: int = 5
    most_unanswered: int = 1000
    """Submits that wait for an answer; no more are sent while there are so many."""
    drain_s: float = 120.0
    """Within this time after the last kill all must be done."""

    def profile(self) -> dict[str, dict[str, Any]]:
        """The simulated provider's."""
        limit = {"rpm": self.rpm, "window_s": self.window_s, "concurrency": self.concurrency}
        return {**PROFILE, "models.limited": limit}

    def settings(self, url: str) -> dict[str, dict[str, Any]]:
        """Settings over the simulated provider at `url`."""
        model = {"base_url": f"{url}/v1", "api_key_envs": []}
        return {
            "retry": {"max_retries": MAX_RETRIES, "base_s": 0.05, "max_s": 0.5},
            "breaker": {"failures": 20, "cooldown_s": 0.3},
            # A machine that is slow for a while must not refuse: nothing would be shown.
            "limits": {"loop_lag_ms": 0, "disk_free_mb": 0},
            "tools": {"enabled": False},  # no sandbox is tried at each start
            "models.quick": {**model, "model": "quick", "concurrency": 40},
            "models.limited": {
                **model, "model": "limited", "concurrency": self.concurrency,
                "rpm": self.rpm, "rpm_window_s": self.window_s,
            },
            "models.flaky": {**model, "model": "flaky", "concurrency": 20},
        }  # fmt: skip

    def task(self, number: int) -> tuple[str, dict[str, Any], bool]:
        """The marker and the body of a submit, and whether it has an idempotency key."""
        dice = random.Random(f"{self.seed}:{number}")
        marker = f"c{self.seed}-{number}"
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


class Crashes:
    """One run in `folder`: `go` returns what it has shown."""

    def __init__(
        self,
        program: Program,
        folder: Path,
        client: aiohttp.ClientSession,
        load: Load,
        progress: Callable[[str], None],
    ) -> None:
        self.random = random.Random(load.seed)
        self._clients_random = random.Random(f"{load.seed}: clients")
        self.evidence = Evidence(1 + MAX_RETRIES)
        self._program = program
        self.folder = folder
        self.client = client
        self.load = load
        self._progress = progress
        self._enough = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    async def go(self) -> Evidence:
        """The whole run. Raises NotReady."""
        async with AsyncExitStack() as stack:
            simulator = self._program.simulator(self.folder, self.load.profile())
            provider = await stack.enter_async_context(simulator)
            service = self._program.service(self.folder, self.load.settings(provider.url))
            stack.push_async_callback(service.end)
            await self._under_load(service)
            evidence = self.evidence
            evidence.calls = await processes.all_calls(self.client, provider.url)
            evidence.figures = await processes.get(self.client, f"{provider.url}/_sim/stats")
            await self._look_at_results(service.url)
            evidence.log_faults += await self._stopped(service)
        database = processes.database(self.folder)
        await asyncio.to_thread(self._compare, database)
        evidence.tasks = await asyncio.to_thread(audit.lives, database)
        evidence.integrity = await asyncio.to_thread(audit.integrity, database)
        evidence.log_faults += service.faults()
        return evidence

    async def kill_once(self, service: Child) -> None:
        """Let it work for a moment, kill it, look at what is left, and have it back."""
        await asyncio.sleep(self.random.uniform(0.05, 1.3))
        await service.kill()
        await self.look()
        while self.random.random() < EARLY_SHARE:
            await service.launch()
            await asyncio.sleep(self.random.uniform(0.1, 0.9))
            await service.kill()
            self.evidence.lives.early += 1
            await self.look()
        self.evidence.lives.ready_s.append(await service.start())

    async def after_kills(self, service: Child) -> None:
        """The last kill is over, the load goes on."""

    async def look(self) -> None:
        """Hold what a killed service has left against what clients know by now."""
        self.evidence.lives.kills += 1
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        self._compare(audit.copy(processes.database(self.folder), self.folder / "copy"))

    def _compare(self, database: Path) -> None:
        accepted = set(self.evidence.ledger.accepted.values())
        self.evidence.lives.compare(audit.finished(database), audit.known(database), accepted)

    async def _under_load(self, service: Child) -> None:
        evidence, client, url = self.evidence, self.client, service.url
        evidence.lives.ready_s.append(await service.start())
        feed = asyncio.create_task(clients.follow_all(client, url, evidence.feed))
        load = asyncio.create_task(self._submit(url))
        try:
            for number in range(1, self.load.kills + 1):
                await self.kill_once(service)
                if number % max(self.load.kills // 10, 1) == 0:
                    accepted = len(evidence.ledger.accepted)
                    self._progress(f"kills: {number} of {self.load.kills}, {accepted} tasks")
            await self.after_kills(service)
            self._enough.set()
            await load
            self._progress("kills: the last tasks")
            await self._all_ended(url)
        finally:
            for task in (feed, load, *self._background):
                task.cancel()
            await asyncio.gather(feed, load, *self._background, return_exceptions=True)

    async def _submit(self, url: str) -> None:
        load, ledger, accepted = self.load, self.evidence.ledger, self._accepted(url)
        await clients.keep_submitting(
            self.client, url, load.per_s, load.task, ledger, accepted, self._enough,
            load.most_unanswered,
        )  # fmt: skip

    def _accepted(self, url: str) -> Callable[[str], Any]:
        async def accepted(task_id: str) -> None:
            dice, pause_s = self._clients_random.random(), self._clients_random.random() * 0.3
            if dice < FOLLOWED_SHARE:
                followed = Followed(task_id)
                self.evidence.followed.append(followed)
                following = clients.follow(self.client, url, followed)
                self._background.add(asyncio.create_task(following))
            elif dice < FOLLOWED_SHARE + CANCELLED_SHARE:
                await asyncio.sleep(pause_s)
                await clients.cancel(self.client, url, task_id, self.evidence.ledger)

        return accepted

    async def _all_ended(self, url: str) -> None:
        """Wait for all tasks and for the clients that follow them."""
        drain_s, late = self.load.drain_s, self.evidence.late
        try:
            await processes.all_done(self.client, url, drain_s)
        except TimeoutError:
            late.append(f"tasks were left to do {drain_s:g} s after the last kill")
            return
        _, pending = await asyncio.wait(self._background, timeout=drain_s)
        if pending:
            late.append(f"{len(pending)} clients did not receive the ends of their tasks")
        try:
            await self._feed_is_complete(url)
        except TimeoutError:
            late.append("the client of all tasks did not receive the last event")

    async def _feed_is_complete(self, url: str) -> None:
        """Give the feed's client the time to hear of the last event."""
        body = {"content": "The last one [[id:last]]", "model": "quick"}
        ledger = self.evidence.ledger
        ledger.keyed.add("last")
        await clients.submit(self.client, url, "last", body, ledger)
        task_id = ledger.accepted.get("last")

        async def received() -> bool:
            latest = list(self.evidence.feed.events.values())[-500:]
            return any(f'"{task_id}"' in text and '"completed"' in text for text in latest)

        await processes.until(received, LAST_EVENT_S)

    async def _look_at_results(self, url: str) -> None:
        """What a client reads of tasks that have ended is what the events say."""
        evidence = self.evidence
        some = [each.task_id for each in evidence.followed[:50]]
        for task_id in some + sorted(evidence.ledger.cancelled)[:50]:
            async with self.client.get(f"{url}/tasks/{task_id}") as answer:
                task = await answer.json()
                if answer.status == 404:
                    continue  # lost, which the database shows
            async with self.client.get(f"{url}/tasks/{task_id}/events?after=0") as answer:
                lines = (await answer.text()).splitlines()
            parts: list[str] = []
            for event in map(orjson.loads, lines):
                if event["type"] == "attempt":
                    parts.clear()
                elif event["type"] == "chunk":
                    parts.append(event["data"]["text"])
            text = "".join(parts)
            if text != (task["result"] or ""):
                evidence.differing.append(
                    f"{task_id} ({task['status']}): {text!r} != {task['result']!r}"
                )

    async def _stopped(self, service: Child) -> list[str]:
        """Stop the service as its supervisor would; what was wrong with its end."""
        if os.name == "nt":
            await service.kill()
            return []
        status = await service.stop()
        return [f"the last stop ended with status {status}"] if status else []
