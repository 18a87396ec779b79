"""`tasks`: the list of tasks, as a table, as plain columns in a pipe, or as JSON.

It is read in pages, and each page is printed before the next is read, so that a list may be as long
as it is. Tables and columns have local times, JSON the service's answer as it is.
"""

import sys
import textwrap
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.client import reach
from asyncsvc.cli.filters import ALL, Filters
from asyncsvc.cli.options import MISUSED, THERE, Failure, Json, Url
from asyncsvc.cli.terminal import json_text, one_line, say
from asyncsvc.clock import now_ms

app = Commands()
MOST = 20
FINISHED = frozenset({"completed", "failed", "cancelled"})
COLUMNS = ("id", "status", "model", "created", "time", "text")
WIDTHS = (36, 9, 12, 19, 8)
"""Least widths of the plain columns, so that most lists stand in line; the text is the last."""


@app.command(group=THERE)
def tasks(
    which: Filters = ALL,
    limit: Annotated[
        int | None, Option(metavar="N", min=1, help=f"At most so many; else {MOST}.")
    ] = None,
    everything: Annotated[bool, Option("--all", help="All that there are.")] = False,
    cursor: Annotated[
        str | None, Option(metavar="CURSOR", help="Go on where a list ended.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List tasks, newest first."""
    if everything and limit is not None:
        raise Failure("--all and --limit do not go together", MISUSED)
    query = {**which.query, "cursor": cursor}
    with reach(url) as api:
        pages = api.pages(query, None if everything else limit or MOST)
        if as_json:
            print_pages(pages)
        elif sys.stdout.isatty():
            _print_tables(pages)
        else:
            _print_columns(pages)
    return 0


def print_pages(pages: Iterable[dict[str, Any]]) -> None:
    """Print pages as one answer of the service, whose cursor is that of the last page."""
    following, first = None, True
    print('{\n  "tasks": [', end="")
    for page in pages:
        following = page["next_cursor"]
        for item in page["tasks"]:
            shown = textwrap.indent(json_text(item, indent=2), " " * 4)
            print(f"{'' if first else ','}\n{shown}", end="")
            first = False
    print(f'{"" if first else chr(10) + "  "}],\n  "next_cursor": {json_text(following)}\n}}')


def _print_tables(pages: Iterable[dict[str, Any]]) -> None:
    console, shown, following = tables.console(), 0, None
    for page in pages:
        following = page["next_cursor"]
        if page["tasks"] or not shown:
            console.print(task_table(page["tasks"], console.width))
        shown += len(page["tasks"])
    if following:
        more = f"the newest {shown}; more with --limit N or --all, or on from --cursor {following}"
        console.print(more, style="bright_black")


def _print_columns(pages: Iterable[dict[str, Any]]) -> None:
    """Print a line a task, columns two spaces apart; the text has no two spaces in a row."""
    say(_columns(COLUMNS))
    for page in pages:
        for item in page["tasks"]:
            cells = (
                item["task_id"],
                item["status"],
                _model(item),
                tables.moment(item["created_at"]),
                took(item),
                _text(item).plain,
            )
            say(_columns(cells))


def _columns(cells: tuple[str, ...]) -> str:
    *some, last = (" ".join(one_line(cell).split()) for cell in cells)
    padded = (
        cell + " " * (width - cell_len(cell)) for cell, width in zip(some, WIDTHS, strict=True)
    )
    return "  ".join((*padded, last)).rstrip()


def task_table(items: list[dict[str, Any]], width: int) -> RenderableType:
    """A page of tasks."""
    if not items:
        return Text("no task")
    table = tables.plain_table("id", "status", "model", "created", "text", ">time")
    for at in (0, 1, 3, 5):
        table.columns[at].no_wrap = True
    table.columns[2].no_wrap, table.columns[2].overflow = True, "ellipsis"
    table.columns[2].max_width = max(12, width // 5)
    table.columns[4].ratio = 1
    table.expand = width < tables.PIPE_WIDTH
    for item in items:
        table.add_row(
            tables.shown_id(item["task_id"], width),
            tables.status(item["status"]),
            tables.one_line(_model(item)),
            tables.moment(item["created_at"])[5:],
            _text(item),
            took(item),
        )
    return table


def took(item: dict[str, Any]) -> str:
    """How long a task ran or runs: of a failed or cancelled one from its submit to its end."""
    latency, ended = item["metadata"]["latency"], item["finished_at"]
    if item["status"] == "completed" and latency is not None:
        return tables.duration(latency)
    if item["status"] in FINISHED and ended:
        since, until = item["created_at"], _seconds(ended)
    elif item["status"] == "running" and item["started_at"]:
        since, until = item["started_at"], now_ms() / 1000
    else:
        return tables.NOTHING
    return tables.duration(until - _seconds(since))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _model(item: dict[str, Any]) -> str:
    return str(item["metadata"]["name"] or item["model"] or tables.NOTHING)


def _text(item: dict[str, Any]) -> Text:
    asked = tables.one_line(item["content_preview"])
    if item["error"]:
        return Text.assemble(asked, "  ", (item["error"]["code"], "red"))
    return asked
