"""Agents that are killed: what they should have done, and what has become of it.

Owns an agent of ten steps whose calls write files and run programs, the kills, and the judgement
of its events and files. A fault is an effect that is missing or came twice, a step that was asked
for after it had ended, a call with two results, and a task that waits for a person although its
effects stay in the workspace.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from asyncsvc.selftest import processes
from asyncsvc.selftest.processes import Child

AT_ONCE = 4
"""Agents under way in each life of the service."""
DONE_S = 120.0
SLOWLY = (
    "import time\n"
    "file = open('log', 'a')\n"
    "file.write('{n} begins\\n'); file.flush()\n"
    "time.sleep(0.02)\n"
    "file.write('{n} ends\\n')\n"
)
"""A program of which a kill leaves the half."""
PROFILE = {"default": {"first_token_s": 0.005, "tokens_per_s": 2000, "concurrency": 40}}


def _writes(path: str, content: str) -> dict[str, Any]:
    return {"name": "write_file", "arguments": {"path": path, "content": content}}


def _program(n: int) -> dict[str, Any]:
    return {"name": "exec_python", "arguments": {"code": SLOWLY.format(n=n)}}


def script() -> list[dict[str, Any]]:
    """Nine steps with calls that write, and the answer."""
    edit = {"name": "edit_file", "arguments": {"path": "a", "old": "one", "new": "two"}}
    read = {"name": "read_file", "arguments": {"path": "a"}}
    return [
        {"text": "I begin.", "calls": [_writes("a", "one\n")]},
        {"calls": [_program(1)]},
        {"calls": [edit, read]},
        {"calls": [_program(2), _program(3)]},
        {"calls": [{"name": "create_directory", "arguments": {"path": "d"}}]},
        {"calls": [_program(4)]},
        {"calls": [read, {"name": "list_directory", "arguments": {"path": "."}}]},
        {"calls": [_writes("d/b", "x" * 1000)]},
        {"calls": [_program(5)]},
        {"text": "Done."},
    ]


STEPS = len(script())
LOG = "".join(f"{n} {what}\n" for n in range(1, 6) for what in ("begins", "ends"))
FILES = {"a": "two\n", "d/b": "x" * 1000, "log": LOG}


def settings(folder: Path, url: str) -> dict[str, dict[str, Any]]:
    """Settings of a service in `folder` over the simulated provider at `url`."""
    model = {"base_url": f"{url}/v1", "api_key_envs": [], "model": "quick", "concurrency": 40}
    return {
        "server": {"grace_s": 0},
        "tools": {"workspace": str(folder / "workspaces")},
        "models.quick": model,
    }


@dataclass
class Seen:
    """What the runs have shown."""

    agents: int = 0
    lives: int = 0
    rollbacks: int = 0
    asked_again: int = 0
    """Steps that were cut off before they had ended, and asked for again."""
    faults: list[str] = field(default_factory=list)

    def judge(self, task: dict[str, Any], events: list[dict[str, Any]]) -> list[str]:
        """Count one agent that has ended, and return what is wrong with it."""
        faults = []
        if (task["status"], task["result"]) != ("completed", "Done."):
            faults.append(f"{task['status']} {task['error']} {task['result']!r}")
        if [one["seq"] for one in events] != list(range(1, len(events) + 1)):
            faults.append("the numbers of its events have gaps")
        kinds = Counter(event["type"] for event in events)
        self.rollbacks += kinds["rollback"]
        if kinds["approval"]:
            faults.append(f"it waited for a person {kinds['approval']} times")
        results = [event["data"] for event in events if event["type"] == "tool_result"]
        faults += [f"a call failed: {data}" for data in results if not data["ok"]]
        twice = Counter(data["id"] for data in results)
        faults += [f"{call} has {n} results" for call, n in twice.items() if n > 1]
        return faults + self._judge_steps(events)

    def _judge_steps(self, events: list[dict[str, Any]]) -> list[str]:
        faults, ended = [], 0
        asked: Counter[int] = Counter()
        for event in events:
            data = event["data"]
            if event["type"] == "step":
                asked[data["number"]] += 1
                if data["number"] != ended + 1:
                    faults.append(f"step {data['number']} was asked for after step {ended}")
            elif event["type"] == "message":
                ended = data["step"]
        self.asked_again += asked.total() - len(asked)
        if ended != STEPS:
            faults.append(f"{ended} of {STEPS} steps have ended")
        return faults


def faults_of_files(folder: Path) -> list[str]:
    """What is wrong with the files of an agent that has ended."""
    works = sorted(folder.glob("work-*"), key=lambda path: int(path.name[5:]))
    if not works:
        return ["it has no workspace"]
    found = {
        path.relative_to(works[-1]).as_posix(): path.read_text(encoding="utf-8")
        for path in works[-1].rglob("*")
        if path.is_file()
    }
    return [] if found == FILES else [f"its files are {found}"]


class AgentKills:
    """A service that is killed again and again while agents are under way."""

    def __init__(
        self,
        service: Child,
        folder: Path,
        client: aiohttp.ClientSession,
        seed: int,
        progress: Callable[[str], None],
    ) -> None:
        self.seen = Seen()
        self.service = service
        self.client = client
        self.random = random.Random(seed)
        self.progress = progress
        self._folder = folder

    async def at_random(self, kills: int) -> None:
        """Kill at random moments, some of them soon after a start."""
        done = 0
        while done < kills:
            ids = await self.submit(AT_ONCE)
            for _ in range(min(self.random.randint(1, 3), kills - done)):
                await asyncio.sleep(self.random.uniform(0.0, 1.0))
                await self.service.kill()
                done += 1
                await self.service.start()
                self.seen.lives += 1
            await self.judge_all(ids)
            self.progress(f"agents: {done} of {kills} kills, {self.seen.agents} agents")

    async def submit(self, count: int) -> list[str]:
        """Submit so many agents; their ids."""
        body = {
            "type": "agent",
            "content": f"#agent {orjson.dumps(script()).decode()}",
            "lane": "long",
        }
        url = self.url("/tasks")
        answers = [await processes.post(self.client, url, body) for _ in range(count)]
        self.seen.agents += count
        return [answer["task_id"] for answer in answers]

    def url(self, path: str) -> str:
        return self.service.url + path

    async def judge_all(self, ids: Sequence[str]) -> None:
        """Wait for the agents' ends and hold each against what it should have done."""
        for task_id in ids:
            try:
                task = await self._ended(task_id)
            except TimeoutError:
                self.seen.faults.append(f"{task_id} did not end")
                continue
            async with self.client.get(self.url(f"/tasks/{task_id}/events?after=0")) as answer:
                events = [orjson.loads(line) for line in (await answer.text()).splitlines()]
            found = self.seen.judge(task, events)
            found += faults_of_files(self._folder / "workspaces" / "tasks" / task_id)
            self.seen.faults += [f"{task_id}: {fault}" for fault in found]

    async def _ended(self, task_id: str) -> dict[str, Any]:
        url = self.url(f"/tasks/{task_id}")
        async with asyncio.timeout(DONE_S):
            while True:
                task: dict[str, Any] = await processes.get(self.client, url)
                if task["status"] in ("completed", "failed", "cancelled", "paused"):
                    return task
                await asyncio.sleep(0.02)
