"""The commands that carry data out and in, their arguments and their help.

Owns the words of `backup`, `restore`, `export` and `import`. Never does anything itself: each
imports what it needs and hands over.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from asyncsvc.cli.options import HERE, THERE, Json, SettingsFile, States, Url, reach

New = Annotated[str, typer.Argument(metavar="FILE|-", help="A new file; - writes to stdout.")]
Old = Annotated[str, typer.Argument(metavar="FILE|-", help="The file; - reads stdin.")]


def register(app: typer.Typer) -> None:
    """Add them to the program."""
    app.command(rich_help_panel=THERE)(backup)
    app.command(rich_help_panel=HERE)(restore)
    app.command(rich_help_panel=THERE)(export)
    app.command("import", rich_help_panel=THERE)(import_)


def backup(file: New, as_json: Json = False, url: Url = None) -> int:
    """Copy the database of the running service into a new file, whole and checked."""
    from asyncsvc.cli import carrying

    with reach(url) as api:
        return carrying.backup(api, file, as_json)


def restore(
    file: Old,
    settings: SettingsFile = None,
    db: Annotated[Path | None, typer.Option(metavar="FILE", help="The SQLite file.")] = None,
) -> int:
    """Put a backup in the place of the database; the service must be stopped."""
    from asyncsvc.cli import restoring

    return restoring.restore(file, settings, db, os.environ)


def export(
    file: New,
    status: Annotated[States | None, typer.Option(help="Only those in this state.")] = None,
    url: Url = None,
) -> int:
    """Write all tasks with their texts into a new file, one JSON line each."""
    from asyncsvc.cli import carrying

    with reach(url) as api:
        return carrying.export(api, file, status)


def import_(file: Old, as_json: Json = False, url: Url = None) -> int:
    """Take tasks back: finished ones as they were, unfinished ones into the queue."""
    from asyncsvc.cli import carrying

    with reach(url) as api:
        return carrying.import_(api, file, as_json)
