"""The deliverer over a scripted network, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from asyncsvc.clock import Now
from asyncsvc.config.settings import Webhooks as Rules
from asyncsvc.journal.journal import Journal
from asyncsvc.storage.entries import Tried
from asyncsvc.tasks.state import Task
from asyncsvc.webhooks import deliveries as webhooks
from asyncsvc.webhooks.deliveries import Webhooks
from asyncsvc.webhooks.posting import Answer
from tests.builders import begun, ended, journal_at, new_task
from tests.hooks import SECRET
from tests.virtual_time import loop, wall_ms

ENVIRON = {"ASYNCSVC_WEBHOOK_SECRET": SECRET}
OK, BAD, GONE = Answer(204), Answer(500), Answer(410)


class Wire:
    """Stands for the network: `replies` by host, the last one for good; seconds to answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replies: dict[str, list[Answer]] = {}
        self.takes: dict[str, float] = {}
        self.sent: list[tuple[float, str, dict[str, str], dict[str, Any]]] = []
        self.under_way: dict[str, int] = {}
        self.most: dict[str, int] = {}
        monkeypatch.setattr(webhooks, "post", self._post)

    async def _post(self, egress: Any, url: str, body: bytes, headers: Any, *_: Any) -> Answer:
        host = url.split("/")[2]
        self.sent.append((round(loop().time(), 1), host, headers, orjson.loads(body)))
        self.under_way[host] = self.under_way.get(host, 0) + 1
        self.most[host] = max(self.most.get(host, 0), self.under_way[host])
        try:
            await asyncio.sleep(self.takes.get(host, 0.0))
        finally:
            self.under_way[host] -= 1
        replies = self.replies.setdefault(host, [OK])
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def times(self, host: str = "a") -> list[float]:
        return [at for at, to, *_ in self.sent if to == host]

    def tasks(self) -> list[str]:
        return [str(body["id"]) for *_, body in self.sent]


async def view(task: Task) -> dict[str, Any]:
    return {"id": task.id, "status": task.state.value}


def draw() -> float:
    """Neither more nor less than the schedule."""
    return 0.5


def made(journal: Journal, **rules: Any) -> Webhooks:
    return Webhooks(journal, Rules.model_validate(rules), ENVIRON, draw=draw)


@asynccontextmanager
async def telling(
    folder: Path, view: webhooks.View = view, now: Now = wall_ms, **rules: Any
) -> AsyncIterator[tuple[Journal, Webhooks]]:
    async with journal_at(folder / "t.db", now) as journal:
        hooks = made(journal, **rules)
        running = asyncio.create_task(hooks.run(view))
        try:
            yield journal, hooks
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def finish(journal: Journal, task_id: str, host: str = "a", size: int = 2) -> None:
    new_tasks = new_task(task_id, b"x" * size, callback_url=f"http://{host}/done")
    await journal.append(new_tasks, begun(task_id), ended(task_id))


async def told(journal: Journal, task_id: str = "t") -> Tried:
    return await journal.store.deliveries.last_try(await journal.task(task_id))


async def until(true: Callable[[], bool], most_s: float = 600) -> None:
    async with asyncio.timeout(most_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
