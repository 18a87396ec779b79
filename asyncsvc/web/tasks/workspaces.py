"""The HTTP routes of an agent's workspace: what is in it, one file, all of it as an archive.

A workspace holds what a model has written, so a file is sent as text or bytes to be saved, never as
a page that a browser would run. Nothing of a file is in memory but a piece.
"""

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any, BinaryIO, Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.agents.history import generation
from asyncsvc.errors import Conflict, InvalidRequest, NotFound
from asyncsvc.tasks.state import Task
from asyncsvc.tools.task_workspaces import TooLarge
from asyncsvc.tools.workspace import Item, PathRefused, Workspace
from asyncsvc.web.http.errors import JSON, check_query
from asyncsvc.web.http.resources import JSON_MEDIA, caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import Streamed, begun
from asyncsvc.web.tasks.agent_schemas import WorkspaceItems
from asyncsvc.web.tasks.ledger import agent_only

ITEMS_MOST = 10_000
PIECE = 256 * 1024
SNIFFED = 8192
"""Bytes by which a file is taken for text."""
BINARY, TEXT, ARCHIVE = "application/octet-stream", "text/plain", "application/gzip"
POLICY = "sandbox; default-src 'none'"
ERRORS = ("task_not_found", "illegal_transition")


class WorkspaceQuery(TypedDict, total=False):
    format: Literal["tar.gz"]


@operation(
    scope=Permission.READ,
    answer=WorkspaceItems,
    media=(JSON_MEDIA, ARCHIVE),
    query=WorkspaceQuery,
    errors=ERRORS,
)
async def files(request: Request) -> Response:
    """GET /tasks/{id}/files: what is in the workspace of an agent.

    10,000 files and folders at most; with `format=tar.gz` all of it, as an archive.
    """
    parts, query = services(request), request.query_params
    check_query(query, WorkspaceQuery.__annotations__, "parameter")
    if query.get("format", "tar.gz") != "tar.gz":
        raise InvalidRequest("format must be tar.gz", param="format")
    task = await _agent(request, parts)
    if "format" in query:
        return await _archive(request, parts, task)
    items: list[Item] = []
    more = False
    try:
        async with parts.workspaces.look(task.id, await generation(parts.journal, task)) as found:
            items, more = await asyncio.to_thread(found.tree, ITEMS_MOST)
    except FileNotFoundError:
        pass  # it has not begun to work
    return JSON({"files": [_shown(item) for item in items], "truncated": more})


@operation(
    scope=Permission.READ,
    answer=bytes,
    media=(TEXT, BINARY),
    errors=(*ERRORS, "not_found"),
    gives=("Content-Disposition",),
)
async def file(request: Request) -> Response:
    """GET /tasks/{id}/files/{path}: one file of the workspace of an agent."""
    parts, path = services(request), request.path_params["path"]
    task = await _agent(request, parts)
    try:
        async with parts.workspaces.look(task.id, await generation(parts.journal, task)) as found:
            opened = await asyncio.to_thread(_opened, found, path)
    except (OSError, PathRefused, UnicodeEncodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotFound(f"there is no file {path[:200]!r} in the workspace: {why}") from None
    source, size, first = opened
    headers = _headers(path.rpartition("/")[2])
    kind = TEXT if _is_text(first) else BINARY
    if request.method == "HEAD":
        source.close()
        return Response(media_type=kind, headers=headers)
    return Streamed(_pieces(source, first, size), media_type=kind, headers=headers)


async def _archive(request: Request, parts: Services, task: Task) -> Response:
    headers = _headers(f"{task.id}.tar.gz")
    if request.method == "HEAD":
        return Response(media_type=ARCHIVE, headers=headers)
    current = await generation(parts.journal, task)
    try:
        async with parts.workspaces.look(task.id, current):
            content = await parts.workspaces.pack(task.id, current)
    except FileNotFoundError:
        raise Conflict(
            "illegal_transition", "the agent has no workspace yet: it has not begun to work"
        ) from None
    except TooLarge as error:
        raise Conflict(
            "illegal_transition", f"the workspace is too large for an archive: {error}"
        ) from None
    return Streamed(await begun(content), media_type=ARCHIVE, headers=headers)


async def _agent(request: Request, parts: Services) -> Task:
    task = await parts.task(caller(request), request.path_params["task_id"])
    agent_only(task, "a workspace")
    return task


def _opened(workspace: Workspace, path: str) -> tuple[BinaryIO, int, bytes]:
    """(the file, its size, its first piece)."""
    source = workspace.open(path)
    try:
        size = source.seek(0, 2)
        source.seek(0)
        return source, size, source.read(min(PIECE, size))
    except BaseException:
        source.close()
        raise


async def _pieces(source: BinaryIO, first: bytes, size: int) -> AsyncIterator[bytes]:
    """The bytes of a file up to the size that it had: one that grows has an end all the same."""
    with source:
        yield first
        left = size - len(first)
        while left > 0 and (
            piece := await asyncio.to_thread(functools.partial(source.read, min(PIECE, left)))
        ):
            left -= len(piece)
            yield piece


def _shown(item: Item) -> dict[str, Any]:
    """An item in the list; of a name that is no UTF-8 the other bytes are escaped."""
    path = item.path.encode(errors="backslashreplace").decode()
    return {"path": path, "size": item.size, "kind": item.kind}


def _is_text(data: bytes) -> bool:
    head = data[:SNIFFED]
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(data) > SNIFFED and error.start > SNIFFED - 4  # a character was cut in two
    return True


def _headers(name: str) -> dict[str, str]:
    """Headers by which no browser shows the content as a page of ours."""
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


ROUTES = [
    resource("/tasks/{task_id}/files", GET=files),
    resource("/tasks/{task_id}/files/{path:path}", GET=file),
]
