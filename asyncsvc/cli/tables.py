"""The console and what tables on it have in common.

NO_COLOR, TERM=dumb and a pipe get plain text, a pipe in lines wide enough for whole ids.
Tables fit 80 columns, with the end of an id where the whole does not fit.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from asyncsvc.cli.options import print_json

PIPE_WIDTH = 160
WIDE = 110
"""Columns from which there is room for whole ids."""


def console() -> Console:
    """Return the console of stdout."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, emoji=False, markup=False)


def lively() -> bool:
    """Whether stdout is a terminal on which a view may be redrawn."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("dumb", "unknown")
    return sys.stdout.isatty() and not plain


STYLES = {
    "scheduled": "blue",
    "pending": "yellow",
    "running": "cyan",
    "paused": "magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
}
SHORT_ID = 8
NOTHING = "–"


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table with a line under its head; a column with ">" before its name is of numbers."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        justify = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def status(state: str) -> Text:
    return Text(state, STYLES.get(state, ""))


def shown_id(task_id: str, width: int) -> Text:
    """Return the id, or its end, which commands take as well."""
    return Text(task_id if width >= WIDE else task_id[-SHORT_ID:], "bold", no_wrap=True)


def one_line(text: str | None, style: str = "") -> Text:
    return Text(" ".join((text or "").split()), style, no_wrap=True, overflow="ellipsis")


def number(value: float | int | None, unit: str = "") -> str:
    """Return a figure for people; an unknown one is a dash."""
    if value is None:
        return NOTHING
    shown = f"{value:.1f}" if isinstance(value, float) else f"{value}"
    return f"{shown}{unit}"


def print_answer(
    answer: dict[str, Any], as_json: bool, shown: Callable[[dict[str, Any]], RenderableType]
) -> int:
    """Print an answer of the service as JSON, or as `shown` renders it; return the exit code."""
    if as_json:
        print_json(answer)
    else:
        console().print(shown(answer))
    return 0
