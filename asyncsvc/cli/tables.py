"""The console, and tasks, models and counts as tables on it.

NO_COLOR, TERM=dumb and a pipe get plain text, a pipe in lines wide enough for whole ids.
Tables fit 80 columns, with the end of an id where the whole does not fit.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from asyncsvc.cli.options import print_json

PIPE_WIDTH = 160
WIDE = 110
"""Columns from which there is room for whole ids."""


def console() -> Console:
    """For stdout."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, emoji=False, markup=False)


def lively() -> bool:
    """Whether stdout is a terminal on which a view can be redrawn, and is wished to be."""
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
ALWAYS = frozenset({"pending", "running", "completed", "failed"})
"""States that are counted even where there is no such task; the others only take room then."""
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
    """The id, or the end of it that commands take as well."""
    return Text(task_id if width >= WIDE else task_id[-SHORT_ID:], "bold", no_wrap=True)


def one_line(text: str | None, style: str = "") -> Text:
    return Text(" ".join((text or "").split()), style, no_wrap=True, overflow="ellipsis")


def number(value: float | int | None, unit: str = "") -> str:
    """A figure for people; one that is not known is a dash."""
    if value is None:
        return NOTHING
    shown = f"{value:.1f}" if isinstance(value, float) else f"{value}"
    return f"{shown}{unit}"


def tasks(items: list[dict[str, Any]], width: int) -> RenderableType:
    """A page of tasks."""
    if not items:
        return Text("no task")
    table = plain_table("id", "status", "model", "created UTC", "text", ">time")
    for at in (0, 1, 3, 5):
        table.columns[at].no_wrap = True
    table.columns[4].ratio = 1
    table.expand = width < PIPE_WIDTH
    for item in items:
        table.add_row(
            shown_id(item["task_id"], width),
            status(item["status"]),
            one_line(item["metadata"]["name"] or item["model"] or NOTHING),
            _clock(item["created_at"]),
            _said(item),
            number(item["metadata"]["latency"], " s"),
        )
    return table


def _said(item: dict[str, Any]) -> Text:
    asked = one_line(item["content_preview"])
    if item["error"]:
        return Text.assemble(asked, "  ", (item["error"]["code"], "red"))
    return asked


def _clock(time: str) -> str:
    """Month, day and time, in UTC as all times are."""
    return f"{time[5:10]} {time[11:19]}"


def task(view: dict[str, Any]) -> RenderableType:
    """One task with its texts."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bright_black", no_wrap=True)
    facts.add_column(overflow="fold")
    meta, usage = view["metadata"], view["metadata"]["usage"] or {}
    model = " · ".join(name for name in (meta["name"], meta["model"]) if name)
    rows: list[tuple[str, Any]] = [
        ("id", Text(view["task_id"], "bold")),
        ("status", status(view["status"])),
        ("model", model or view["model"] or "not chosen yet"),
        ("queue", f"{view['lane']}, priority {view['priority']}"),
        ("attempts", str(view["attempts"])),
        ("created", view["created_at"]),
        ("started", view["started_at"]),
        ("next run", view["next_run_at"]),
        ("finished", view["finished_at"]),
        ("position", view.get("position")),
        ("latency", number(meta["latency"], " s") if meta["latency"] is not None else None),
        ("tokens", _tokens(usage)),
        ("session", view["session_id"]),
        ("schedule", view.get("schedule_id")),
        ("error", _error(view["error"])),
    ]
    for name, value in rows:
        if value is not None:
            facts.add_row(name, value if isinstance(value, Text) else str(value))
    asked = view.get("content") or view.get("messages") or view.get("input")
    return Group(facts, *_section("asked", asked), *_section("result", view["result"]))


def _tokens(usage: dict[str, Any]) -> str | None:
    if not usage:
        return None
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return f"{usage.get('total_tokens')} ({asked} asked, {answered} answered)"


def _error(error: dict[str, Any] | None) -> Text | None:
    if error is None:
        return None
    hint = "; `retry` may help" if error.get("retryable") else ""
    return Text(f"{error['code']}: {error['message']}{hint}", "red")


def _section(name: str, value: Any) -> list[RenderableType]:
    if value is None:
        return []
    shown = value if isinstance(value, str) else f"{value!r}"
    return [Text(), Text(name, "bright_black"), Text(shown)]


def models(items: list[dict[str, Any]]) -> RenderableType:
    """All models of the settings."""
    table = plain_table("model", "state", ">busy", ">in 60 s", ">queued", ">errors", ">latency")
    table.columns[0].min_width, table.columns[1].min_width = 18, 16
    for item in items:
        name = Text(item["name"], "bold")
        table.add_row(
            Group(name, one_line(item["model"], "bright_black")),
            _state(item),
            f"{item['in_flight']}/{_limit(item, 'concurrency')}",
            f"{item['calls_last_60s']}/{_limit(item, 'rpm')}"
            if item["rpm"] or item.get("rpm_auto")
            else str(item["calls_last_60s"]),
            str(item["queue_depth"]),
            Text(f"{item['errors']}/{item['calls']}", "red" if item["errors"] else ""),
            number(item["latency_s"], " s"),
        )
    return table if items else Text("the settings name no model")


def _limit(item: dict[str, Any], name: str) -> str:
    """A limit; one that is learned has a ~ before it, for it may change."""
    if not item.get(f"{name}_auto"):
        return str(item[name])
    return "~" if item[name] is None else f"~{item[name]}"


def _state(item: dict[str, Any]) -> Text:
    if not item["enabled"]:
        return Text(f"disabled: {item['reason']}", "bright_black")
    if item.get("paused"):
        return Text("paused", "magenta")
    if item["breaker"] != "closed":
        return Text(f"breaker {item['breaker']}", "red")
    if item["waiting_for"]:
        return Text(str(item["waiting_for"]), "yellow")
    return Text("enabled", "green")


def stats(counts: dict[str, Any]) -> RenderableType:
    """Counts by state, in all and per model."""
    states = [state for state in STYLES if counts[state] or state in ALWAYS]
    table = plain_table("", *(f">{state}" for state in states), ">total")
    models = counts.get("models", {})
    for name, found in models.items():
        cells = [_count(found.get(state, 0), state) for state in states]
        table.add_row(Text(name), *cells, str(sum(found.values())))
    if models:
        table.add_section()
    totals = [_count(counts[state], state) for state in states]
    table.add_row(Text("all", "bold"), *totals, Text(str(counts["total"]), "bold"))
    return table


def _count(value: int, state: str) -> Text:
    return Text(str(value), STYLES[state] if value else "bright_black")


def print_answer(
    answer: dict[str, Any], as_json: bool, shown: Callable[[dict[str, Any]], RenderableType]
) -> int:
    """Print an answer of the service as JSON, or as what `shown` makes of it; the exit code."""
    if as_json:
        print_json(answer)
    else:
        console().print(shown(answer))
    return 0
