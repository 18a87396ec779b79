"""The commands for schedules, and those that hold a model.

Owns their words. Like all commands that speak to a service they import what they need when they
are called. Never does anything itself.
"""

from typing import Annotated, Literal

import typer

from asyncsvc.cli.options import THERE, Json, Url, reach

ModelName = Annotated[str, typer.Argument(metavar="NAME", help="A model of the settings.")]


def add_to(app: typer.Typer) -> None:
    """Make them commands of the program."""
    for name, command in (
        ("schedules", schedules),
        ("schedule", schedule),
        ("unschedule", unschedule),
        ("pause-model", pause_model),
        ("resume-model", resume_model),
    ):
        app.command(name, rich_help_panel=THERE)(command)


def schedules(as_json: Json = False, url: Url = None) -> int:
    """List the schedules: when each runs next, and what became of it."""
    from asyncsvc.cli import scheduling

    with reach(url) as api:
        return scheduling.schedules(api, as_json)


def schedule(
    cron: Annotated[
        str, typer.Argument(metavar="CRON", help='Such as "0 9 * * 1-5", or @daily; quote it.')
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="The prompt; - reads stdin.")],
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="An IANA name such as Europe/Berlin.")
    ] = "UTC",
    name: Annotated[
        str | None, typer.Option(help="A known name replaces what its schedule does.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model of the settings; else routed.")] = None,
    lane: Annotated[
        Literal["priority", "short", "long"], typer.Option(help="Which queue.")
    ] = "short",
    priority: Annotated[int, typer.Option(min=0, max=9, help="Higher first in its lane.")] = 5,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit a task again and again, by a cron expression; prints the schedule's id."""
    from asyncsvc.cli import scheduling, submitting

    task = {"content": submitting.read_text(text), "lane": lane, "priority": priority}
    if model is not None:
        task["model"] = model
    with reach(url) as api:
        return scheduling.schedule(api, cron, timezone, name, task, as_json)


def unschedule(
    schedule_id: Annotated[
        str, typer.Argument(metavar="ID", help="A schedule's id, or the end of it.")
    ],
    url: Url = None,
) -> int:
    """Delete a schedule; the tasks that it has made stay."""
    from asyncsvc.cli import scheduling

    with reach(url) as api:
        return scheduling.unschedule(api, schedule_id)


def pause_model(name: ModelName, as_json: Json = False, url: Url = None) -> int:
    """Begin no call with a model until `resume-model`; those under way go on."""
    return _hold(name, "pause", as_json, url)


def resume_model(name: ModelName, as_json: Json = False, url: Url = None) -> int:
    """Let a paused model take calls again."""
    return _hold(name, "resume", as_json, url)


def _hold(name: str, verb: str, as_json: bool, url: str | None) -> int:
    from asyncsvc.cli import scheduling

    with reach(url) as api:
        return scheduling.hold(api, name, verb, as_json)
