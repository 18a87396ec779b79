"""Schedules and held models, as a person or a script sees them.

Owns what these commands print. Promises that --json prints what the service said, whole and
unchanged. Never keeps a connection open.
"""

import sys
from typing import Any
from urllib.parse import quote

from asyncsvc.cli.client import FULL_ID, Api
from asyncsvc.cli.failure import Failure
from asyncsvc.cli.submitting import print_json


def schedules(api: Api, as_json: bool) -> int:
    """All of them, oldest first."""
    found = api.get("/schedules")
    if as_json:
        print_json(found)
        return 0
    from rich.text import Text

    from asyncsvc.cli import tables, terminal

    console = terminal.console()
    table = tables.plain_table("id", "cron", "zone", "next UTC", ">runs", "text")
    table.columns[3].no_wrap = True
    table.columns[5].ratio = 1
    table.expand = console.width < terminal.PIPE_WIDTH
    for one in found["schedules"]:
        table.add_row(
            tables.shown_id(one["schedule_id"], console.width),
            one["cron"],
            one["timezone"],
            (one["next_run_at"] or tables.NOTHING)[:16].replace("T", " "),
            str(one["runs"]),
            _said(one, tables.one_line(one["content_preview"])),
        )
    console.print(table if found["schedules"] else Text("no schedule"))
    return 0


def _said(one: dict[str, Any], asked: Any) -> Any:
    from rich.text import Text

    error = one["last_error"]
    return Text.assemble((error["code"], "red"), "  ", asked) if error else asked


def schedule(
    api: Api, cron: str, timezone: str, name: str | None, task: dict[str, Any], as_json: bool
) -> int:
    """Make a schedule, or replace what the one of that name does; print its id, or all of it."""
    body = {"cron": cron, "timezone": timezone, "task": task}
    made = api.post("/schedules", body if name is None else body | {"name": name})
    if as_json:
        print_json(made)
        return 0
    print(made["schedule_id"], flush=True)
    if sys.stderr.isatty():
        print(f"first at {made['next_run_at']}", file=sys.stderr)
    return 0


def unschedule(api: Api, given: str) -> int:
    """Delete the one whose id it is, or ends in it."""
    found = _resolved(api, given)
    api.delete(f"/schedules/{quote(found, safe='')}")
    print(f"{found}  deleted")
    return 0


def hold(api: Api, name: str, verb: str, as_json: bool) -> int:
    """Pause or resume a model; says how it then stands."""
    model = api.post(f"/models/{quote(name, safe='')}/{verb}")
    if as_json:
        print_json(model)
    else:
        state = "paused" if model["paused"] else "resumed"
        print(f"{model['name']}  {state}, {model['in_flight']} calls under way")
    return 0


def _resolved(api: Api, given: str) -> str:
    if len(given) >= FULL_ID:
        return given
    ids = [str(one["schedule_id"]) for one in api.get("/schedules")["schedules"]]
    found = [schedule_id for schedule_id in ids if schedule_id.endswith(given)]
    if len(found) > 1:
        raise Failure(f"{len(found)} schedules end in {given!r}; give more of the id")
    if not found:
        raise Failure(f"there is no schedule whose id is or ends in {given!r}")
    return found[0]
