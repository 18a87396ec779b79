"""The filters of a list of tasks as options, shared by `tasks` and the commands that steer many."""

from typing import Annotated, Any, Literal

from asyncsvc.cli.arguments import Option
from asyncsvc.cli.options import States

PANEL = "Which tasks"
Status = Annotated[States | None, Option(help="Only those in this state.", group=PANEL)]
Model = Annotated[
    str | None,
    Option("--model", metavar="M", help="Asked for, or that ran it.", group=PANEL),
]
Lane = Annotated[
    Literal["priority", "short", "long"] | None,
    Option("--lane", help="Of this queue.", group=PANEL),
]
Session = Annotated[
    str | None, Option("--session", metavar="ID", group=PANEL, help="Of a session.")
]
Kind = Annotated[
    Literal["chat", "agent", "embedding"] | None,
    Option("--type", help="Of this type.", group=PANEL),
]
Owner = Annotated[str | None, Option("--owner", metavar="NAME", group=PANEL, help="Of a client.")]
Search = Annotated[
    str | None,
    Option(
        "--search",
        "-q",
        metavar="TEXT",
        help="What was asked or answered begins with a part that holds this.",
        group=PANEL,
    ),
]
WaitingFor = Annotated[
    Literal["approval", "review"] | None,
    Option("--waiting-for", help="Agents that wait for yours.", group=PANEL),
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
