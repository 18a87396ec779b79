"""`watch`: one task's stream, or all tasks live: as a full screen with keys, or as a plain table.

The full screen needs the extra `tui`; without it, with NO_COLOR and with `--plain` it is the table.
Both come back by themselves after a restart of the service; leaving them leaves the tasks alone.
"""

import asyncio
import sys
from contextlib import aclosing, suppress
from importlib.util import find_spec
from typing import Annotated

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables, watch_view
from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.following import feed, follow
from asyncsvc.cli.options import INTERRUPTED, THERE, Url
from asyncsvc.cli.terminal import json_text, say
from asyncsvc.cli.transcript import Transcript, stream
from asyncsvc.cli.watch_board import Board

app = Commands()
FRAMES_PER_S = 8
UNFINISHED, ENDED = 500, 200
"""Tasks that the full screen has."""


def watch_all(api: Api, as_json: bool, plain: bool) -> int:
    """Show all tasks until the reader leaves, which is no failure."""
    api.get("/tasks/stats")
    if tables.lively() and not (as_json or plain) and sys.stdin.isatty() and find_spec("textual"):
        from asyncsvc.cli.watch_app import show  # the only module that needs the extra

        show(api, UNFINISHED, ENDED)
        return 0
    with suppress(KeyboardInterrupt):
        asyncio.run(_table(api) if tables.lively() and not as_json else _lines(api, as_json))
    return 0


async def _table(api: Api) -> None:
    console = tables.console()
    room = max(5, console.height - watch_view.HEAD_LINES - 3)
    board = Board(api, room, room)
    async with tables.redrawn(console, lambda: drawn(board, console.width, room), FRAMES_PER_S):
        await board.keep_up()


def drawn(board: Board, width: int, room: int) -> RenderableType:
    """The board as a table of `room` tasks at most."""
    note = "Ctrl-C leaves" if board.connected else "connection lost; looking for the service"
    return Group(
        *watch_view.head(board, width),
        watch_view.rows(board.entries()[:room], width),
        Text(note, watch_view.DIM if board.connected else "yellow"),
    )


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


@app.command(group=THERE)
def watch(
    task_id: Annotated[
        str | None, Argument(metavar="[ID]", help="Stream this one. Else all, live.")
    ] = None,
    plain: Annotated[
        bool, Option("--plain", help="A plain table in place of the full screen.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Events, one JSON line each.")] = False,
    url: Url = None,
) -> int:
    """Follow one task, or all of them live."""
    with reach(url) as api:
        if task_id is not None:
            return watch_one(api, api.resolve(task_id), as_json)
        return watch_all(api, as_json, plain)
