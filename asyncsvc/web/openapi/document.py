"""The OpenAPI 3.1 document, from the routes and their declared `Operation`s.

Every method of every `Resource` is in it, declared or not. `routes` imports this module when a
client first asks for the document: a submit has no use for it.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.routing import BaseRoute

from asyncsvc import __version__
from asyncsvc.access import Permission
from asyncsvc.errors import ProviderError, RequestError, Unexplained
from asyncsvc.web.http.auth import READS
from asyncsvc.web.http.resources import JSON_MEDIA, Operation, Resource, declared
from asyncsvc.web.openapi.error_codes import REQUEST_CODES, TASK_CODES
from asyncsvc.web.openapi.json_schemas import Schemas
from asyncsvc.web.openapi.words import words
from asyncsvc.web.tasks.schemas import Refusal

STREAM_MEDIA = "text/event-stream"

SERVICE = frozenset(
    {
        "", "health", "livez", "readyz", "metrics", "openapi.json", "asyncapi.json", "docs", "page",
    }
)  # fmt: skip
"""First segments of paths that are about the service itself."""
OWN_CODES = {
    "illegal_transition": 409,
    "idempotency_conflict": 409,
    "forbidden_origin": 403,
    "forbidden_host": 403,
    "forbidden_scope": 403,
}
"""Codes that their classes are given when they are raised."""
ALWAYS = ("forbidden_host", "overloaded")
WITH_BODY = ("invalid_json", "task_too_large", "unsupported_encoding", "invalid_request")
GIVEN = {
    401: {"WWW-Authenticate": "`Bearer`"},
    429: {"Retry-After": "seconds"},
    503: {"Retry-After": "seconds"},
}
"""Headers of refusals."""
TAGS = {
    "tasks": "Submit, read, follow and steer tasks.",
    "v1": "OpenAI's API, on the same queue.",
    "models": "The models of the settings, and what they can take now.",
    "schedules": "Tasks that come again and again.",
    "tools": "The tools of agents, and single calls of them.",
    "route": "How a task would be routed.",
    "stats": "Figures of the whole service over time.",
    "settings": "The settings in force.",
    "admin": "Reloading the settings, backups, exports and imports.",
    "service": "Health, metrics and this description.",
}
"""What is behind the first segment of a path."""
ABOUT = """\
Durable tasks for language models: submit, follow, steer.

JSON in and out, UTF-8; times are RFC 3339 in UTC. Every error has one shape and a stable `code`.
Where tokens are set, all but the open paths need `Authorization: Bearer`. A token is never taken
from a URL. `x-scope` is the scope that an operation needs: `read`, `submit` or `admin`. A client
without `admin` finds only what it has submitted; all else is answered as what does not exist.

Two WebSockets stream what happens: `GET /ws/tasks/{task_id}?after=SEQ` one task, `GET /ws` any
number of tasks or all; their messages are described at `/asyncapi.json`. `OPTIONS` tells a path's
methods, `HEAD` goes wherever `GET` goes.
"""


@dataclass(frozen=True, slots=True)
class Served:
    """One method of one path."""

    path: str
    method: str
    function: Callable[..., Any]
    operation: Operation

    @property
    def tag(self) -> str:
        first = self.path.split("/")[1]
        return "service" if first in SERVICE else first

    @property
    def id(self) -> str:
        """The name of the operation for generated clients; unique in the document."""
        return f"{self.tag}_{self.function.__name__.strip('_')}"

    @property
    def words(self) -> tuple[str, str]:
        """(summary, description) of the function."""
        return words(self.method, self.function, self.id)


def _declared(function: Callable[..., Any]) -> Operation:
    found = declared(function)
    assert found is not None  # no resource is made without
    return found


def served(routes: Iterable[BaseRoute]) -> Iterator[Served]:
    """All methods of all resources."""
    for route in routes:
        if isinstance(route, Resource):
            for method, function in route.verbs.items():
                yield Served(route.path_format, method, function, _declared(function))


def statuses() -> dict[str, int]:
    """The status of each code of a refusal."""
    found = dict(OWN_CODES)
    kinds = RequestError.__subclasses__()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.code != "internal":
            found[kind.code] = kind.status
    return found


def _request_codes(all_served: Iterable[Served]) -> list[dict[str, Any]]:
    """Each code of a refusal with its status and meaning, those of `/v1` for failed tasks among
    them. Raises KeyError for one without."""
    known = statuses()
    for one in all_served:
        for status, codes in one.operation.fails.items():
            known |= {code: status for code in codes if code not in known}
    meanings = TASK_CODES | REQUEST_CODES
    found = sorted(known.items(), key=lambda one: (one[1], one[0]))
    return [{"code": c, "status": status, "meaning": meanings[c]} for c, status in found]


def _task_codes() -> list[dict[str, Any]]:
    """Each code of a failed task with its meaning. Raises KeyError for one without."""
    kinds, found = ProviderError.__subclasses__(), dict[str, bool]()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind is not Unexplained:
            found[kind.code] = found.get(kind.code, False) or kind.retryable
    return [
        {"code": code, "retryable": found[code], "meaning": TASK_CODES[code]}
        for code in sorted(found)
    ]


def _place(tag: str) -> tuple[int, str]:
    """Tags as `TAGS` has them, then others by name."""
    return ([*TAGS, tag].index(tag), tag)


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The document of these routes. Raises KeyError for a declared code that does not exist."""
    all_served = list(served(routes))
    types = _schemas(all_served)
    ways = _links(all_served)
    paths: dict[str, dict[str, Any]] = {}
    for one in all_served:
        entry = paths.setdefault(one.path, {})
        if named := _path_parameters(one):
            entry["parameters"] = named
        entry[one.method.lower()] = _operation(one, types, ways)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asyncsvc",
            "version": __version__,
            "description": ABOUT,
            "contact": {"name": "asyncsvc"},
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "tags": [
            {"name": name, "description": TAGS.get(name, f"Operations on {name}.")}
            for name in sorted({one.tag for one in all_served}, key=_place)
        ],
        "paths": paths,
        "x-error-codes": _request_codes(all_served),
        "x-task-error-codes": _task_codes(),
        "components": {
            "schemas": types.named(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "one of the service's tokens, where it has any",
                }
            },
        },
    }


def _schemas(all_served: Iterable[Served]) -> Schemas:
    """The schemas of all types that the operations declare."""
    specs = [one.operation for one in all_served]
    lists = [kind for spec in specs for kind in (spec.query, spec.headers) if kind]
    kinds = [kind for spec in specs for kind in (spec.answer, spec.body) if kind]
    return Schemas([Refusal, *kinds], lists)


def _operation(one: Served, types: Schemas, ways: dict[str, Any]) -> dict[str, Any]:
    summary, description = one.words
    spec = one.operation
    entry: dict[str, Any] = {"operationId": one.id, "tags": [one.tag], "summary": summary}
    if description:
        entry["description"] = description
    if spec.scope is Permission.OPEN:
        entry["security"] = []
    else:
        entry["x-scope"] = spec.scope.value
    parameters = [
        *_parameters(spec.query, "query", types),
        *_parameters(spec.headers, "header", types),
    ]
    if parameters:
        entry["parameters"] = parameters
    if spec.upload is not None:
        entry["x-upload"] = spec.upload
    if spec.body is not None:
        content: dict[str, Any] = {"schema": types.of(spec.body)}
        if spec.example is not None:
            content["example"] = spec.example
        entry["requestBody"] = {
            "required": spec.needs_body,
            "content": {spec.takes: content},
        }
    entry["responses"] = _answers(one, types, ways)
    return entry


def _path_parameters(one: Served) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in one.path.split("/") if part[:1] == "{"]
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    return [{"name": n, "in": "path", "required": True, "schema": schema} for n in names]


def _parameters(kind: Any, place: str, types: Schemas) -> list[dict[str, Any]]:
    if kind is None:
        return []
    found = []
    for name, field in types.fields(kind).items():
        schema = {k: v for k, v in field.items() if k not in ("title", "description")}
        entry = {"name": name, "in": place, "required": False, "schema": schema}
        if "description" in field:
            entry["description"] = field["description"]
        found.append(entry)
    return found


def _answers(one: Served, types: Schemas, ways: dict[str, Any]) -> dict[str, Any]:
    spec = one.operation
    answers: dict[int, dict[str, Any]] = {}
    meaning = (
        (inspect.getdoc(spec.answer) or "").partition("\n")[0].rstrip(".")
        if _ours(spec.answer)
        else ""
    )
    first = answers[spec.status] = {"description": meaning or HTTPStatus(spec.status).phrase}
    if spec.answer is not None:
        # A stream's events have many shapes, which docs/protocol.md describes.
        first["content"] = {
            kind: {"schema": types.of(spec.answer)} if _shaped(kind, spec) else {}
            for kind in spec.media
        }
    if spec.gives:
        first["headers"] = {name: {"schema": {"type": "string"}} for name in spec.gives}
    if spec.status == 202 and "Location" in spec.gives:
        first["links"] = ways
    for status, why in spec.also.items():
        kept = {204: (), 304: ("headers",)}.get(status, ("content", "headers"))
        same = {name: first[name] for name in kept if name in first}
        answers[status] = {"description": why} | same
    for status, codes in sorted(_refusals(one).items()):
        _add_refusal(answers, status, codes, types)
    return {str(status): answers[status] for status in sorted(answers)}


def _refusals(one: Served) -> dict[int, list[str]]:
    """The error codes of an operation by their status."""
    spec = one.operation
    codes = [*ALWAYS, *spec.errors]
    codes += ["forbidden_origin"] if one.method not in READS else []
    codes += ["unauthorized", "forbidden_scope"] if spec.scope is not Permission.OPEN else []
    codes += WITH_BODY if spec.body is not None else []
    codes += ["invalid_request"] if spec.query or spec.headers else []
    known = statuses() | {"invalid_request": spec.invalid}
    found = {status: list(codes) for status, codes in spec.fails.items()}
    for code in dict.fromkeys(codes):
        listed = found.setdefault(known[code], [])
        listed += [] if code in listed else [code]
    return found


def _add_refusal(
    answers: dict[int, dict[str, Any]], status: int, codes: list[str], types: Schemas
) -> None:
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": sorted(codes)}}}}}
    schema = {"allOf": [types.of(Refusal), narrowed]}
    before = answers.get(status, {"description": ""})
    listed = ", ".join(f"`{code}`" for code in sorted(codes))
    answer = before | {
        "description": f"{before['description']}; or {listed}" if before["description"] else listed,
        "content": before.get("content", {}) | {JSON_MEDIA: {"schema": schema}},
    }
    if status in GIVEN:
        given = {
            n: {"description": d, "schema": {"type": "string"}} for n, d in GIVEN[status].items()
        }
        answer["headers"] = before.get("headers", {}) | given
    answers[status] = answer


def _links(all_served: Iterable[Served]) -> dict[str, Any]:
    """The links from an answer to the operations on its task."""
    return {
        one.id: {"operationId": one.id, "parameters": {"task_id": "$response.body#/task_id"}}
        for one in all_served
        if "{task_id}" in one.path
    }


def _shaped(media: str, spec: Operation) -> bool:
    """Whether an answer of that media type is of the declared type: a page beside JSON is not."""
    beside = media != JSON_MEDIA and JSON_MEDIA in spec.media
    return media != STREAM_MEDIA and not beside


def _ours(kind: Any) -> bool:
    """Whether a type has a docstring of ours, unlike `str` or an Annotated."""
    return isinstance(kind, type) and kind.__module__.startswith("asyncsvc.")
