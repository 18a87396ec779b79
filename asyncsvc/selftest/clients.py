"""Clients that live through kills: they submit, they follow, and write down what they received.

Fill the records with every acknowledgement and every event that reached a client. Promise to come
back after every cut with the same key or the last cursor, as a careful user's program would.
Never read the database.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import aiohttp

from asyncsvc.selftest.records import Feed, Followed, Ledger

BACK_S, MOST_BACK_S = 0.05, 0.5
"""First and longest pause before a client comes back to a service that is away: hundreds that come
back at once would keep a small machine from starting it."""
CUT = (aiohttp.ClientError, TimeoutError, ConnectionError)
DONE, NO_SUCH_TASK = 1000, 4404
BUSY = 503
"""The service takes nothing now, and says so: it can be tried again."""


class BackOff:
    """Pauses that double from one to the next, until the service has answered."""

    def __init__(self) -> None:
        self._pause_s = BACK_S

    async def wait(self) -> None:
        """Pause, and a little longer or shorter than others."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, MOST_BACK_S)
        await asyncio.sleep(pause_s * (0.5 + random.random()))

    def reset(self) -> None:
        """The service has answered."""
        self._pause_s = BACK_S


async def submit(
    client: aiohttp.ClientSession, url: str, marker: str, body: dict[str, Any], ledger: Ledger
) -> None:
    """Submit once; or, for a marker in `keyed`, with one key until it is acknowledged."""
    keyed = marker in ledger.keyed
    headers, back_off = {"Idempotency-Key": marker} if keyed else {}, BackOff()
    while True:
        began = perf_counter()
        try:
            async with client.post(f"{url}/tasks", json=body, headers=headers) as answer:
                took_s = perf_counter() - began
                task = await answer.json()
                if answer.status in (200, 202):
                    if answer.status == 202:  # 200 repeats what was stored before
                        ledger.acknowledged_s.append(took_s)
                    ledger.accepted[marker] = task["task_id"]
                    return
                if answer.status != BUSY:
                    ledger.odd.append(f"a submit was answered {answer.status}: {task}")
                    return
                if not keyed:
                    return
        except CUT:
            if not keyed:
                ledger.unsure += 1
                return
        await back_off.wait()


async def cancel(client: aiohttp.ClientSession, url: str, task_id: str, ledger: Ledger) -> None:
    """Cancel a task if it is not finished yet; a cut leaves it unknown."""
    with suppress(*CUT):
        async with client.post(f"{url}/tasks/{task_id}/cancel") as answer:
            task = await answer.json()
            if answer.status == 200 and task["status"] == "cancelled":
                ledger.cancelled.add(task_id)
            elif answer.status not in (409, BUSY):
                ledger.odd.append(f"a cancel was answered {answer.status}: {task}")


async def keep_submitting(
    client: aiohttp.ClientSession,
    url: str,
    per_s: float,
    make: Callable[[int], tuple[str, dict[str, Any], bool]],
    ledger: Ledger,
    accepted: Callable[[str], Awaitable[None]],
    enough: asyncio.Event,
    most_unanswered: int,
) -> None:
    """Submit evenly until there is `enough`, then wait for those under way.

    `make` gives marker, body and whether to use a key; `accepted` is called with each id. While
    `most_unanswered` wait for an answer no more are sent: a service that needs long to come back
    does not find ever more work.
    """
    loop, unanswered = asyncio.get_running_loop(), 0

    async def one(number: int) -> None:
        nonlocal unanswered
        marker, body, keyed = make(number)
        if keyed:
            ledger.keyed.add(marker)
        unanswered += 1
        try:
            await submit(client, url, marker, body, ledger)
        finally:
            unanswered -= 1
        if task_id := ledger.accepted.get(marker):
            await accepted(task_id)

    began, number = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while not enough.is_set():
            await asyncio.sleep(max(began + number / per_s - loop.time(), 0))
            if unanswered < most_unanswered:
                group.create_task(one(number))
            number += 1


async def follow(client: aiohttp.ClientSession, url: str, followed: Followed) -> None:
    """Follow a task until the service says that it is over, or that there is no such task."""
    code, back_off = None, BackOff()
    while code not in (DONE, NO_SUCH_TASK):
        after = followed.events[-1][0] if followed.events else 0
        with suppress(*CUT):
            path = f"/ws/tasks/{followed.task_id}?after={after}"
            async with client.ws_connect(url + path) as socket:
                back_off.reset()
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        followed.take(message.data)
                code = socket.close_code
                if code not in (DONE, 1001, 1006, None):
                    followed.odd.append(f"{followed.task_id}: closed with {code}")
        if code != DONE:
            await back_off.wait()


async def follow_all(client: aiohttp.ClientSession, url: str, feed: Feed) -> None:
    """Follow all tasks until cancelled."""
    back_off = BackOff()
    while True:
        with suppress(*CUT):
            async with client.ws_connect(f"{url}/ws", max_msg_size=0) as socket:
                back_off.reset()
                await socket.send_json({"op": "subscribe", "all": True, "after_id": feed.last})
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        feed.take(message.data)
        await back_off.wait()
