"""The board of `watch`: all tasks in the order of the queue, kept up to date by events.

Running ones first, then the waiting ones with the next first, then those that ended, the latest
first. Lists come from the service and have the prompts; events change what is in them at once. The
feed is read without the text of answers, so that hundreds of streams cost little. Survives a
restart of the service.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.cli.client import Api
from asyncsvc.cli.following import Message, feed
from asyncsvc.cli.options import Failure
from asyncsvc.cli.transcript import TaskView

RELOAD_S = 1.0
"""Shortest time between two reads of the lists."""
FIGURES_S = 2.0
"""Time between two reads of the counts and models, which no event tells."""
SHARE = 10
"""A read that took long is made again after so many times as long: a large database has time for
its tasks."""
GROUPS = ("running", "pending", "scheduled", "paused")
"""The states of the tasks that are not finished, in the order in which they are shown."""


@dataclass
class Entry:
    """A task of the board: its item of the list, and its state by the events since."""

    item: dict[str, Any]
    view: TaskView
    place: float
    """Its place among those of its state, as the service has listed it."""
    moved_at: str = ""
    """The time of its latest change of state that an event has shown."""

    @property
    def order(self) -> tuple[int, float]:
        return (len(GROUPS) if self.view.ended else GROUPS.index(self.view.status)), self.place


@dataclass
class Figures:
    """What the head shows: counts by state, and the models."""

    counts: dict[str, Any] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)


class Board:
    """The tasks that the filters let through: `most` that are not finished, and `ended`."""

    def __init__(self, api: Api, most: int, ended: int) -> None:
        self.connected = True
        self.figures = Figures()
        self.query: dict[str, str] = {}
        self.changes = 0
        """Grows with each change of what is shown."""
        self.fault: str | None = None
        """Why the latest read was refused."""
        self._api = api
        self._most, self._ended = most, ended
        self._entries: dict[str, Entry] = {}
        self._rates: dict[str, float] = {}
        self._ends = 0
        self._stale = asyncio.Event()
        self._stale.set()

    def entries(self) -> list[Entry]:
        """All tasks of the board, in order."""
        return sorted(self._entries.values(), key=lambda each: each.order)

    @property
    def rate(self) -> float:
        """Tokens a second of all tasks that run, whatever the filters."""
        return sum(self._rates.values())

    def filter(self, query: dict[str, str]) -> None:
        """Show what these filters let through from now on."""
        self.query, self._entries = query, {}
        self.changes += 1
        self._stale.set()

    def lost(self, _: str) -> None:
        """Note a break of the connection."""
        self.connected = False
        self.changes += 1
        self._stale.set()

    def take(self, event: Message) -> None:
        """Apply one event of the feed."""
        task_id, kind = event["task_id"], event["type"]
        entry = self._entries.get(task_id)
        if entry is not None:
            entry.view.take(event)
            self.changes += 1
        if kind == "progress" and event["data"].get("tokens_per_s"):
            self._rates[task_id] = event["data"]["tokens_per_s"]
        elif kind == "status":
            self._rates.pop(task_id, None)
            if entry is not None:
                self._move(entry, event)
            self._stale.set()

    def _move(self, entry: Entry, event: Message) -> None:
        """Give an entry its place in its new state, until the lists are read again."""
        item, status = entry.item, entry.view.status
        entry.moved_at = event["ts"]
        item["error"] = entry.view.error
        if status == "running":
            item["started_at"] = event["ts"]
            entry.place = float(self._most)  # the latest to start
        elif entry.view.ended:
            item["finished_at"] = event["ts"]
            self._ends += 1
            entry.place = -float(self._ends)  # the latest end is the first
        item["status"] = status

    def show(self, unfinished: list[dict[str, Any]], ended: list[dict[str, Any]]) -> None:
        """Take lists of the service; later changes that events have shown stay."""
        before, self._entries = self._entries, {}
        for place, item in enumerate((*unfinished, *ended)):
            known = before.get(item["task_id"])
            entry = Entry(item, seen(item), float(place))
            if known is not None and known.moved_at > item["updated_at"]:
                entry.item, entry.view, entry.moved_at = known.item, known.view, known.moved_at
            elif known is not None and known.view.status == item["status"]:
                entry.view = known.view  # has its position and rate
            self._entries[item["task_id"]] = entry
        self.changes += 1

    async def keep_up(self) -> None:
        """Follow the feed and read the lists, until cancelled. Raises Failure where the service
        refuses, or has been away for long."""
        readers = [
            asyncio.create_task(self._read_again(self._read_lists, self._stale)),
            asyncio.create_task(self._read_again(self._read_figures, None)),
        ]
        try:
            async with aclosing(feed(self._api.address, self.lost, text=False)) as events:
                async for event in events:
                    self.take(event)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _read_again(self, read: Any, wanted: asyncio.Event | None) -> None:
        """Read whenever it is wanted, or (None) from time to time."""
        loop = asyncio.get_running_loop()
        while True:
            if wanted is not None:
                await wanted.wait()
                wanted.clear()
            began = loop.time()
            try:
                await read()
                self.connected, self.fault = True, None
            except Failure as failure:
                self.fault = str(failure)  # the feed gives up where the service stays away
                if wanted is not None:
                    wanted.set()
            self.changes += 1
            least = RELOAD_S if wanted is not None else FIGURES_S
            await asyncio.sleep(max(least, SHARE * (loop.time() - began)))

    async def _read_lists(self) -> None:
        query = self.query
        unfinished = await self._tasks({**query, "order": "queue", "limit": self._most})
        ended = await self._tasks({**query, "order": "ended", "limit": self._ended})
        if query is self.query:  # else another filter was set meanwhile
            self.show(unfinished, ended)

    async def _tasks(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        page = await asyncio.to_thread(self._api.get, "/tasks", query)
        found: list[dict[str, Any]] = page["tasks"]
        return found

    async def _read_figures(self) -> None:
        counts = await asyncio.to_thread(self._api.get, "/tasks/stats")
        models = await asyncio.to_thread(self._api.get, "/models")
        self.figures = Figures(counts, models["models"])


def seen(item: dict[str, Any]) -> TaskView:
    """The state of a task by its item in a list."""
    return TaskView(
        item["task_id"],
        item["status"],
        name=item["metadata"]["name"],
        text=item["result_preview"] or "",
        latency=item["metadata"]["latency"],
        usage=item["metadata"]["usage"] or {},
        error=item["error"],
    )


FILTERS = {
    "status": "status", "model": "model", "lane": "lane", "session": "session_id", "type": "type",
    "owner": "owner", "id": "id_ends",
}  # fmt: skip


def parsed(text: str) -> dict[str, str]:
    """The filters that a line names: `status:failed model:m words`, the words being looked for in
    what was asked and answered. Raises Failure for a name that is no filter."""
    found: dict[str, str] = {}
    words = []
    for word in text.split():
        name, colon, value = word.partition(":")
        if colon and value and name in FILTERS:
            found[FILTERS[name]] = value
        else:
            words.append(word)
    return found | ({"q": " ".join(words)} if words else {})
