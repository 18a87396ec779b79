"""The OpenAPI and the AsyncAPI document, for tests that check answers and messages by them."""

import functools
import re
from collections.abc import Iterator
from typing import Any

import httpx
from jsonschema_rs import Draft7Validator, Draft202012Validator

from asyncsvc.web.openapi.asyncapi import asyncapi
from asyncsvc.web.openapi.document import document
from asyncsvc.web.routes import ROUTES

__all__ = ["ROUTES"]
UNROUTED = {"400", "401", "403", "404", "405"}
"""Statuses of a request for which there is no operation."""
VERBS = {"get", "post", "put", "patch", "delete"}


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, METHOD, operation) of every operation."""
    for path, entry in found["paths"].items():
        for verb in sorted(VERBS & entry.keys()):
            yield path, verb.upper(), entry[verb]


def closed(schema: Any) -> Any:
    """The schema, under which a field that it does not describe is a fault."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: closed(value) for name, value in schema.items()}
    if "properties" in schema and "title" in schema and "additionalProperties" not in schema:
        strict["additionalProperties"] = False
    return strict


def template(path: str, paths: dict[str, Any]) -> str | None:
    """The described path of a request; None: no route has it."""
    if path in paths:
        return path
    return next((p for p in paths if re.fullmatch(_pattern(p), path)), None)


def _pattern(described: str) -> str:
    """The paths of a template; `{path}` may have slashes."""
    return re.sub(r"\{\w+\}", "[^/]+", described.replace("{path}", ".+"))


@functools.cache
def strict() -> dict[str, Any]:
    """The document, in which an answer has no field that is not described."""
    found: dict[str, Any] = closed(document(ROUTES))
    return found


@functools.cache
def _validator(path: str, method: str, status: str) -> Draft202012Validator:
    """The validator of the JSON answers of an operation at a status."""
    content = strict()["paths"][path][method]["responses"][status]["content"]
    schema = content["application/json"]["schema"]
    return Draft202012Validator(schema | {"components": strict()["components"]})


async def as_described(answer: httpx.Response) -> None:
    """Check an answer against the document: an event hook of httpx. Raises AssertionError for a
    status, a media type or a JSON field that the operation does not declare."""
    method, status = answer.request.method.lower(), str(answer.status_code)
    path = template(answer.request.url.path, strict()["paths"])
    where = f"{method} {path} {status}"
    if method in ("head", "options") or status == "500":
        return
    if path is None or method not in strict()["paths"][path]:
        assert status in UNROUTED, where
        return
    responses = strict()["paths"][path][method]["responses"]
    assert status in responses, where
    content = responses[status].get("content", {})
    media = answer.headers.get("content-type", "").partition(";")[0]
    assert media in ([kind.partition(";")[0] for kind in content] or [""]), f"{where}: {media}"
    if media == "application/json":
        await answer.aread()
        errors = _validator(path, method, status).iter_errors(answer.json())
        faults = [error.message for error in errors]
        assert not faults, f"{where}: {faults}"


@functools.cache
def _sent() -> dict[str, Draft7Validator]:
    """The validators of what a WebSocket sends, by the names of the messages."""
    found = asyncapi(ROUTES)["components"]
    strictly: dict[str, Any] = {"schemas": closed(found["schemas"])}
    payloads = {name: one["payload"] for name, one in found["messages"].items()}
    made = {name: Draft7Validator(one | {"components": strictly}) for name, one in payloads.items()}
    # An answer has `op` and `ref` beside the fields of its type, which are therefore open.
    answers = [one for name, one in payloads.items() if name.endswith("_answer")]
    return made | {"ok": Draft7Validator({"anyOf": answers, "components": found})}


def message_as_described(message: dict[str, Any]) -> None:
    """Check what a WebSocket has sent against the document. Raises AssertionError for a message, or
    a field of an event, that it does not declare."""
    name = message["op"] if "op" in message else f"event_{message['type']}"
    assert name in _sent(), f"{name} is not described"
    faults = [error.message for error in _sent()[name].iter_errors(message)]
    assert not faults, f"{message}: {faults}"
