"""The description as programs read it that make types and clients of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from asyncsvc.tasks.submission import OF_AGENTS
from asyncsvc.web.openapi.document import document
from tests.web.description import ROUTES, operations

APART = {"if", "then", "else", "not"}
"""Conditions: generators of types do not look at them."""


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


def schemas(value: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each schema of the document with its place."""
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from schemas(one, f"{where}/{index}")
    elif isinstance(value, dict):
        yield where, value
        for name, one in value.items():
            if name not in APART and name != "example":
                yield from schemas(one, f"{where}/{name}")


def kinds(schema: dict[str, Any]) -> list[Any]:
    kind = schema.get("type", [])
    return kind if isinstance(kind, list) else [kind]


def test_every_array_says_what_is_in_it(described: dict[str, Any]) -> None:
    bare = [place for place, one in schemas(described) if "array" in kinds(one)
            and not {"items", "prefixItems"} & one.keys()]  # fmt: skip
    assert bare == []


def test_no_field_has_a_default(described: dict[str, Any]) -> None:
    """A default makes a field of a request required in the types of TypeScript."""
    found = [place for place, one in schemas(described["components"]) if "default" in one
             and not isinstance(one["default"], dict)]  # fmt: skip
    assert found == []


def test_no_body_is_described_as_alternatives(described: dict[str, Any]) -> None:
    """A type is made of each alternative alone, and loses the fields that they share."""
    for path, method, one in operations(described):
        content = one.get("requestBody", {}).get("content", {})
        for media in content.values():
            name = media["schema"].get("$ref", "").rpartition("/")[2]
            body = described["components"]["schemas"].get(name, media["schema"])
            assert not {"oneOf", "anyOf"} & body.keys(), f"{method} {path}"


def test_it_has_a_license_a_contact_and_descriptions(described: dict[str, Any]) -> None:
    assert described["info"]["license"]["identifier"] == "Apache-2.0"
    assert described["info"]["contact"]
    assert all(tag["description"] for tag in described["tags"])
    for path, method, one in operations(described):
        assert one["description"], f"{method} {path}"


@pytest.mark.parametrize("name", ["ChatBody", "CompletionsBody", "CreateResponse"])
def test_further_parameters_are_allowed(described: dict[str, Any], name: str) -> None:
    assert described["components"]["schemas"][name]["additionalProperties"] is True


def test_what_a_response_always_has_is_required(described: dict[str, Any]) -> None:
    found = described["components"]["schemas"]
    for name in ("ResponseObject", "ResponseUsage", "Completion", "TextCompletion", "WholeTask"):
        schema = found[name]
        optional = schema["properties"].keys() - set(schema["required"])
        allowed = {"content", "messages", "input", "tool_calls", "message", "position", "eta_s"}
        allowed |= {*OF_AGENTS, "approval", "forked_from"}
        assert optional <= (allowed if name == "WholeTask" else set()), name


BODIES: list[tuple[str, dict[str, Any], bool]] = [
    ("ChatBody", {}, True),
    ("ChatBody", {"top_p": 0.5, "top_k": 4, "of_next_year": [1]}, True),
    ("ChatBody", {"temperature": None, "n": 1, "logprobs": False, "tool_choice": "auto"}, True),
    ("ChatBody", {"tool_choice": {}}, False),
    ("ChatBody", {"tool_choice": "maybe"}, False),
    ("ChatBody", {"tools": [{}]}, False),
    ("ChatBody", {"temperature": "hot"}, False),
    ("ChatBody", {"max_tokens": 0}, False),
    ("ChatBody", {"seed": 1 << 64}, False),
    ("ChatBody", {"n": 2}, False),
    ("ChatBody", {"logprobs": True}, False),
    ("ChatBody", {"conversation": "c"}, False),
    ("ChatBody", {"model": ""}, False),
    ("ChatBody", {"messages": []}, False),
    ("CreateResponse", {}, True),
    ("CreateResponse", {"input": [{"role": "user", "content": "x"}], "seed": 1}, True),
    ("CreateResponse", {"input": ""}, False),
    ("CreateResponse", {"input": []}, False),
    ("CreateResponse", {"tool_choice": {}}, False),
    ("CreateResponse", {"tools": [{}]}, False),
    ("CreateResponse", {"max_output_tokens": 0}, False),
    ("CreateResponse", {"prompt": {"id": "p"}}, False),
    ("CompletionsBody", {}, True),
    ("CompletionsBody", {"prompt": ["a", "b"], "echo": True}, True),
    ("CompletionsBody", {"prompt": ""}, False),
    ("CompletionsBody", {"prompt": [1, 2]}, False),
]
LEAST: dict[str, dict[str, Any]] = {
    "ChatBody": {"model": "auto", "messages": [{"role": "user", "content": "x"}]},
    "CreateResponse": {"model": "auto", "input": "x"},
    "CompletionsBody": {"model": "auto", "prompt": "x"},
}


@pytest.mark.parametrize(("name", "more", "allowed"), BODIES, ids=str)
def test_refused_bodies_are_described(
    described: dict[str, Any], name: str, more: dict[str, Any], allowed: bool
) -> None:
    where = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    assert Draft202012Validator(where).is_valid(LEAST[name] | more) == allowed
