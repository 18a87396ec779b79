"""The filters of a list of tasks as options, shared by `tasks` and the commands that steer many."""

from typing import Annotated, Any, Literal

import typer

from asyncsvc.cli.options import States

PANEL = "Which tasks"
Status = Annotated[
    States | None, typer.Option(help="Only those in this state.", rich_help_panel=PANEL)
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="M", help="Asked for, or that ran it.", rich_help_panel=PANEL),
]
Lane = Annotated[
    Literal["priority", "short", "long"] | None,
    typer.Option("--lane", help="Of this queue.", rich_help_panel=PANEL),
]
Session = Annotated[
    str | None, typer.Option("--session", metavar="ID", rich_help_panel=PANEL, help="Of a session.")
]
Kind = Annotated[
    Literal["chat", "agent", "embedding"] | None,
    typer.Option("--type", help="Of this type.", rich_help_panel=PANEL),
]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", rich_help_panel=PANEL, help="Of a client.")
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        "-q",
        metavar="TEXT",
        help="What was asked or answered begins with a part that holds this.",
        rich_help_panel=PANEL,
    ),
]
WaitingFor = Annotated[
    Literal["approval", "review"] | None,
    typer.Option("--waiting-for", help="Agents that wait for yours.", rich_help_panel=PANEL),
]


def query(
    model: str | None,
    lane: str | None,
    session: str | None,
    kind: str | None,
    owner: str | None,
    search: str | None,
    waiting_for: str | None = None,
) -> dict[str, Any]:
    """The filters that were given, but the status, as the query of `GET /tasks`."""
    given = {
        "model": model,
        "lane": lane,
        "session_id": session,
        "type": kind,
        "owner": owner,
        "q": search,
        "waiting_for": waiting_for,
    }
    return {name: value for name, value in given.items() if value is not None}
