"""Error responses: the mapping from exceptions to HTTP statuses and one JSON shape.

A client's mistake is never answered with 500, and no response has a traceback.
"""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asyncsvc.errors import (
    Conflict,
    DatabaseDamaged,
    IllegalTransition,
    InvalidRequest,
    NotFound,
    Overloaded,
    ReadRefused,
    RequestError,
    StorageUnavailable,
    UnsupportedEncoding,
)
from asyncsvc.storage import refusals
from asyncsvc.tasks.unknown_fields import TASK, meant

log = logging.getLogger(__name__)

STORAGE_RETRY_S = 5.0
NAME_SHOWN = 80
"""Characters of a client's unknown name that its error repeats."""


class _Internal(RequestError):
    status, type = 500, "server_error"


class JSON(Response):
    """A JSON answer, by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def as_request_error(error: Exception) -> RequestError | None:
    """The answer to a client for an error that has one."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, IllegalTransition):
        return Conflict("illegal_transition", str(error))
    if isinstance(error, StorageUnavailable):
        return _storage(error)
    if isinstance(error, MemoryError):
        return Overloaded("there is no memory left for this", retry_after=STORAGE_RETRY_S)
    if isinstance(error, ValidationError):
        return invalid(error)
    return None


def _storage(error: StorageUnavailable) -> Overloaded:
    """Damage does not pass by itself, so no Retry-After is given."""
    if isinstance(error, DatabaseDamaged):
        return Overloaded(f"{error}; {refusals.REMEDY}")
    done = "" if isinstance(error, ReadRefused) else "nothing was stored: "
    return Overloaded(f"{done}{error}", retry_after=STORAGE_RETRY_S)


def note(scope: Scope, error: Exception) -> None:
    """Record damage of the database that a request found."""
    if isinstance(error, DatabaseDamaged):
        scope["state"]["services"].journal.store.upkeep.note(error)


def check_names(given: Iterable[str], known: Iterable[str], kind: str) -> None:
    """Raises InvalidRequest for a given name that is not known; `kind` is what the known ones
    are, such as "field of a batch"."""
    known = tuple(known)
    if unknown := set(given).difference(known):
        raise unknown_name(min(unknown), known, kind)


def unknown_name(name: str, known: Iterable[str], kind: str, prefix: str = "") -> InvalidRequest:
    """The answer to a name that does not exist, with what may have been meant by it."""
    name = name[:NAME_SHOWN]
    param = f"{prefix}{name}"
    return InvalidRequest(f"{param!r} is not a {kind}{meant(name, known, kind)}", param=param)


def check_query(
    query: QueryParams, known: Iterable[str], kind: str | None, lists: Collection[str] = ()
) -> None:
    """Raises InvalidRequest for a parameter of a query that is not known (`kind` None: it is
    ignored), and for a known one that is given several times, unless it is one of `lists`."""
    known = tuple(known)
    if kind is not None:
        check_names(query, known, kind)
    given = Counter(name for name, _ in query.multi_items())
    for name in known:
        if given[name] > 1 and name not in lists:
            raise InvalidRequest(f"{name} is given {given[name]} times; give it once", param=name)


def invalid(
    error: ValidationError, prefix: str = "", known: Iterable[str] = (), kind: str = TASK
) -> InvalidRequest:
    """The first fault of a body, in words, with the field that it is about; `known` are the fields
    that there are."""
    fault = error.errors(include_url=False)[0]
    # What follows the field in `loc` is pydantic's own: the arm of a union, an index.
    param = fault.get("ctx", {}).get("param") or str(fault["loc"][0] if fault["loc"] else "")
    if fault["type"] == "extra_forbidden":
        return unknown_name(param, known, kind, prefix)
    text = fault["msg"].removeprefix("Value error, ")
    message = f"{param}: {text[:1].lower()}{text[1:]}"
    return InvalidRequest(f"{prefix}{message}", param=f"{prefix}{param}" or None)


def response(error: RequestError) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, UnsupportedEncoding):
        headers["Accept-Encoding"] = "gzip, deflate"
    return JSON(error.body(), status_code=error.status, headers=headers)


def answer(scope: Scope, error: Exception) -> Response:
    """The response to a request whose function raised an exception; 500 for an unknown one."""
    note(scope, error)
    known = as_request_error(error)
    return fault(scope["method"], scope["path"], error) if known is None else response(known)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application: the 404 of a path that no route has."""
    await response(NotFound(f"there is nothing at {scope['path']}"))(scope, receive, send)


def fault(method: str, path: str, error: Exception) -> Response:
    """The 500 response to an exception of the service; its traceback goes to the log."""
    fields = {"method": method, "path": path}
    log.error("a fault of ours at %s %s", method, path, exc_info=error, extra=fields)
    return response(_Internal("a fault of the service; its log says more"))
