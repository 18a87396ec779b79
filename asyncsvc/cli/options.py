"""Options that several commands share, and the way to the service.

Owns their names, types and help. Promises that they mean the same everywhere. Never does anything
but open the client.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from asyncsvc.cli.client import Api

HERE, THERE = "On this machine", "With a running service"

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="Default: settings.toml, here or with main.py"),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="ASYNCSVC_URL",
        help="The service. Default: host and port of the settings.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
States = Literal["scheduled", "pending", "running", "paused", "completed", "failed", "cancelled"]


def reach(url: str | None) -> "Api":
    """The service's client, for `with`."""
    from asyncsvc.cli import address
    from asyncsvc.cli.client import Api

    return Api(address.find(url, os.environ))
