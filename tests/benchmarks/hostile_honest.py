"""Honest load beside an attack: submits, a streamed chat, and a supervisor's probes.

Owns what honest clients see: the time of each answer, what was refused, what was wrong. Promises
to send at its own pace whether answers come or not, so that a service which stands still shows
in every figure. Never knows of the attack.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import aiohttp
import orjson

from tests.benchmarks.hostile_provider import CHAT, answer_to

PROBE_S = 0.02
SUBMIT_S = 0.05
PATIENCE_S = 30.0
"""For one answer, and for all tasks to be done after an attack."""
LOST = (aiohttp.ClientError, OSError, TimeoutError)
SHOWN = 3


class Honest:
    """`run` until it is stopped; `check` then holds every task against its answer."""

    def __init__(self, url: str, headers: dict[str, str], prefix: str) -> None:
        self.probes_s: list[float] = []
        self.submits_s: list[float] = []
        self.gaps_s: list[float] = []
        """Times without a piece within a streamed chat, the one before the first included."""
        self.refused: Counter[str] = Counter()
        """Answers to honest requests that were not what they should be, by kind and status."""
        self.wrong: list[str] = []
        self._questions: dict[str, str] = {}
        self._url = url
        self._headers = headers
        self._prefix = prefix

    @property
    def accepted(self) -> int:
        return len(self._questions)

    async def run(self, stop: asyncio.Event) -> None:
        """Probe, submit and chat; what is under way at the stop is still waited for."""
        async with self._client() as client, asyncio.TaskGroup() as group:
            group.create_task(self._every(PROBE_S, lambda n: self._probe(client), stop))
            group.create_task(self._every(SUBMIT_S, lambda n: self._submit(client, n), stop))
            group.create_task(self._chats(client, stop))

    async def check(self) -> None:
        """Every accepted task is completed in time, with the right answer."""
        turns = asyncio.Semaphore(8)
        ends = perf_counter() + PATIENCE_S
        async with self._client() as client:
            await asyncio.gather(
                *(self._check(client, one, turns, ends) for one in self._questions)
            )

    def _client(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(
            self._url, headers=self._headers, timeout=timeout, connector=connector
        )

    async def _every(
        self, pause_s: float, act: Callable[[int], Awaitable[None]], stop: asyncio.Event
    ) -> None:
        """Act at an even pace; each act counts from when it was due."""
        began, number = perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(_awaited(act(number)))
                number += 1
                await asyncio.sleep(max(began + number * pause_s - perf_counter(), 0))

    async def _probe(self, client: aiohttp.ClientSession) -> None:
        began = perf_counter()
        try:
            async with client.get("/livez") as answer:
                await answer.read()
                if answer.status != 200:
                    self.refused[f"probe {answer.status}"] += 1
        except LOST as error:
            self.refused[f"probe {type(error).__name__}"] += 1
        self.probes_s.append(perf_counter() - began)

    async def _submit(self, client: aiohttp.ClientSession, number: int) -> None:
        question = f"{self._prefix} {number}"
        began = perf_counter()
        try:
            body = {"content": question, "model": "honest"}
            async with client.post("/tasks", json=body) as answer:
                given = await answer.json()
                if answer.status == 202:
                    self._questions[given["task_id"]] = question
                else:
                    self.refused[f"submit {answer.status} {given['error']['code']}"] += 1
        except LOST as error:
            self.refused[f"submit {type(error).__name__}"] += 1
        self.submits_s.append(perf_counter() - began)

    async def _chats(self, client: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        """One streamed chat after the other."""
        number = 0
        while not stop.is_set():
            question = f"{CHAT} {self._prefix} {number}"
            try:
                await self._chat(client, question)
            except LOST as error:
                self.refused[f"chat {type(error).__name__}"] += 1
            number += 1
            await asyncio.sleep(SUBMIT_S)

    async def _chat(self, client: aiohttp.ClientSession, question: str) -> None:
        messages = [{"role": "user", "content": question}]
        body = {"model": "honest", "stream": True, "messages": messages}
        pieces: list[str] = []
        at = perf_counter()
        async with client.post("/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                self.refused[f"chat {answer.status}"] += 1
                return
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                now = perf_counter()
                self.gaps_s.append(now - at)
                at = now
                choices = orjson.loads(line[6:]).get("choices", ())
                pieces.extend(choice["delta"].get("content") or "" for choice in choices)
        if "".join(pieces) != "".join(answer_to(question)):
            self.wrong.append(f"{question!r} was answered {''.join(pieces)!r}"[:200])

    async def _check(
        self, client: aiohttp.ClientSession, task_id: str, turns: asyncio.Semaphore, ends: float
    ) -> None:
        expected = "".join(answer_to(self._questions[task_id]))
        task: dict[str, Any] = {}
        while task.get("status") not in ("completed", "failed", "cancelled"):
            async with turns:
                with suppress(*LOST):
                    async with client.get(f"/tasks/{task_id}") as answer:
                        if answer.status == 200:
                            task = await answer.json()
            if perf_counter() > ends:
                break
            await asyncio.sleep(0.01)
        if not task:
            self.refused["task that could not be read"] += 1
        elif task["status"] != "completed" or task["result"] != expected:
            self.wrong.append(f"{task_id} is {task}"[:300])


async def _awaited(act: Awaitable[None]) -> None:
    await act
