"""Agents that are killed: at each event of a ten-step agent, at random moments, and at the system
calls by which its workspace is put back.

The long form of a release: `python -m tests.benchmarks.agents --kills 200`. Broken is an effect
that is missing or came twice, a step that was asked for after it had ended, a call with two
results, and a task that waits for a person although its effects stay in the workspace.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from tests.benchmarks import audit, stage, straced
from tests.benchmarks.report import Report, progress

AT_ONCE = 4
"""Agents under way in each life of the service."""
DONE_S = 120.0
LIFE_S = 10.0
"""A life that has not come to its system call by then is ended all the same."""
SLOWLY = (
    "import time\n"
    "file = open('log', 'a')\n"
    "file.write('{n} begins\\n'); file.flush()\n"
    "time.sleep(0.02)\n"
    "file.write('{n} ends\\n')\n"
)
"""A program of which a kill leaves the half."""
SWITCH = ("rename", "fsync", "fdatasync", "mkdir", "unlink", "unlinkat", "rmdir", "openat", "write")
"""System calls by which a workspace is put back."""
SWITCH_MOST = 12
MODEL = {"first_token_s": 0.005, "tokens_per_s": 2000, "concurrency": 40}


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


@dataclass
class Seen:
    """What the runs have shown."""

    agents: int = 0
    lives: int = 0
    rollbacks: int = 0
    asked_again: int = 0
    """Steps that were cut off before they had ended, and asked for again."""
    at_calls: int = 0
    """Lives that ended at the system call that was chosen for them."""
    faults: list[str] = field(default_factory=list)


class Killing:
    """A service that is killed again and again while agents are under way."""

    def __init__(
        self, service: stage.Child, folder: Path, client: aiohttp.ClientSession, seed: int
    ) -> None:
        self.seen = Seen()
        self._service = service
        self._folder = folder
        self._client = client
        self._random = random.Random(seed)

    async def at_events(self, every: int) -> None:
        """Kill as each `every`-th event of an agent is seen, one life an event."""
        at, more = 1, True
        while more:
            ids = await self._submit(1)
            more = await self._kill_at_event(ids[0], at)
            await self._next_life(ids)
            at += every
        progress(f"{self.seen.lives} kills at events")

    async def at_random(self, kills: int) -> None:
        """Kill at random moments, some of them soon after a start."""
        done = 0
        while done < kills:
            ids = await self._submit(AT_ONCE)
            for _ in range(self._random.randint(1, 3)):
                await asyncio.sleep(self._random.uniform(0.0, 1.0))
                await self._service.kill()
                done += 1
                await self._service.start()
                self.seen.lives += 1
            await self._judge_all(ids)
            progress(f"{done} kills at random moments")

    async def at_system_calls(self, kills: int) -> None:
        """Kill while programs run, and the next life at a system call of putting back."""
        service = self._service
        for number in range(kills):
            ids = await self._submit(AT_ONCE)
            await self._kill_in_a_program(ids[0])
            call, nth = self._random.choice(SWITCH), self._random.randint(1, SWITCH_MOST)
            service.under = straced.injecting(call, f"signal=KILL:when={nth}")
            await service.launch()
            with suppress(TimeoutError):
                async with asyncio.timeout(LIFE_S):
                    await service.process.wait()
                self.seen.at_calls += 1
            await service.kill()
            service.under = ()
            await self._next_life(ids)
            if number % 10 == 9:
                progress(f"{number + 1} kills at system calls")

    # Lives --------------------------------------------------------------------------------------

    async def _submit(self, count: int) -> list[str]:
        body = {
            "type": "agent",
            "content": f"#agent {orjson.dumps(script()).decode()}",
            "lane": "long",
        }
        answers = [await stage.post(self._client, self._url("/tasks"), body) for _ in range(count)]
        self.seen.agents += count
        return [answer["task_id"] for answer in answers]

    def _url(self, path: str) -> str:
        return self._service.url + path

    async def _kill_at_event(self, task_id: str, at: int) -> bool:
        """Kill when the event of that number is seen; False where the task ends before."""
        url = self._url(f"/tasks/{task_id}/events")
        async with self._client.get(url, headers={"Accept": "text/event-stream"}) as answer:
            async for line in answer.content:
                if line.startswith(b"id: ") and int(line[4:]) >= at:
                    await self._service.kill()
                    return True
        await self._service.kill()
        return False

    async def _kill_in_a_program(self, task_id: str) -> None:
        """Kill after a program has begun, which writes at once and ends a little later."""
        url = self._url(f"/tasks/{task_id}/events")
        wanted = self._random.randint(1, 5)
        async with self._client.get(url, headers={"Accept": "text/event-stream"}) as answer:
            async for line in answer.content:
                wanted -= b'"checkpoint":"' in line
                if not wanted:
                    break
        await asyncio.sleep(self._random.uniform(0.0, 0.15))
        await self._service.kill()

    async def _next_life(self, ids: Sequence[str]) -> None:
        await self._service.start()
        self.seen.lives += 1
        await self._judge_all(ids)

    # The verdict --------------------------------------------------------------------------------

    async def _judge_all(self, ids: Sequence[str]) -> None:
        """Wait for the agents' ends and hold each against what it should have done."""
        for task_id in ids:
            try:
                task = await self._ended(task_id)
            except TimeoutError:
                self.seen.faults.append(f"{task_id} did not end")
                continue
            async with self._client.get(self._url(f"/tasks/{task_id}/events?after=0")) as answer:
                events = [orjson.loads(line) for line in (await answer.text()).splitlines()]
            found = self._faults(task, events)
            found += _files_of(self._folder / "workspaces" / "tasks" / task_id)
            self.seen.faults += [f"{task_id}: {fault}" for fault in found]

    async def _ended(self, task_id: str) -> dict[str, Any]:
        async with asyncio.timeout(DONE_S):
            while True:
                task: dict[str, Any] = await stage.get(self._client, self._url(f"/tasks/{task_id}"))
                if task["status"] in ("completed", "failed", "cancelled", "paused"):
                    return task
                await asyncio.sleep(0.02)

    def _faults(self, task: dict[str, Any], events: list[dict[str, Any]]) -> list[str]:
        faults = []
        if (task["status"], task["result"]) != ("completed", "Done."):
            faults.append(f"{task['status']} {task['error']} {task['result']!r}")
        if [one["seq"] for one in events] != list(range(1, len(events) + 1)):
            faults.append("the numbers of its events have gaps")
        kinds = Counter(event["type"] for event in events)
        self.seen.rollbacks += kinds["rollback"]
        if kinds["approval"]:
            faults.append(f"it waited for a person {kinds['approval']} times")
        results = [event["data"] for event in events if event["type"] == "tool_result"]
        faults += [f"a call failed: {data}" for data in results if not data["ok"]]
        twice = Counter(data["id"] for data in results)
        faults += [f"{call} has {n} results" for call, n in twice.items() if n > 1]
        return faults + self._faults_of_steps(events)

    def _faults_of_steps(self, events: list[dict[str, Any]]) -> list[str]:
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
        self.seen.asked_again += asked.total() - len(asked)
        if ended != STEPS:
            faults.append(f"{ended} of {STEPS} steps have ended")
        return faults


def _files_of(folder: Path) -> list[str]:
    """What is wrong with the files of an agent that has ended."""
    works = sorted(folder.glob("work-*"), key=lambda path: int(path.name[5:]))
    if not works:
        return ["it has no workspace"]
    found = {
        str(path.relative_to(works[-1])): path.read_text()
        for path in works[-1].rglob("*")
        if path.is_file()
    }
    return [] if found == FILES else [f"its files are {found}"]


def _tables(folder: Path, url: str) -> dict[str, dict[str, Any]]:
    """The settings of the service."""
    model = {"base_url": f"{url}/v1", "api_key_envs": [], "model": "quick", "concurrency": 40}
    return {"tools": {"workspace": str(folder / "workspaces")}, "models.quick": model}


async def run(every: int, kills: int, calls: int, seed: int) -> Report:
    """The whole benchmark: a kill at each `every`-th event, so many at random moments, and so many
    at system calls."""
    began = time.monotonic()
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, {"default": MODEL}) as provider,
        stage.service(folder, _tables(folder, provider.url)) as service,
    ):
        killing = Killing(service, folder, client, seed)
        await killing.at_events(every)
        await killing.at_random(kills)
        if (why := straced.missing()) is None:
            await killing.at_system_calls(calls)
        faults = service.faults()
    report = Report(f"agents: killed, seed {seed}", ("what", "value"))
    seen = killing.seen
    report.row("agents of ten steps", seen.agents)
    report.row("kills", seen.lives)
    report.row("of these at a chosen system call", seen.at_calls)
    report.row("workspaces put back", seen.rollbacks)
    report.row("steps that were cut and asked for again", seen.asked_again)
    report.row("whole run, s", time.monotonic() - began)
    report.notes += [f"no kills at system calls: {why}"] if why else []
    report.broken += audit.shortened(seen.faults, "effects")
    report.broken += audit.shortened(faults, "the service's log")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.agents", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="kill at each so many events")
    parser.add_argument("--kills", type=int, default=200, help="kills at random moments")
    parser.add_argument("--calls", type=int, default=60, help="kills at system calls")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.every, options.kills, options.calls, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
