"""The table of well-known parameters."""

from typing import Any

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers

from asyncsvc.errors import InvalidRequest
from asyncsvc.tasks import parameters
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http.errors import invalid
from asyncsvc.web.openai.requests import chat
from tests.upstreams import upstream

WRONG: list[tuple[str, list[Any]]] = [
    ("temperature", ["hot", "0.5", True, [], {}, -0.1]),
    ("top_p", ["x", 2, -1, 1.01]),
    ("max_tokens", [-1, 0, 1.5, 2.0, "5", True]),
    ("max_completion_tokens", [-1, "5", []]),
    ("stop", [5, [1], {}, [None]]),
    ("seed", ["x", 1.5, True]),
    ("response_format", ["json", [], {}, {"type": 5}, {"type": "json_schema", "json_schema": "x"}]),
    (
        "tools",
        [
            {},
            "x",
            ["x"],
            [{}],
            [{"type": "function"}],
            [{"type": "function", "function": {}}],
            [{"type": "function", "function": {"name": ""}}],
            [{"type": "function", "function": {"name": "f", "parameters": "x"}}],
        ],
    ),
    ("tool_choice", [5, {}, True, [], ""]),
    ("parallel_tool_calls", ["yes", 1]),
    ("logit_bias", [[], {"50": "x"}, "x"]),
    ("frequency_penalty", ["x", True]),
    ("presence_penalty", ["x", []]),
    ("reasoning_effort", [5, {}, ""]),
]
CASES = [(name, value) for name, values in WRONG for value in values]
RIGHT = {
    "temperature": 3,
    "top_p": 0,
    "max_tokens": 1,
    "stop": ["a", "b"],
    "seed": -7,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "web_search", "x": 1}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "logit_bias": {"50": -100},
    "top_k": -1,
    "my_own": {"anything": [1]},
}


def refusal(params: dict[str, Any], **task: Any) -> InvalidRequest:
    """Why `POST /tasks` does not take them."""
    with pytest.raises(ValidationError) as found:
        Submission.model_validate({"content": "x", "params": params} | task)
    return invalid(found.value)


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_a_wrong_parameter_of_a_task_is_named(name: str, value: Any) -> None:
    error = refusal({"seed": 1, name: value})
    assert error.param == f"params.{name}"
    assert str(error).startswith(f"params.{name}: must be ")


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_a_wrong_parameter_of_an_openai_request_is_named(name: str, value: Any) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], name: value}
    with pytest.raises(InvalidRequest) as found:
        chat(body, Headers())
    # A fault inside of a tool names its place: tools[0].function.name.
    assert (found.value.param or "").startswith(name)


@pytest.mark.parametrize("name", ["dimensions", "encoding_format", "input_type"])
def test_parameters_of_embeddings_are_in_the_table(name: str) -> None:
    task = {"type": "embedding", "content": None, "input": "x"}
    assert refusal({name: -1}, **task).param == f"params.{name}"


def test_right_and_unknown_parameters_pass_as_they_are() -> None:
    assert Submission.model_validate({"content": "x", "params": RIGHT}).params == RIGHT


@pytest.mark.parametrize("name", [*parameters.Parameters.model_fields, "stream", "model"])
def test_null_is_a_parameter_that_was_not_given(name: str) -> None:
    asked = {name: None}
    assert Submission.model_validate({"content": "x", "params": asked}).params == asked
    account = upstream()
    assert account.chat_body([], asked) == account.chat_body([], {})
    assert account.embedding_body("x", asked) == account.embedding_body("x", {})
    assert account.warnings(asked) == []


def test_a_list_of_no_tools_is_not_sent() -> None:
    body = upstream().chat_body([], {"tools": [], "tool_choice": "auto"})
    assert not {"tools", "tool_choice"} & body.keys()


@pytest.mark.parametrize("value", [2, 0, True, 1.0, "1"])
def test_one_task_has_one_answer(value: Any) -> None:
    assert "n must be 1" in str(refusal({"n": value}))


def test_the_schema_holds_no_references() -> None:
    assert "$ref" not in str(parameters.schema())
    assert parameters.schema().keys() == parameters.Parameters.model_fields.keys()
