"""The service's description of itself, for the tests that hold answers against it."""

import re
from collections.abc import Iterator
from typing import Any

from asyncsvc.web.routes import ROUTES

__all__ = ["ROUTES"]
VERBS = {"get", "post", "put", "patch", "delete"}


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, METHOD, what is said of it)"""
    for path, entry in found["paths"].items():
        for verb in VERBS & entry.keys():
            yield path, verb.upper(), entry[verb]


def closed(schema: Any) -> Any:
    """The same, but what is not described is wrong: nothing may be answered that is not told."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: closed(value) for name, value in schema.items()}
    if "properties" in schema and "title" in schema and "additionalProperties" not in schema:
        strict["additionalProperties"] = False
    return strict


def template(path: str, paths: dict[str, Any]) -> str:
    """The described path that is meant."""
    if path in paths:
        return path
    return next(p for p in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), path))
