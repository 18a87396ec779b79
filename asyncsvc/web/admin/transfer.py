"""Backups, exports and imports: copies of the database, tasks as JSON lines.

Owns `/admin/backup`, `/admin/export`, `/admin/import` and `/tasks/export`. Promises that a client
chooses at most a name below the folder of backups, never a path; that an import is taken wholly or
not at all, with its bad lines named. Never holds more than one page of an export, nor more than
one request's body of an import.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.agents.history import generation
from asyncsvc.batches.lines import BOM, other_encoding
from asyncsvc.clock import rfc3339
from asyncsvc.errors import InvalidJson, InvalidRequest, NotFound, Overloaded
from asyncsvc.storage import export as portable
from asyncsvc.storage import own_files
from asyncsvc.storage.export import Record, WorkspacePiece
from asyncsvc.tasks.state import State, Task
from asyncsvc.tools.task_workspaces import TooLarge
from asyncsvc.web.http import body, errors
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.large_answers import in_parts
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import Streamed, begun
from asyncsvc.web.tasks.routes import integer
from asyncsvc.web.tasks.schemas import Count

log = logging.getLogger(__name__)


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


LINES_MOST = 1000
"""Of an import, in one request."""
TEXTS = 2
"""A task's body and its result may each be as large as the largest body of a submit."""
FAULTS_SHOWN = 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
BUSY_S = 5.0


@operation(
    scope=Permission.ADMIN,
    answer=MadeBackup,
    status=201,
    body=BackupRequest,
    needs_body=False,
    errors=("overloaded",),
    gives=("Location",),
    example={},
)
async def make_backup(request: Request) -> Response:
    """POST /admin/backup: copy the database as it is at this moment."""
    parts = services(request)
    async with body.ReceivedBody(request, 64 * 1024, parts.bodies) as (raw, _):
        value = body.as_object(raw) if raw else {}
    errors.check_names(value, BackupRequest.__annotations__, "field of a backup")
    given = value.get("path")
    stamp = rfc3339(parts.journal.now()).translate(str.maketrans("", "", "-:."))
    name = f"{parts.journal.store.path.stem}-{stamp}.db" if given is None else _name(given)
    if parts.backups.busy:
        raise Overloaded("another backup is under way", retry_after=BUSY_S)
    try:
        copy = await parts.backups.make(name)
    except FileExistsError:
        raise InvalidRequest(f"there is a backup {name!r} already", param="path") from None
    answer = asdict(copy) | {"name": name, "path": str(copy.path.absolute())}
    return JSON(answer, status_code=201, headers={"Location": f"/admin/backup/{name}"})


@operation(
    scope=Permission.ADMIN,
    answer=bytes,
    media=("application/vnd.sqlite3",),
    errors=("not_found", "invalid_request"),
)
async def fetch_backup(request: Request) -> Response:
    """GET /admin/backup/{name}: fetch a copy."""
    path = services(request).backups.folder / _name(request.path_params["name"])
    if not own_files.is_plain(path):
        raise NotFound(f"there is no backup {path.name!r}")
    return FileResponse(path, media_type="application/vnd.sqlite3", filename=path.name)


@operation(scope=Permission.ADMIN, status=204, errors=("not_found", "invalid_request"))
async def drop_backup(request: Request) -> Response:
    """DELETE /admin/backup/{name}: remove a copy."""
    path = services(request).backups.folder / _name(request.path_params["name"])
    if not own_files.is_plain(path):
        raise NotFound(f"there is no backup {path.name!r}")
    try:
        await asyncio.to_thread(path.unlink)
    except OSError:
        raise NotFound(f"there is no backup {path.name!r}") from None
    return Response(status_code=204)


def _name(given: object) -> str:
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise InvalidRequest(
            "path is a name below the folder of backups: letters, digits and . _ -, at most 100",
            param="path",
        )
    return given


@operation(scope=Permission.ADMIN, answer=str, media=("application/x-ndjson",), query=ExportQuery)
async def export(request: Request) -> Response:
    """GET /admin/export: every task with its texts, one JSON line each, oldest first."""
    return await _exported(request)


@operation(scope=Permission.READ, answer=str, media=("application/x-ndjson",), query=ExportQuery)
async def export_own(request: Request) -> Response:
    """GET /tasks/export: every task that the caller may see, as `/admin/export` gives them."""
    return await _exported(request)


async def _exported(request: Request) -> Response:
    parts, query = services(request), request.query_params
    errors.check_query(query, ExportQuery.__annotations__, "filter")
    state = query.get("status") or None
    if state is not None and state not in tuple(State):
        raise InvalidRequest(f"status must be one of {', '.join(State)}", param="status")
    kind = "application/x-ndjson"
    if request.method == "HEAD":
        return Response(media_type=kind)  # the stream has no reader, so it must not run
    archive = partial(workspace_archive, parts)
    lines = portable.lines(parts.journal.store, state, caller(request).only, archive, parts.exports)
    return Streamed(in_parts(await begun(lines)), media_type=kind)


async def workspace_archive(parts: Services, task: Task) -> AsyncIterator[bytes]:
    """The workspace of an agent as an archive; nothing where it has none, or one too large."""
    current = await generation(parts.journal, task)
    try:
        async with parts.workspaces.look(task.id, current):
            pieces = await parts.workspaces.pack(task.id, current)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except FileNotFoundError:
        return
    except TooLarge as error:
        text = "the export has task %s without its workspace: %s"
        log.warning(text, task.id, error, extra={"task_id": task.id})


@operation(
    scope=Permission.ADMIN,
    answer=Imported,
    query=ImportQuery,
    upload="tasks.jsonl",
    errors=("invalid_json", "task_too_large", "queue_full", "shutting_down"),
)
async def take_in(request: Request) -> Response:
    """POST /admin/import: take in JSON lines as an export has them, all or none."""
    parts, query = services(request), request.query_params
    errors.check_query(query, ImportQuery.__annotations__, "parameter")
    if query.get("first_line") == "":
        raise InvalidRequest("first_line must be a whole number from 1", param="first_line")
    first = integer(query.get("first_line"), "first_line", 1, 1, None)
    limit = TEXTS * parts.settings.queue.max_task_bytes + (1 << 20)
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, _):
        if (encoding := other_encoding(data[:4])) is not None:
            raise InvalidRequest(f"the lines are in {encoding}; save the file as UTF-8")
        lines = [line.removeprefix(BOM) for line in data.split(b"\n")]
        return await _take_in(parts, lines, first)


async def _take_in(parts: Services, lines: list[bytes], first: int) -> Response:
    if (count := sum(1 for line in lines if line.strip())) > LINES_MOST:
        raise InvalidRequest(f"at most {LINES_MOST} lines in one request, {count} are given")
    records, pieces, faults = list[Record](), list[WorkspacePiece](), []
    for number, line in enumerate(lines, start=first):
        if not line.strip():
            continue
        try:
            found = _read(line, parts.settings.queue.max_task_bytes)
            if isinstance(found, WorkspacePiece):
                pieces.append(found)
            else:
                parts.webhooks.check(found.submission.callback_url)
                records.append(found)
        except (InvalidRequest, InvalidJson) as fault:
            faults.append((number, str(fault).replace("the body", "it")))
        await asyncio.sleep(0)  # a long line takes a while: others have their turn in between
    if faults:
        shown = "; ".join(f"line {number}: {why}" for number, why in faults[:FAULTS_SHOWN])
        more = len(faults) - FAULTS_SHOWN
        shown += f"; and {more} lines more" if more > 0 else ""
        raise InvalidRequest(f"nothing of these lines is taken: {shown}", param=f"{faults[0][0]}")
    for piece in pieces:
        await parts.importer.staging.add(piece)
    taken = await parts.importer.take(records)
    counts: dict[str, Any] = {"finished": taken.finished, "queued": taken.queued}
    return JSON({"imported": taken.finished + taken.queued, **counts, "skipped": taken.skipped})


def _read(line: bytes, most: int) -> Record | WorkspacePiece:
    """What a line holds. Raises InvalidRequest or InvalidJson."""
    value = body.as_object(line)
    try:
        if "workspace_of" in value:
            return WorkspacePiece.model_validate(value)
        record = Record.of(value)
    except ValidationError as error:
        raise errors.invalid(error) from None
    if len(record.text or "") > most:
        raise InvalidRequest(f"result: longer than {most} characters")
    return record


ROUTES = [
    resource("/admin/backup", POST=make_backup),
    resource("/admin/backup/{name}", GET=fetch_backup, DELETE=drop_backup),
    resource("/tasks/export", GET=export_own),
    resource("/admin/export", GET=export),
    resource("/admin/import", POST=take_in),
]
