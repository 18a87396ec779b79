"""Clients that live through kills: they submit, they follow, and write down what they received.

Owns the record of every acknowledgement and of every event that reached a client. Promises to
come back after every cut with the same key or the last cursor, as a careful user's program
would. Never reads the database.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

BACK_S = 0.05
"""Pause before a client comes back to a service that is away."""
CUT = (aiohttp.ClientError, TimeoutError, ConnectionError)


@dataclass
class Ledger:
    """What clients know for certain."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Marker → task id of every acknowledged submit."""
    keyed: set[str] = field(default_factory=set)
    """Markers whose submits were repeated with one key until they were acknowledged."""
    cancelled: set[str] = field(default_factory=set)
    """Ids of tasks whose cancellation was acknowledged."""
    odd: list[str] = field(default_factory=list)
    """Answers that no client should ever get."""
    unsure: int = 0


async def submit(
    client: aiohttp.ClientSession, url: str, marker: str, body: dict[str, Any], ledger: Ledger
) -> None:
    """Submit once; or, for a marker in `keyed`, with one key until it is acknowledged."""
    keyed = marker in ledger.keyed
    headers = {"Idempotency-Key": marker} if keyed else {}
    while True:
        try:
            async with client.post(f"{url}/tasks", json=body, headers=headers) as answer:
                task = await answer.json()
                if answer.status in (200, 202):
                    ledger.accepted[marker] = task["task_id"]
                    return
                ledger.odd.append(f"a submit was answered {answer.status}: {task}")
                return
        except CUT:
            if not keyed:
                ledger.unsure += 1
                return
        await asyncio.sleep(BACK_S)


async def cancel(client: aiohttp.ClientSession, url: str, task_id: str, ledger: Ledger) -> None:
    """Cancel a task if it is not finished yet; a cut leaves it unknown."""
    with suppress(*CUT):
        async with client.post(f"{url}/tasks/{task_id}/cancel") as answer:
            task = await answer.json()
            if answer.status == 200 and task["status"] == "cancelled":
                ledger.cancelled.add(task_id)
            elif answer.status != 409:
                ledger.odd.append(f"a cancel was answered {answer.status}: {task}")


async def keep_submitting(
    client: aiohttp.ClientSession,
    url: str,
    per_s: float,
    make: Callable[[int], tuple[str, dict[str, Any], bool]],
    ledger: Ledger,
    accepted: Callable[[str], Awaitable[None]],
    enough: asyncio.Event,
) -> None:
    """Submit evenly until there is `enough`, then wait for those under way.

    `make` gives marker, body and whether to use a key; `accepted` is called with each id.
    """
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        marker, body, keyed = make(number)
        if keyed:
            ledger.keyed.add(marker)
        await submit(client, url, marker, body, ledger)
        if task_id := ledger.accepted.get(marker):
            await accepted(task_id)

    began, number = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while not enough.is_set():
            await asyncio.sleep(max(began + number / per_s - loop.time(), 0))
            group.create_task(one(number))
            number += 1


@dataclass
class Follower:
    """One client of `/ws/tasks/{id}`; `events` are the texts as they came."""

    task_id: str
    events: list[tuple[int, str]] = field(default_factory=list)
    done: bool = False
    odd: list[str] = field(default_factory=list)

    async def run(self, client: aiohttp.ClientSession, url: str) -> None:
        """Follow until the service says that the task is over (1000)."""
        while not self.done:
            after = self.events[-1][0] if self.events else 0
            with suppress(*CUT):
                async with client.ws_connect(f"{url}/ws/tasks/{self.task_id}?after={after}") as ws:
                    async for message in ws:
                        self._take(message)
                    self.done = ws.close_code == 1000
                    if ws.close_code not in (1000, 1001, 1006, None):
                        self.odd.append(f"closed with {ws.close_code}")
            if not self.done:
                await asyncio.sleep(BACK_S * (1 + random.random()))

    def _take(self, message: aiohttp.WSMessage) -> None:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return
        event = orjson.loads(message.data)
        if "op" in event:
            self.odd.append(message.data)
        elif event["seq"] is not None:
            self.events.append((event["seq"], message.data))


@dataclass
class FeedFollower:
    """One client of the whole feed; `events` maps ids to the texts as they came."""

    last: int = 0
    events: dict[int, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    async def run(self, client: aiohttp.ClientSession, url: str) -> None:
        """Follow until cancelled."""
        while True:
            with suppress(*CUT):
                async with client.ws_connect(f"{url}/ws", max_msg_size=0) as ws:
                    await ws.send_json({"op": "subscribe", "all": True, "after_id": self.last})
                    async for message in ws:
                        self._take(message)
            await asyncio.sleep(BACK_S)

    def _take(self, message: aiohttp.WSMessage) -> None:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return
        event = orjson.loads(message.data)
        if event.get("op") == "error":
            self.odd.append(message.data)
        elif event.get("id") is not None:
            if event["id"] <= self.last:
                self.odd.append(f"id {event['id']} came after {self.last}")
            self.last = event["id"]
            self.events[event["id"]] = message.data
