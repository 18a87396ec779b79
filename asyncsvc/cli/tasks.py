"""`tasks`, `show`, `explain`, `stats` and the commands for one task: one request, one answer.

--json prints the service's answer whole and unchanged.
"""

from typing import Annotated, Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import arguments as typer
from asyncsvc.cli import tables
from asyncsvc.cli.agent_lines import how_to_decide, wait_text
from asyncsvc.cli.agent_tables import time_table
from asyncsvc.cli.client import reach
from asyncsvc.cli.options import THERE, Json, States, TaskId, Url, print_json, program
from asyncsvc.cli.tables import print_answer
from asyncsvc.cli.terminal import json_text

app = typer.Commands()

WAIT_REASONS = {
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


@app.command(rich_help_panel=THERE)
def tasks(
    status: Annotated[States | None, typer.Option(help="Only those in this state.")] = None,
    waiting_for: Annotated[
        Literal["approval", "review"] | None, typer.Option(help="Only agents that wait for yours.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List tasks, newest first."""
    with reach(url) as api:
        query = {"status": status, "waiting_for": waiting_for, "limit": limit}
        page = api.get("/tasks", query)
    if as_json:
        print_json(page)
        return 0
    console = tables.console()
    console.print(task_table(page["tasks"], console.width))
    if page["next_cursor"]:
        console.print(f"the newest {limit}; more with --limit N", style="bright_black")
    return 0


@app.command(rich_help_panel=THERE)
def show(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Show one task with its texts."""
    with reach(url) as api:
        found = api.task(api.resolve(task_id))
    return print_answer(found, as_json, task_details)


@app.command(rich_help_panel=THERE)
def explain(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Say what happened to a task, and what it waited for."""
    with reach(url) as api:
        story = api.get(f"/tasks/{api.resolve(task_id)}/explain")
    return print_answer(story, as_json, story_report)


@app.command(rich_help_panel=THERE)
def cancel(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Cancel a task; a running one is cut off at once."""
    return command(task_id, "cancel", as_json, url)


@app.command(rich_help_panel=THERE)
def pause(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Hold a task until `resume`."""
    return command(task_id, "pause", as_json, url)


@app.command(rich_help_panel=THERE)
def resume(
    task_id: TaskId,
    decision: Annotated[
        Literal["rerun", "skip", "fail"] | None,
        typer.Option(help="Of an agent whose tool was cut off: what to do with that call."),
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Let a paused task go on."""
    fields = None if decision is None else {"decision": decision}
    return command(task_id, "resume", as_json, url, fields)


@app.command(rich_help_panel=THERE)
def retry(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Start a finished task anew, under the same id."""
    return command(task_id, "retry", as_json, url)


@app.command(rich_help_panel=THERE)
def stats(as_json: Json = False, url: Url = None) -> int:
    """Count the tasks by state, in all and per model."""
    with reach(url) as api:
        counts = api.get("/tasks/stats")
    return print_answer(counts, as_json, count_table)


def command(
    task_id: str, verb: str, as_json: bool, url: str | None, fields: dict[str, Any] | None = None
) -> int:
    """Send a command for a task and print the state that it then has."""
    with reach(url) as api:
        task = api.command(api.resolve(task_id), verb, fields)
    return print_answer(task, as_json, lambda found: f"{found['task_id']}  {found['status']}")


def task_table(items: list[dict[str, Any]], width: int) -> RenderableType:
    """A page of tasks."""
    if not items:
        return Text("no task")
    table = tables.plain_table("id", "status", "model", "created UTC", "text", ">time")
    for at in (0, 1, 3, 5):
        table.columns[at].no_wrap = True
    table.columns[4].ratio = 1
    table.expand = width < tables.PIPE_WIDTH
    for item in items:
        table.add_row(
            tables.shown_id(item["task_id"], width),
            tables.status(item["status"]),
            tables.one_line(item["metadata"]["name"] or item["model"] or tables.NOTHING),
            _moment(item["created_at"]),
            _text(item),
            tables.number(item["metadata"]["latency"], " s"),
        )
    return table


def _text(item: dict[str, Any]) -> Text:
    asked = tables.one_line(item["content_preview"])
    if item["error"]:
        return Text.assemble(asked, "  ", (item["error"]["code"], "red"))
    return asked


def _moment(time: str) -> str:
    """Month, day and time, in UTC as all times are."""
    return f"{time[5:10]} {time[11:19]}"


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
        ("created", view["created_at"]),
        ("started", view["started_at"]),
        ("next run", view["next_run_at"]),
        ("finished", view["finished_at"]),
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
    steps = tables.plain_table("at UTC", "what", "state", ">for", "why")
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
            table.add_row(f"{seconds:.3f} s", WAIT_REASONS.get(name, name))
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
    return at.partition("T")[2].rstrip("Z")
