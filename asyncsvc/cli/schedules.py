"""`schedules`, `schedule` and `unschedule`: tasks that are submitted by a cron expression."""

from typing import Annotated, Any
from urllib.parse import quote

from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import reach, resolved
from asyncsvc.cli.options import (
    THERE,
    Json,
    Lane,
    ModelOption,
    Priority,
    Prompt,
    Url,
    print_created,
    print_json,
    task_fields,
)
from asyncsvc.cli.terminal import say

app = Commands()


@app.command(group=THERE)
def schedules(as_json: Json = False, url: Url = None) -> int:
    """List the schedules: when each runs next, and how often it ran."""
    with reach(url) as api:
        found = api.get("/schedules")
    if as_json:
        print_json(found)
        return 0
    console = tables.console()
    table = tables.plain_table("id", "cron", "zone", "next", ">runs", "text")
    table.columns[3].no_wrap = True
    table.columns[5].ratio = 1
    table.expand = console.width < tables.PIPE_WIDTH
    for one in found["schedules"]:
        table.add_row(
            tables.shown_id(one["schedule_id"], console.width),
            one["cron"],
            one["timezone"],
            tables.moment(one["next_run_at"])[:16] if one["next_run_at"] else tables.NOTHING,
            str(one["runs"]),
            _text(one, tables.one_line(one["content_preview"])),
        )
    console.print(table if found["schedules"] else Text("no schedule"))
    return 0


def _text(one: dict[str, Any], asked: Any) -> Any:
    error = one["last_error"]
    return Text.assemble((error["code"], "red"), "  ", asked) if error else asked


@app.command(group=THERE)
def schedule(
    cron: Annotated[
        str, Argument(metavar="CRON", help='Such as "0 9 * * 1-5", or @daily; quote it.')
    ],
    text: Prompt,
    timezone: Annotated[
        str, Option(metavar="TZ", help="An IANA name such as Europe/Berlin.")
    ] = "UTC",
    name: Annotated[
        str | None, Option(help="A known name replaces what its schedule does.")
    ] = None,
    model: ModelOption = None,
    lane: Lane = "short",
    priority: Priority = 5,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit a task again and again, by a cron expression; prints the schedule's id."""
    task = task_fields(text, model, lane, priority)
    body = {"cron": cron, "timezone": timezone, "task": task}
    with reach(url) as api:
        made = api.post("/schedules", body if name is None else body | {"name": name})
    return print_created(made, made["schedule_id"], f"first at {made['next_run_at']}", as_json)


@app.command(group=THERE)
def unschedule(
    schedule_id: Annotated[str, Argument(metavar="ID", help="A schedule's id, or the end of it.")],
    url: Url = None,
) -> int:
    """Delete a schedule; the tasks that it has made stay."""
    with reach(url) as api:
        found = resolved(schedule_id, "schedule", lambda: api.get("/schedules")["schedules"])
        api.delete(f"/schedules/{quote(found, safe='')}")
    say(f"{found}  deleted")
    return 0
