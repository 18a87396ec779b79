"""`watch`: one task's stream, or the newest tasks as a live table.

The table comes back by itself after a restart of the service; Ctrl-C leaves the tasks alone.
"""

import asyncio
import sys
from contextlib import aclosing, suppress
from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import arguments as typer
from asyncsvc.cli import tables
from asyncsvc.cli.agent_lines import wait_text
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.following import Message, feed, follow
from asyncsvc.cli.options import INTERRUPTED, THERE, Failure, Url
from asyncsvc.cli.terminal import json_text, say
from asyncsvc.cli.transcript import TaskView, Transcript, stream

app = typer.Commands()
FRAMES_PER_S = 8
RELOAD_S = 1.0
"""Shortest time between two reads of the list, which has the prompts; the events have not."""


class Board:
    """The newest tasks as a table, kept up to date by events."""

    def __init__(self, api: Api, rows: int) -> None:
        self._connected = True
        self._api = api
        self._rows = rows
        self._items: list[dict[str, Any]] = []
        self._views: dict[str, TaskView] = {}
        self._stale = True

    def lost(self, _: str) -> None:
        """Mark the list as old after a break of the connection."""
        self._connected, self._stale = False, True

    def take(self, event: Message) -> None:
        """Apply one event of the feed."""
        view = self._views.get(event["task_id"])
        if view is not None:
            view.take(event)
        self._stale |= view is None or view.ended

    async def keep_fresh(self) -> None:
        """Read the list whenever a task is new to it, until cancelled."""
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
        """Take a page of the list; the views of unfinished tasks stay."""
        self._items = items
        views = {item["task_id"]: _view(item) for item in items}
        known = {task_id: self._views.get(task_id, view) for task_id, view in views.items()}
        self._views = {
            task_id: view if view.ended else known[task_id] for task_id, view in views.items()
        }

    def rendered(self, width: int) -> RenderableType:
        """Return the table and whether it is up to date."""
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
    reading = asyncio.create_task(board.keep_fresh())
    try:
        async with (
            tables.redrawn(console, lambda: board.rendered(console.width), FRAMES_PER_S),
            aclosing(feed(api.address, board.lost)) as events,
        ):
            async for event in events:
                board.take(event)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _lines(api: Api, as_json: bool) -> None:
    """Events as JSON lines, or one plain line for each change of a task's state."""
    async with aclosing(feed(api.address)) as events:
        async for event in events:
            if as_json:
                print(json_text(event), flush=True)
            elif event["type"] == "status":
                error = (event["data"].get("error") or {}).get("code", "")
                line = f"{event['ts']}  {event['task_id']}  {event['data']['status']:9}  {error}"
                say(line.rstrip())


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
    if view.waits and view.asked:
        return tables.one_line(wait_text(view.asked), "magenta")
    if view.error:
        return tables.one_line(f"{view.error['code']}: {view.error['message']}", "red")
    if view.status == "running":
        step = f"step {view.step} " if view.step else ""
        rate = f"{view.rate:.0f}/s " if view.rate else ""
        tail = view.doing or " ".join((view.text or view.thoughts).split())[-width // 6 :]
        return Text.assemble((step + rate, "cyan"), tail, no_wrap=True, overflow="ellipsis")
    if view.position:
        eta = f", about {view.eta_s:.0f} s" if view.eta_s else ""
        return Text(f"position {view.position}{eta}", "yellow", no_wrap=True)
    return tables.one_line(view.text, "bright_black")


def watch_one(api: Api, task_id: str, as_json: bool) -> int:
    """Stream a task from its beginning; Ctrl-C leaves it alone."""
    api.task(task_id)
    if as_json:
        return asyncio.run(_print_events(api, task_id))
    transcript = Transcript(sys.stdout, sys.stderr)
    try:
        asyncio.run(stream(api, task_id, transcript, until_asked=False))
    except KeyboardInterrupt:
        transcript.say("left; the task goes on")
        return INTERRUPTED
    return transcript.exit_code


async def _print_events(api: Api, task_id: str) -> int:
    transcript = Transcript(None, sys.stderr)
    async with aclosing(follow(api.address, task_id)) as events:
        async for event in events:
            print(json_text(event), flush=True)
            transcript.view.take(event)
    return transcript.exit_code


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
