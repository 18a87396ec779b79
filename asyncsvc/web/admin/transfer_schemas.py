"""The shapes of backups, exports and imports over HTTP, as types.

Owns their fields, as `schemas.py` does those of tasks, and promises the same. Never says how an
answer is made.
"""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.tasks.state import State
from asyncsvc.web.tasks.schemas import Count


class BackupRequest(TypedDict, total=False):
    path: Annotated[
        str | None,
        Field(
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
            description="a name below the folder of backups; by itself one with the time",
        ),
    ]


class MadeBackup(TypedDict):
    """A copy that is on the disk."""

    name: str
    path: Annotated[str, Field(description="on the service's machine")]
    bytes: Count
    sha256: str
    tasks: Count
    schema: Count


class ExportQuery(TypedDict, total=False):
    status: State


class ImportQuery(TypedDict, total=False):
    first_line: Annotated[int, Field(ge=1, description="number of the first line, for messages")]


class Imported(TypedDict):
    """How many tasks were taken, and as what."""

    imported: Count
    finished: Count
    queued: Count
    skipped: Annotated[int, Field(ge=0, description="known by their ids already")]
