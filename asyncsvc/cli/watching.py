"""`watch` without an id: all tasks, live.

Owns the table of the newest tasks and what their events add to it. Promises to come back by
itself after a restart of the service. Never changes a task; Ctrl-C leaves it.
"""

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from asyncsvc.cli import tables, terminal
from asyncsvc.cli.card import Card
from asyncsvc.cli.client import Api
from asyncsvc.cli.failure import Failure
from asyncsvc.cli.frames import Message, feed

FRAMES_PER_S = 8
RELOAD_S = 1.0
"""What was asked is not in the events, so the list is read again, at most this often."""


class Board:
    """The newest tasks with what is known of each."""

    def __init__(self, api: Api, rows: int) -> None:
        self._connected = True
        self._api = api
        self._rows = rows
        self._items: list[dict[str, Any]] = []
        self._cards: dict[str, Card] = {}
        self._stale = True

    def lost(self, _: str) -> None:
        """The connection broke: whatever the list says may be old."""
        self._connected, self._stale = False, True

    def take(self, event: Message) -> None:
        """Keep up with one event of the feed."""
        card = self._cards.get(event["task_id"])
        if card is not None:
            card.take(event)
        self._stale |= card is None or card.ended

    async def keep_fresh(self) -> None:
        """Reads the list when a task has come that it does not hold; until cancelled."""
        while True:
            if self._stale:
                self._stale = False
                try:
                    page = await asyncio.to_thread(self._api.get, "/tasks", {"limit": self._rows})
                    self.show(page["tasks"])
                    self._connected = True
                except Failure:
                    self._stale = True  # it is away; the feed says so, and ends when it gives up
            await asyncio.sleep(RELOAD_S)

    def show(self, items: list[dict[str, Any]]) -> None:
        """Take a page of the list; what events have told of unfinished tasks is kept."""
        self._items = items
        cards = {item["task_id"]: _card(item) for item in items}
        known = {task_id: self._cards.get(task_id, card) for task_id, card in cards.items()}
        self._cards = {
            task_id: card if card.ended else known[task_id] for task_id, card in cards.items()
        }

    def picture(self, width: int) -> RenderableType:
        """The table, and whether it is up to date."""
        table = tables.plain_table("id", "status", "model", "asked", "so far")
        table.expand = True
        for at in range(3):
            table.columns[at].no_wrap = True
        table.columns[3].ratio, table.columns[4].ratio = 2, 3
        for item in self._items:
            card = self._cards[item["task_id"]]
            table.add_row(
                tables.shown_id(card.task_id, width),
                tables.status(card.status),
                tables.one_line(card.name or item["model"] or tables.NOTHING),
                tables.one_line(item["content_preview"]),
                _so_far(card, width),
            )
        note = "Ctrl-C leaves" if self._connected else "connection lost; looking for the service"
        return Group(table, Text(note, "bright_black" if self._connected else "yellow"))


def watch_all(api: Api, as_json: bool) -> int:
    """Show all tasks until Ctrl-C, which is the way to leave and no failure."""
    api.get("/tasks/stats")
    with suppress(KeyboardInterrupt):
        asyncio.run(_table(api) if terminal.lively() and not as_json else _lines(api, as_json))
    return 0


async def _table(api: Api) -> None:
    console = terminal.console()
    board = Board(api, max(5, console.height - 5))
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        beside = [
            asyncio.create_task(board.keep_fresh()),
            asyncio.create_task(_draw(live, board, console)),
        ]
        try:
            async with aclosing(feed(api.address, board.lost)) as events:
                async for event in events:
                    board.take(event)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


async def _draw(live: Live, board: Board, console: Console) -> None:
    """Draws until it is cancelled."""
    while True:
        live.update(board.picture(console.width), refresh=True)
        await asyncio.sleep(1 / FRAMES_PER_S)


async def _lines(api: Api, as_json: bool) -> None:
    """Events as JSON lines, or one plain line for each change of a task's state."""
    async with aclosing(feed(api.address)) as events:
        async for event in events:
            if as_json:
                print(json.dumps(event, ensure_ascii=False), flush=True)
            elif event["type"] == "status":
                error = (event["data"].get("error") or {}).get("code", "")
                line = f"{event['ts']}  {event['task_id']}  {event['data']['status']:9}  {error}"
                print(line.rstrip(), flush=True)


def _card(item: dict[str, Any]) -> Card:
    return Card(
        item["task_id"],
        item["status"],
        name=item["metadata"]["name"],
        text=item["result_preview"] or "",
        latency=item["metadata"]["latency"],
        usage=item["metadata"]["usage"] or {},
        error=item["error"],
    )


def _so_far(card: Card, width: int) -> Text:
    if card.error:
        return tables.one_line(f"{card.error['code']}: {card.error['message']}", "red")
    if card.status == "running":
        rate = f"{card.rate:.0f}/s " if card.rate else ""
        tail = " ".join((card.text or card.thoughts).split())[-width // 6 :]
        return Text.assemble((rate, "cyan"), tail, no_wrap=True, overflow="ellipsis")
    if card.position:
        eta = f", about {card.eta_s:.0f} s" if card.eta_s else ""
        return Text(f"position {card.position}{eta}", "yellow", no_wrap=True)
    return tables.one_line(card.text, "bright_black")
