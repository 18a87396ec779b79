"""Values made up from a schema, and calls in pieces."""

from typing import Any

import pytest

from asyncsvc.simulator.functions import MOST_LEVELS, calls_of, pieces, sample


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "simulated"),
        ({"type": ["integer", "null"]}, 1),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"type": "string", "default": "d"}, "d"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        ({"properties": {"a": {"type": "null"}}}, {"a": None}),
        ({"properties": 3}, {}),
        ({"type": []}, None),
        (None, None),
    ],
)
def test_a_value_fits_its_schema(schema: Any, value: Any) -> None:
    assert sample(schema) == value


def test_a_schema_within_itself_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    value, depth = sample(schema), 0
    while value:
        value, depth = value["again"], depth + 1
    assert depth == MOST_LEVELS + 1


def test_calls_take_the_tools_in_turn_and_their_pieces_join() -> None:
    tools = [("f", {"properties": {"city": {"type": "string"}}}), ("g", None)]
    calls = calls_of(tools, 3, "x")
    assert [call["function"]["name"] for call in calls] == ["f", "g", "f"]
    assert len({call["id"] for call in calls}) == 3
    for index, call in enumerate(calls):
        parts = [p["function"] for p in pieces(calls) if p["index"] == index]
        assert parts[0]["name"] == call["function"]["name"]
        assert "".join(p["arguments"] for p in parts) == call["function"]["arguments"]
