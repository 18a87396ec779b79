"""The demo in a terminal: four panels that fill at the same time.

Owns the drawing. Promises to fit the terminal's width and height, and to leave it as it was
when the demo ends, however it ends. Never waits for the service.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from asyncsvc.cli.card import Card
from asyncsvc.cli.demo_cast import Part
from asyncsvc.cli.tables import STYLES

FRAMES_PER_S = 15
LEAST_HEIGHT, MOST_HEIGHT = 6, 12
NARROW = 64
"""Columns below which the panels stand one below the other."""
MARKS = {"completed": "✔", "failed": "✘", "cancelled": "✘", "running": "●"}


class Screen:
    """A view of the demo: `async with` draws it; `took` only marks that there is news."""

    def __init__(self, parts: Sequence[Part], url: str, console: Console) -> None:
        self._parts = parts
        self._url = url
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._drawing: asyncio.Task[None] | None = None
        self._started = 0.0

    async def __aenter__(self) -> Self:
        self._started = asyncio.get_running_loop().time()
        self._live.start()
        self._drawing = asyncio.create_task(self._draw())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
            with suppress(asyncio.CancelledError):
                await self._drawing
        self._live.update(self._picture(), refresh=True)
        self._live.stop()

    def took(self, part: Part, event: dict[str, Any]) -> None:
        """The next frame shows it."""

    async def _draw(self) -> None:
        """Draws until it is cancelled."""
        while True:
            self._live.update(self._picture(), refresh=True)
            await asyncio.sleep(1 / FRAMES_PER_S)

    def _picture(self) -> RenderableType:
        width, height = self._console.size
        columns = 1 if width < NARROW else 2
        rows = -(-len(self._parts) // columns)
        panel_height = max(LEAST_HEIGHT, min(MOST_HEIGHT, (height - 2) // rows))
        grid = Table.grid(expand=True)
        for _ in range(columns):
            grid.add_column(ratio=1)
        panels = [
            _panel(part, self._console, width // columns, panel_height) for part in self._parts
        ]
        for start in range(0, len(panels), columns):
            grid.add_row(*panels[start : start + columns])
        # The last line is empty, so that the ^C of a terminal shifts nothing.
        return Group(self._head(width), grid, Text())

    def _head(self, width: int) -> Text:
        seconds = asyncio.get_running_loop().time() - self._started
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(" asyncsvc ", "bold reverse")
        head.append(f"  4 tasks, 3 models, 1 WebSocket  {self._url}", "bright_black")
        clock = f"{seconds:4.1f} s "
        head.pad_right(max(1, width - head.cell_len - len(clock)))
        head.append(clock, "bold")
        return head


def _panel(part: Part, console: Console, width: int, height: int) -> Panel:
    card = part.card
    style = STYLES[card.status]
    asked = Text(f"› {part.content.splitlines()[0]}", "bold", no_wrap=True, overflow="ellipsis")
    told = Text()
    if card.thoughts:
        told.append(f"{card.thoughts}\n", "italic bright_black")
    told.append(card.text)
    if card.error:
        told.append(card.error["message"], "red")
    return Panel(
        Group(asked, _end_of(told, console, width - 4, height - 3)),
        title=Text.assemble((part.title, "bold"), f" · {part.card.name or '…'}"),
        title_align="left",
        subtitle=_state(card),
        subtitle_align="right",
        border_style=style,
        box=box.ROUNDED,
        height=height,
    )


def _end_of(text: Text, console: Console, width: int, lines: int) -> Text:
    """The last lines of a text, as it breaks at this width."""
    return Text("\n").join(text.wrap(console, max(width, 8))[-lines:])


def _state(card: Card) -> Text:
    parts = [f"{MARKS.get(card.status, '○')} {_doing(card)}"]
    if card.tokens:
        parts.append(f"{card.tokens} tokens")
    rate = card.mean_rate if card.ended else card.rate
    if rate:
        parts.append(f"{rate:.0f}/s")
    return Text(" · ".join(parts), STYLES[card.status])


def _doing(card: Card) -> str:
    return (
        "thinking" if card.status == "running" and card.thoughts and not card.text else card.status
    )
