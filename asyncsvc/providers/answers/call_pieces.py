"""One piece of a tool call, read into values of the right types.

Owns the spellings of an index, an id and arguments. Promises that no shape raises. Never knows the
calls that came before.
"""

from dataclasses import dataclass
from typing import Any

import orjson

Object = dict[str, Any]
KNOWN = frozenset({"index", "id", "type", "function"})
KNOWN_OF_FUNCTION = frozenset({"name", "arguments"})
CUSTOM = "custom"
"""The type of a custom tool's call. Each of its pieces says it; the input stands as arguments."""


@dataclass(slots=True)
class Piece:
    """One piece, with values of the right types."""

    index: int | None
    id: str | None
    type: str | None
    name: str
    arguments: str
    fields: Object
    function: Object

    @property
    def empty(self) -> bool:
        return not any((self.id, self.name, self.arguments, self.fields, self.function))


def read(given: Any) -> Piece | None:
    """The piece; None where it is no object."""
    if not isinstance(given, dict):
        return None
    given = _as_function(given)
    function = given.get("function")
    if not isinstance(function, dict):
        function = {}
    id_, kind, name = given.get("id"), given.get("type"), function.get("name")
    if isinstance(id_, int | float) and not isinstance(id_, bool):
        id_ = str(id_)
    arguments = function.get("arguments")
    return Piece(
        _index(given.get("index")),
        id_ if isinstance(id_, str) and id_ else None,
        kind if isinstance(kind, str) and kind else None,
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, str) else _json(arguments),
        {key: value for key, value in given.items() if key not in KNOWN and value is not None},
        {
            key: value
            for key, value in function.items()
            if key not in KNOWN_OF_FUNCTION and value is not None
        },
    )


def _as_function(given: Object) -> Object:
    """A custom tool's call with name and arguments, where it has name and input."""
    held = given.get(CUSTOM)
    if not isinstance(held, dict):
        return given
    rest = {name: value for name, value in given.items() if name != CUSTOM}
    function = {"name": held.get("name"), "arguments": held.get("input")}
    return rest | {"type": CUSTOM, "function": function}


def _index(value: Any) -> int | None:
    """A place in the provider's list, in any spelling; None where it is none."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.removeprefix("-").isdecimal() and len(value) < 10 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) < 1 << 31 else None


def _json(value: Any) -> str:
    """Arguments that came as an object."""
    try:
        return "" if value is None else orjson.dumps(value).decode()
    except TypeError:  # too deep for JSON
        return ""
