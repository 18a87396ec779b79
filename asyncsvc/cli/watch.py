"""`watch`: one task's stream, or the newest tasks as a live table.

The table comes back by itself after a restart of the service; Ctrl-C leaves the tasks alone.
"""

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.client import Api, Message, feed, reach
from asyncsvc.cli.options import THERE, Failure, Url
from asyncsvc.cli.submit import watch_one
from asyncsvc.cli.transcript import TaskView

app = typer.Typer()
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
        self._views: dict[str, TaskView] = {}
        self._stale = True

    def lost(self, _: str) -> None:
        """The connection broke: whatever the list says may be old."""
        self._connected, self._stale = False, True

    def take(self, event: Message) -> None:
        """Keep up with one event of the feed."""
        view = self._views.get(event["task_id"])
        if view is not None:
            view.take(event)
        self._stale |= view is None or view.ended

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
        views = {item["task_id"]: _view(item) for item in items}
        known = {task_id: self._views.get(task_id, view) for task_id, view in views.items()}
        self._views = {
            task_id: view if view.ended else known[task_id] for task_id, view in views.items()
        }

    def picture(self, width: int) -> RenderableType:
        """The table, and whether it is up to date."""
        table = tables.plain_table("id", "status", "model", "asked", "so far")
        table.expand = True
        for at in range(3):
            table.columns[at].no_wrap = True
        table.columns[3].ratio, table.columns[4].ratio = 2, 3
        for item in self._items:
            view = self._views[item["task_id"]]
            table.add_row(
                tables.shown_id(view.task_id, width),
                tables.status(view.status),
                tables.one_line(view.name or item["model"] or tables.NOTHING),
                tables.one_line(item["content_preview"]),
                _so_far(view, width),
            )
        note = "Ctrl-C leaves" if self._connected else "connection lost; looking for the service"
        return Group(table, Text(note, "bright_black" if self._connected else "yellow"))


def watch_all(api: Api, as_json: bool) -> int:
    """Show all tasks until Ctrl-C, which is the way to leave and no failure."""
    api.get("/tasks/stats")
    with suppress(KeyboardInterrupt):
        asyncio.run(_table(api) if tables.lively() and not as_json else _lines(api, as_json))
    return 0


async def _table(api: Api) -> None:
    console = tables.console()
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


def _view(item: dict[str, Any]) -> TaskView:
    return TaskView(
        item["task_id"],
        item["status"],
        name=item["metadata"]["name"],
        text=item["result_preview"] or "",
        latency=item["metadata"]["latency"],
        usage=item["metadata"]["usage"] or {},
        error=item["error"],
    )


def _so_far(view: TaskView, width: int) -> Text:
    if view.error:
        return tables.one_line(f"{view.error['code']}: {view.error['message']}", "red")
    if view.status == "running":
        rate = f"{view.rate:.0f}/s " if view.rate else ""
        tail = " ".join((view.text or view.thoughts).split())[-width // 6 :]
        return Text.assemble((rate, "cyan"), tail, no_wrap=True, overflow="ellipsis")
    if view.position:
        eta = f", about {view.eta_s:.0f} s" if view.eta_s else ""
        return Text(f"position {view.position}{eta}", "yellow", no_wrap=True)
    return tables.one_line(view.text, "bright_black")


@app.command(rich_help_panel=THERE)
def watch(
    task_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Stream this one. Else a live table.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Events, one JSON line each.")] = False,
    url: Url = None,
) -> int:
    """Follow one task, or all of them live."""
    with reach(url) as api:
        if task_id is not None:
            return watch_one(api, api.resolve(task_id), as_json)
        return watch_all(api, as_json)
