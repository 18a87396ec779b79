"""The tables of `explain --why-slow`: what all tasks have waited for, and what would help most."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.client import reach
from asyncsvc.cli.options import program
from asyncsvc.cli.tables import print_answer

REASONS = {
    "scheduled_s": "until its time",
    "retry_s": "between two tries",
    "paused_s": "paused",
    "session_s": "behind an earlier task of its session",
    "session": "behind an earlier task of its session",
    "retry": "between two tries",
    "paused": "paused",
    "approval": "for a person's decision",
    "concurrency": "all slots of the model were busy",
    "rate": "the calls that the rate allows were used up",
    "slow_down": "the provider had asked to slow down",
    "quota": "the quota was used up",
    "breaker": "the breaker was open after failures",
    "held": "the model was paused",
    "disabled": "the model was disabled",
    "tokens": "the token budget was used up",
    "patience": "a free model was left to wait for a faster one",
    "turn": "others had their turn",
    "equal_task": "an equal task was to make the call for both",
    "start": "its start was being written",
    "other": "not known: before a restart, or it ended before a start",
}
"""What each wait reason means, for people."""
SHOWN = 3


def command(since_s: float, as_json: bool, url: str | None) -> int:
    """Ask the service why tasks were slow, and print it; return the exit code."""
    seconds = max(round(since_s), 1)
    with reach(url) as api:
        found = api.get("/stats/why-slow", {"since_s": seconds})
    return print_answer(found, as_json, lambda answer: report(answer, seconds))


def report(found: dict[str, Any], since_s: int) -> RenderableType:
    """What tasks have waited for, by reason, model and owner."""
    head = (
        f"{found['waited_tasks']} of {found['tasks']} tasks waited {found['waited_s']:.1f} s "
        f"in all since {found['since']}"
    )
    cut = [Text("only the newest tasks are counted", "yellow")] if found["truncated"] else []
    if not found["reasons"]:
        return Group(Text(head, "bold"), *cut)
    reasons = tables.plain_table(">waited", ">tasks", "because")
    for row in found["reasons"]:
        because = REASONS.get(row["reason"], row["reason"])
        reasons.add_row(f"{row['waited_s']:.1f} s", str(row["tasks"]), because)
    parts = [_groups("model", found["models"]), _groups("owner", found["owners"])]
    return Group(Text(head, "bold"), *cut, reasons, *parts, *_change(found["change"], since_s))


def _groups(name: str, rows: list[dict[str, Any]]) -> RenderableType:
    table = tables.plain_table(name, ">waited", "most for")
    for row in rows:
        most = [f"{why} {seconds:.1f} s" for why, seconds in list(row["reasons"].items())[:SHOWN]]
        label = tables.NOTHING if row[name] is None else row[name]
        table.add_row(tables.one_line(label), f"{row['waited_s']:.1f} s", ", ".join(most))
    return table


def _change(change: dict[str, Any] | None, since_s: int) -> list[RenderableType]:
    """The one change, and the command that says what it would really bring."""
    if change is None:
        return [Text("no setting bounds what these tasks waited for")]
    waited = f"tasks waited {change['waited_s']:.1f} s for it"
    if change["to"] is None:
        return [Text(f"would help: {change['setting']} ({waited}): {change['why']}", "green")]
    value = str(change["to"]).lower()
    shown = f"{change['setting']} = {value} instead of {str(change['from']).lower()}"
    trying = f"{program()} rehearse --set {change['setting']}={value} --since {since_s}s"
    best = f"{program()} rehearse --suggest --since {since_s}s"
    return [
        Text(f"would help: {shown} ({waited}): {change['why']}", "green"),
        Text(f"what it would really save: {trying}"),
        Text(f"what saves most of several changes: {best}"),
    ]
