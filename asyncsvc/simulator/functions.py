"""Tool calls and structured answers: values made up from a JSON Schema.

Promises that equal schemas give equal values, that a value has every property that the schema
names, and that nothing is nested deeper than MOST_LEVELS. It knows nothing of HTTP or time.
"""

from typing import Any

import orjson

MOST_LEVELS = 8
PIECE_CHARS = 8
_PLAIN: dict[str, Any] = {
    "string": "simulated",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}


def sample(schema: object, level: int = 0) -> Any:
    """A value for a schema, as far as types, enums, defaults and properties tell it."""
    if not isinstance(schema, dict) or level > MOST_LEVELS:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list) and schema[name]:
            return sample(schema[name][0], level + 1)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "array":
        return [sample(schema.get("items"), level + 1)]
    if kind == "object":
        properties = schema.get("properties")
        named = properties if isinstance(properties, dict) else {}
        return {name: sample(each, level + 1) for name, each in named.items()}
    return _PLAIN.get(str(kind))


def calls_of(tools: list[tuple[str, Any]], count: int, label: str) -> list[dict[str, Any]]:
    """So many calls, of each tool in turn."""
    return [
        {
            "id": f"call_sim_{label}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": orjson.dumps(sample(schema)).decode()},
        }
        for index in range(count)
        for name, schema in [tools[index % len(tools)]]
    ]


def pieces(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls as a provider streams them: id and name first, then the arguments bit by bit."""
    found = []
    for index, call in enumerate(calls):
        function = call["function"]
        opening = {"name": function["name"], "arguments": ""}
        found.append({"index": index, "id": call["id"], "type": "function", "function": opening})
        text = function["arguments"]
        for start in range(0, len(text), PIECE_CHARS):
            piece = {"arguments": text[start : start + PIECE_CHARS]}
            found.append({"index": index, "function": piece})
    return found
