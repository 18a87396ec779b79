"""`show`, `explain` and `stats`: one request, one answer.

--json prints the service's answer whole and unchanged; else times are local.
"""

from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables, why_slow
from asyncsvc.cli.agent_lines import how_to_decide, wait_text
from asyncsvc.cli.agent_tables import time_table
from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import reach
from asyncsvc.cli.options import (
    MISUSED,
    THERE,
    Failure,
    Json,
    TaskId,
    Url,
    duration_option,
    program,
)
from asyncsvc.cli.tables import print_answer
from asyncsvc.cli.terminal import json_text

app = Commands()


@app.command(group=THERE)
def show(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Show one task with its texts."""
    with reach(url) as api:
        found = api.task(api.resolve(task_id))
    return print_answer(found, as_json, task_details)


@app.command(group=THERE)
def explain(
    task_id: Annotated[
        str | None, Argument(metavar="[ID]", help="A task's id, or the end of it.")
    ] = None,
    all_tasks: Annotated[
        bool, Option("--why-slow", help="Instead of one task: what all have waited for.")
    ] = False,
    since: Annotated[
        float | None, duration_option("--since", "How far back --why-slow looks; default 1h.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Say what happened to a task and what it waited for; with --why-slow, what all waited for."""
    if all_tasks == (task_id is not None):
        raise Failure("give a task's id, or --why-slow for all tasks", MISUSED)
    if task_id is None:
        return why_slow.command(3600.0 if since is None else since, as_json, url)
    with reach(url) as api:
        story = api.get(f"/tasks/{api.resolve(task_id)}/explain")
    return print_answer(story, as_json, story_report)


@app.command(group=THERE)
def stats(as_json: Json = False, url: Url = None) -> int:
    """Count the tasks by state, in all and per model."""
    with reach(url) as api:
        counts = api.get("/tasks/stats")
    return print_answer(counts, as_json, count_table)


def task_details(view: dict[str, Any]) -> RenderableType:
    """One task with its texts."""
    facts = tables.Rows.grid(padding=(0, 2))
    facts.add_column(style="bright_black", no_wrap=True)
    facts.add_column(overflow="fold")
    meta, usage = view["metadata"], view["metadata"]["usage"] or {}
    model = " · ".join(name for name in (meta["name"], meta["model"]) if name)
    rows: list[tuple[str, Any]] = [
        ("id", Text(view["task_id"], "bold")),
        ("status", tables.status(view["status"])),
        ("model", model or view["model"] or "not chosen yet"),
        ("queue", f"{view['lane']}, priority {view['priority']}"),
        ("attempts", str(view["attempts"])),
        ("created", _moment(view["created_at"])),
        ("started", _moment(view["started_at"])),
        ("next run", _moment(view["next_run_at"])),
        ("finished", _moment(view["finished_at"])),
        ("position", view.get("position")),
        ("latency", tables.number(meta["latency"], " s") if meta["latency"] is not None else None),
        ("tokens", _tokens(usage)),
        ("session", view["session_id"]),
        ("schedule", view.get("schedule_id")),
        ("steps", _steps(meta)),
        ("error", _error(view["error"])),
        *_waits_for(view),
    ]
    for name, value in rows:
        if value is not None:
            facts.add_row(name, value if isinstance(value, Text) else str(value))
    asked = view.get("content") or view.get("messages") or view.get("input")
    approval = view.get("approval") or {}
    return Group(
        facts,
        *_section("asked", asked),
        *_section("result", view["result"]),
        *_section("arguments", _whole(approval.get("arguments"))),
        *_section("change", approval.get("diff")),
    )


def _moment(time: str | None) -> str | None:
    return None if time is None else tables.moment(time)


def _tokens(usage: dict[str, Any]) -> str | None:
    if not usage:
        return None
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return f"{usage.get('total_tokens')} ({asked} asked, {answered} answered)"


def _steps(meta: dict[str, Any]) -> str | None:
    """How far an agent is; None for any other task."""
    if not meta.get("steps"):
        return None
    return f"{meta['steps']}, {meta.get('tool_calls') or 0} calls of tools"


def _waits_for(view: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a person is to decide, and how."""
    asked = view.get("approval")
    if not asked:
        return []
    hint = how_to_decide(asked, view["task_id"])
    return [("waits", Text(wait_text(asked), "magenta")), ("", hint)]


def _whole(arguments: Any) -> str | None:
    if arguments is None or isinstance(arguments, str):
        return arguments
    return json_text(arguments, indent=2)


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


ALWAYS = frozenset({"pending", "running", "completed", "failed"})
"""States that are counted even where there is no such task; the others only take room then."""


def count_table(counts: dict[str, Any]) -> RenderableType:
    """Counts by state, in all and per model."""
    states = [state for state in tables.STYLES if counts[state] or state in ALWAYS]
    table = tables.plain_table("", *(f">{state}" for state in states), ">total")
    models = counts.get("models", {})
    for name, found in models.items():
        cells = [_count(found.get(state, 0), state) for state in states]
        table.add_row(Text(name), *cells, str(sum(found.values())))
    if models:
        table.add_section()
    totals = [_count(counts[state], state) for state in states]
    table.add_row(Text("all", "bold"), *totals, Text(str(counts["total"]), "bold"))
    return Group(table, *_waiting(counts))


def _waiting(counts: dict[str, Any]) -> list[RenderableType]:
    """How many agents wait for a person; nothing where none does."""
    found = [(kind, counts.get(f"needs_{kind}", 0)) for kind in ("approval", "review")]
    return [
        Text(f"{count} for your {kind}: {program()} tasks --waiting-for {kind}", "magenta")
        for kind, count in found
        if count
    ]


def _count(value: int, state: str) -> Text:
    return Text(str(value), tables.STYLES[state] if value else "bright_black")


def story_report(story: dict[str, Any]) -> RenderableType:
    head = Text.assemble((story["task_id"], "bold"), "  ", tables.status(story["status"]))
    steps = tables.plain_table("at", "what", "state", ">for", "why")
    for step in story["timeline"]:
        steps.add_row(
            _clock(step["at"]),
            step["what"],
            tables.status(step["state"]),
            tables.number(step["for_s"], " s") if step["for_s"] is not None else "",
            step["why"] or "",
        )
    agent = time_table(story["agent"]) if story.get("agent") else []
    return Group(head, steps, *_waits(story), *_attempts(story), *agent, *_rest(story))


def _waits(story: dict[str, Any]) -> list[RenderableType]:
    waits = dict(story["waits"])
    found = waits.pop("queued_s") | waits
    table = tables.plain_table(">waited", "because")
    for name, seconds in sorted(found.items(), key=lambda each: -each[1]):
        if seconds > 0:
            table.add_row(f"{seconds:.3f} s", why_slow.REASONS.get(name, name))
    return [table] if table.row_count else []


def _attempts(story: dict[str, Any]) -> list[RenderableType]:
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


def _rest(story: dict[str, Any]) -> list[RenderableType]:
    totals, usage, now = story["totals"], story["usage"] or {}, story["now"]
    parts = [f"waited {totals['waiting_s']:.3f} s, ran {totals['running_s']:.3f} s"]
    if usage.get("total_tokens") is not None:
        parts.append(f"{usage['total_tokens']} tokens")
    if story["cached"]:
        parts.append("from the cache")
    lines = [Text("; ".join(parts))]
    if now is not None and story["status"] == "pending":
        place = f"now at position {now['position']}" if now["position"] else "now"
        eta = f", expected to start in {now['eta_s']:.1f} s" if now["eta_s"] is not None else ""
        lines.append(Text(f"{place}{eta}{': ' + now['reason'] if now['reason'] else ''}", "yellow"))
    return list(lines)


def _clock(at: str) -> str:
    return f"{tables.moment(at)[11:]}{at[19:].rstrip('Z')}"
