"""The filters of a list of tasks as options, shared by `tasks` and the commands that steer many."""

from typing import Annotated, Any, Literal, NamedTuple

from asyncsvc.cli.arguments import Option
from asyncsvc.cli.options import States

PANEL = "Which tasks"


class Filters(NamedTuple):
    """Which tasks are meant; None lets all through."""

    status: Annotated[States | None, Option(help="Only those in this state.", group=PANEL)] = None
    model: Annotated[
        str | None, Option(metavar="M", help="Asked for, or that ran it.", group=PANEL)
    ] = None
    lane: Annotated[
        Literal["priority", "short", "long"] | None, Option(help="Of this queue.", group=PANEL)
    ] = None
    session_id: Annotated[
        str | None, Option("--session", metavar="ID", help="Of a session.", group=PANEL)
    ] = None
    type: Annotated[
        Literal["chat", "agent", "embedding"] | None, Option(help="Of this type.", group=PANEL)
    ] = None
    owner: Annotated[str | None, Option(metavar="NAME", help="Of a client.", group=PANEL)] = None
    q: Annotated[
        str | None,
        Option(
            "--search",
            "-q",
            metavar="TEXT",
            help="What was asked or answered begins with a part that holds this.",
            group=PANEL,
        ),
    ] = None
    waiting_for: Annotated[
        Literal["approval", "review"] | None,
        Option(help="Agents that wait for yours.", group=PANEL),
    ] = None

    @property
    def query(self) -> dict[str, Any]:
        """Those that are given, as the query of `GET /tasks`, whose names the fields have."""
        return {name: value for name, value in self._asdict().items() if value is not None}


ALL = Filters()
