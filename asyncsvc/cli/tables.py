"""The console and what tables on it have in common.

NO_COLOR, TERM=dumb and a pipe get plain text. In a pipe no line is broken or cut, and columns are
two spaces or more apart. At a terminal tables fit 80 columns, with the end of an id where the whole
does not fit. Times are local.
"""

import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from asyncsvc.cli import terminal
from asyncsvc.cli.options import print_json
from asyncsvc.cli.terminal import styled

PIPE_WIDTH = 100_000
"""Columns of a pipe, which has no width: more than any line that is shown."""
WIDE = 110
"""Columns from which there is room for whole ids."""


class SafeConsole(Console):
    """A console of rich on which only the styles of the layout are escape sequences."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(terminal.plain(segment.text), segment.style)


def console() -> Console:
    """Return the console of stdout.

    It writes to the stream behind `Screen` also while a view is redrawn, when rich has put a stream
    of its own in the place of stdout: else its colours would be made visible as text of others is.
    """
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return SafeConsole(
        file=getattr(sys.stdout, "rich_proxied_file", sys.stdout),
        width=width,
        color_system="auto" if styled(sys.stdout) else None,
        highlight=False,
        emoji=False,
        markup=False,
    )


@asynccontextmanager
async def redrawn(
    screen: Console, rendered: Callable[[], RenderableType], frames_per_s: int
) -> AsyncGenerator[None]:
    """Draw a view again and again while the block runs, and once more at its end."""
    import asyncio  # a table that is drawn once does without both

    from rich.live import Live

    async def draw() -> None:
        while True:
            live.update(rendered(), refresh=True)
            await asyncio.sleep(1 / frames_per_s)

    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:
        drawing = asyncio.create_task(draw())
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            live.update(rendered(), refresh=True)


def lively() -> bool:
    """Whether stdout is a terminal on which a view may be redrawn."""
    return styled(sys.stdout)


STYLES = {
    "scheduled": "blue",
    "pending": "yellow",
    "running": "cyan",
    "paused": "magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
}
UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
"""Sizes in seconds and names of a unit and of the next smaller one."""
SHORT_ID = 8
NOTHING = "–"


class Rows(Table):
    """A table whose cells are one line each, in as many columns as a screen will give them."""

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        super().add_row(*(_cell(each) for each in cells), **more)


def _cell(cell: RenderableType | None) -> RenderableType | None:
    if isinstance(cell, Text):
        cell.plain = terminal.one_line(cell.plain)
    return terminal.one_line(cell) if isinstance(cell, str) else cell


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table with a line under its head; a column with ">" before its name is of numbers."""
    screen = sys.stdout.isatty()
    table = Rows(
        box=box.SIMPLE_HEAD if screen else None,
        title=title,
        title_justify="left",
        padding=(0, 1 if screen else 2),
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
    words = terminal.plain(text or "").split()
    return Text(" ".join(words), style, no_wrap=True, overflow="ellipsis")


def number(value: float | int | None, unit: str = "") -> str:
    """Return a figure for people; an unknown one is a dash."""
    if value is None:
        return NOTHING
    shown = f"{value:.1f}" if isinstance(value, float) else f"{value}"
    return f"{shown}{unit}"


def moment(time: str) -> str:
    """A time of the service for people: local, to the second."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A time span for people: the two largest units."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    for size, unit, smaller, small in UNITS:
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller:02}{small}"
    raise AssertionError


def print_answer(
    answer: dict[str, Any], as_json: bool, shown: Callable[[dict[str, Any]], RenderableType]
) -> int:
    """Print an answer of the service as JSON, or as `shown` renders it; return the exit code."""
    if as_json:
        print_json(answer)
    else:
        console().print(shown(answer))
    return 0
