"""How the board of `watch` looks: its head, and its tasks as a table of one line each.

Both views of the board draw with it. All texts of others pass the cells of `tables.Rows` or
`tables.one_line`, which make control characters visible.
"""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.agent_lines import wait_text
from asyncsvc.cli.task_list import took
from asyncsvc.cli.transcript import TaskView
from asyncsvc.cli.watch_board import Board, Entry

HEAD_LINES = 3
MODEL_CHARS = 16
DIM = "bright_black"


def head(board: Board, width: int) -> list[Text]:
    """The head, HEAD_LINES lines: what runs, waits and is done; each model's slots and window."""
    counts, line = board.figures.counts, Text(no_wrap=True, overflow="ellipsis")
    number = counts.get
    waiting = number("pending", 0) + number("scheduled", 0)
    for count, what, style in (
        (number("running", 0), "running", "cyan"),
        (waiting, "waiting", "yellow"),
        (number("paused", 0), "paused", "magenta"),
        (number("completed", 0), "done", "green"),
        (number("failed", 0), "failed", "red"),
    ):
        if count or what in ("running", "waiting", "done"):
            line.append(f"{count} {what}  ", style if count else DIM)
    line.append(f"{board.rate:.0f} tokens/s", "" if board.rate else DIM)
    for kind in ("approval", "review"):
        if count := number(f"needs_{kind}", 0):
            line.append(f"  {count} for your {kind}", "magenta")
    lines = [line, *_models(board.figures.models, width)]
    return [*lines, *(Text() for _ in range(HEAD_LINES - len(lines)))]


def _models(models: Sequence[dict[str, Any]], width: int) -> list[Text]:
    """The enabled models in the lines that are left; the last says how many are not shown."""
    lines = [Text(no_wrap=True)]
    enabled = [model for model in models if model["enabled"]]
    for at, model in enumerate(enabled):
        cell = _model(model)
        more = Text(f"+{len(enabled) - at} models", DIM)
        last = len(lines) == HEAD_LINES - 1
        room = width - (len(more.plain) + 2 if last and at + 1 < len(enabled) else 0)
        if lines[-1] and lines[-1].cell_len + cell.cell_len > room:
            if last:
                lines[-1].append_text(more)
                break
            lines.append(Text(no_wrap=True))
        lines[-1].append_text(cell).append("  ")
    return lines


def _model(model: dict[str, Any]) -> Text:
    """A model's slots and calls of the last minute, such as `zhipu 3/5 12/30`."""
    style = "magenta" if model.get("paused") else "red" if model["breaker"] != "closed" else ""
    style = style or ("yellow" if model["waiting_for"] else "")
    slots = f"{model['in_flight']}/{_limit(model, 'concurrency')}"
    window = f" {model['calls_last_60s']}/{_limit(model, 'rpm')}rpm" if model["rpm"] else ""
    name = tables.one_line(model["name"]).plain[:MODEL_CHARS]
    return Text.assemble((name, f"bold {style}".strip()), " ", (f"{slots}{window}", style))


def _limit(model: dict[str, Any], name: str) -> str:
    return tables.number(model[name]) if model[name] is not None else "~"


def rows(entries: Sequence[Entry], width: int, chosen: str | None = None) -> Table:
    """The entries as a table: a line with the names of the columns, then a line each."""
    table = tables.plain_table("id", "status", "model", "asked", "progress", ">time")
    table.box, table.padding, table.expand = None, (0, 1), True
    table.header_style = DIM
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    table.columns[2].max_width = max(12, width // 6)
    table.columns[3].ratio, table.columns[4].ratio = 1, 1
    for entry in entries:
        view, item = entry.view, entry.item
        cells = (
            tables.shown_id(view.task_id, width),
            tables.status(view.status),
            tables.one_line(view.name or item["model"] or tables.NOTHING),
            tables.one_line(item["content_preview"]),
            progress(view),
            Text(took(item)),
        )
        if view.task_id == chosen:
            for cell in cells:
                cell.style = ""  # one bar, whatever the colours of its cells
        table.add_row(*cells, style="reverse" if view.task_id == chosen else "")
    return table


def progress(view: TaskView) -> Text:
    """How far a task is, in a few words."""
    if view.waits and view.asked:
        return tables.one_line(wait_text(view.asked), "magenta")
    if view.error:
        return tables.one_line(f"{view.error['code']}: {view.error['message']}", "red")
    if view.status == "running":
        parts = [f"step {view.step}"] if view.step else []
        parts += [f"{view.tokens} tokens"] if view.tokens else []
        parts += [f"{view.rate:.0f}/s"] if view.rate else []
        parts += [view.doing] if view.doing else []
        return tables.one_line(", ".join(parts) or "…", "cyan")
    if view.position:
        eta = f", about {tables.duration(view.eta_s)}" if view.eta_s and view.eta_s >= 1 else ""
        return tables.one_line(f"position {view.position}{eta}", "yellow")
    if view.status == "pending" and view.reason:
        return tables.one_line(view.reason, "yellow")
    return tables.one_line(view.text, DIM)
