"""`explain`: a task's story for people.

Owns its layout and the words for the reasons of waiting. Promises that --json prints what the
service said, whole and unchanged. Never adds anything up itself.
"""

from typing import TYPE_CHECKING, Any

from asyncsvc.cli.client import Api
from asyncsvc.cli.submitting import print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

WORDS = {
    "scheduled_s": "until its time",
    "retry_s": "between two tries",
    "paused_s": "paused",
    "session_s": "behind an earlier task of its session",
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


def explain(api: Api, task_id: str, as_json: bool) -> int:
    """What happened to a task."""
    story = api.get(f"/tasks/{task_id}/explain")
    if as_json:
        print_json(story)
        return 0
    from asyncsvc.cli import terminal

    terminal.console().print(_shown(story))
    return 0


def _shown(story: dict[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from asyncsvc.cli import tables

    head = Text.assemble((story["task_id"], "bold"), "  ", tables.status(story["status"]))
    steps = tables.plain_table("at UTC", "what", "state", ">for", "why")
    for step in story["timeline"]:
        steps.add_row(
            _clock(step["at"]),
            step["what"],
            tables.status(step["state"]),
            tables.number(step["for_s"], " s") if step["for_s"] is not None else "",
            step["why"] or "",
        )
    return Group(head, steps, *_waits(story), *_attempts(story), *_rest(story))


def _waits(story: dict[str, Any]) -> list["RenderableType"]:
    from asyncsvc.cli import tables

    waits = dict(story["waits"])
    found = waits.pop("queued_s") | waits
    table = tables.plain_table(">waited", "because")
    for name, seconds in sorted(found.items(), key=lambda each: -each[1]):
        if seconds > 0:
            table.add_row(f"{seconds:.3f} s", WORDS.get(name, name))
    return [table] if table.row_count else []


def _attempts(story: dict[str, Any]) -> list["RenderableType"]:
    from asyncsvc.cli import tables

    table = tables.plain_table(
        ">attempt", "model", ">first token", ">characters", "outcome", "gate"
    )
    for one in story["attempts"]:
        error = one["error"]
        table.add_row(
            str(one["number"]),
            f"{one['name']} ({one['model']})",
            tables.number(one["first_token_s"], " s"),
            str(one["characters"]),
            f"{one['outcome'] or 'under way'}{': ' + error['code'] if error else ''}",
            _gate(one["gate"]),
        )
    return [table] if table.row_count else []


def _gate(gate: dict[str, Any] | None) -> str:
    if gate is None:
        return ""
    calls = f", {gate['window_used']} of {gate['window_limit']} calls used"
    busy = f"{gate['name']}: {gate['busy']} of {gate['concurrency']} busy"
    return busy + (calls if gate["window_limit"] else "")


def _rest(story: dict[str, Any]) -> list["RenderableType"]:
    from rich.text import Text

    totals, usage, now = story["totals"], story["usage"] or {}, story["now"]
    said = [f"waited {totals['waiting_s']:.3f} s, ran {totals['running_s']:.3f} s"]
    if usage.get("total_tokens") is not None:
        said.append(f"{usage['total_tokens']} tokens")
    if story["cached"]:
        said.append("from the cache")
    lines = [Text("; ".join(said))]
    if now is not None and story["status"] == "pending":
        place = f"now at position {now['position']}" if now["position"] else "now"
        eta = f", expected to start in {now['eta_s']:.1f} s" if now["eta_s"] is not None else ""
        lines.append(Text(f"{place}{eta}{': ' + now['reason'] if now['reason'] else ''}", "yellow"))
    return list(lines)


def _clock(at: str) -> str:
    return at.partition("T")[2].rstrip("Z")
