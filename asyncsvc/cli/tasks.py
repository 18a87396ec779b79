"""`tasks`, `show`, `explain`, `stats` and the commands for one task: one request, one answer.

--json prints the service's answer whole and unchanged.
"""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.client import reach
from asyncsvc.cli.options import THERE, Json, States, TaskId, Url, print_json
from asyncsvc.cli.tables import print_answer

app = typer.Typer()

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


@app.command(rich_help_panel=THERE)
def tasks(
    status: Annotated[States | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List tasks, newest first."""
    with reach(url) as api:
        page = api.get("/tasks", {"status": status, "limit": limit})
    if as_json:
        print_json(page)
        return 0
    console = tables.console()
    console.print(tables.tasks(page["tasks"], console.width))
    if page["next_cursor"]:
        console.print(f"the newest {limit}; more with --limit N", style="bright_black")
    return 0


@app.command(rich_help_panel=THERE)
def show(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Show one task with its texts."""
    with reach(url) as api:
        found = api.task(api.resolve(task_id))
    return print_answer(found, as_json, tables.task)


@app.command(rich_help_panel=THERE)
def explain(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Say what happened to a task, and what it waited for."""
    with reach(url) as api:
        story = api.get(f"/tasks/{api.resolve(task_id)}/explain")
    return print_answer(story, as_json, _story)


@app.command(rich_help_panel=THERE)
def cancel(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Cancel a task; a running one is cut off at once."""
    return _command(task_id, "cancel", as_json, url)


@app.command(rich_help_panel=THERE)
def pause(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Hold a task until `resume`."""
    return _command(task_id, "pause", as_json, url)


@app.command(rich_help_panel=THERE)
def resume(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Let a paused task go on."""
    return _command(task_id, "resume", as_json, url)


@app.command(rich_help_panel=THERE)
def retry(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Start a finished task anew, under the same id."""
    return _command(task_id, "retry", as_json, url)


@app.command(rich_help_panel=THERE)
def stats(as_json: Json = False, url: Url = None) -> int:
    """Count the tasks by state, in all and per model."""
    with reach(url) as api:
        counts = api.get("/tasks/stats")
    return print_answer(counts, as_json, tables.stats)


def _command(task_id: str, verb: str, as_json: bool, url: str | None) -> int:
    """Send a command for a task and print the state that it then has."""
    with reach(url) as api:
        task = api.steer(api.resolve(task_id), verb)
    if as_json:
        print_json(task)
    else:
        print(f"{task['task_id']}  {task['status']}")
    return 0


def _story(story: dict[str, Any]) -> RenderableType:
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


def _waits(story: dict[str, Any]) -> list[RenderableType]:
    waits = dict(story["waits"])
    found = waits.pop("queued_s") | waits
    table = tables.plain_table(">waited", "because")
    for name, seconds in sorted(found.items(), key=lambda each: -each[1]):
        if seconds > 0:
            table.add_row(f"{seconds:.3f} s", WORDS.get(name, name))
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
