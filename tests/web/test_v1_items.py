"""From items to chat messages, and what cannot be one."""

from typing import Any

import pytest

from asyncsvc.errors import InvalidRequest
from asyncsvc.web.v1.items import chat_messages, input_items, listed
from asyncsvc.web.v1.response_request import Asked, read

CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def asked(**fields: Any) -> Asked:
    return read({"model": "m", "input": "x"} | fields, [])


def test_parts_become_parts() -> None:
    audio = {"data": "AA==", "format": "wav"}
    given = user(
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "http://i", "detail": "low"},
        {"type": "input_image", "image_url": "http://j"},
        {"type": "input_audio", "input_audio": audio},
        {"type": "input_file", "file_data": "data:,x", "filename": "x.txt"},
    )
    assert chat_messages([given]) == [
        user(
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "http://i", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "http://j"}},
            {"type": "input_audio", "input_audio": audio},
            {"type": "file", "file": {"file_data": "data:,x", "filename": "x.txt"}},
        )
    ]


def test_calls_that_follow_each_other_are_one_message() -> None:
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "n"}],
    }
    output = {"type": "function_call_output", "call_id": "c", "output": "o"}
    parts = output | {"output": [{"type": "input_text", "text": "p"}]}
    thought = {"type": "reasoning", "summary": []}
    assert chat_messages([thought, CALL, CALL, output, said, CALL, parts]) == [
        {"role": "assistant", "content": None, "tool_calls": [CALLED, CALLED]},
        {"role": "tool", "tool_call_id": "c", "content": "o"},
        {"role": "assistant", "content": "n", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c", "content": "p"},
    ]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ("x", "input[0]"),
        ({"role": "user", "content": 1}, "input[0].content"),
        (user(), "input[0].content"),
        (user("x"), "input[0].content[0]"),
        (user({"type": "input_text", "text": 1}), "input[0].content[0]"),
        (CALL | {"name": None}, "input[0].name"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "c", "output": 1}, "input[0].output"),
        ({"type": ["x"]}, "input[0].type"),
    ],
)
def test_what_is_no_item_is_named(item: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_messages([item])
    assert refused.value.param == param


def test_parameters_have_the_names_of_the_chat_call() -> None:
    function: Any = {"type": "function", "name": "f", "description": None, "parameters": {}}
    schema = {"type": "json_schema", "name": "s", "schema": {}, "strict": True, "description": None}
    params = asked(
        temperature=0.5,
        max_output_tokens=7,
        tools=[function],
        tool_choice={"type": "function", "name": "f"},
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "low"},
        user="u",
    ).params
    assert params == {
        "temperature": 0.5,
        "max_tokens": 7,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {}, "strict": True},
        },
        "reasoning_effort": "low",
    }
    assert asked(text={"format": {"type": "json_object"}}).params == {
        "response_format": {"type": "json_object"}
    }
    assert asked(text={"format": {"type": "text"}}, reasoning={}).params == {}
    assert asked(tool_choice="none").params == {"tool_choice": "none"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": ""}]}, "tools[0]"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"text": {"format": []}}, None),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": "json"}}, "text.format"),
    ],
)
def test_a_wrong_parameter_is_named(fields: Any, param: str | None) -> None:
    if param is None:
        assert asked(**fields).params == {}
        return
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields).params
    assert refused.value.param == param


def test_items_are_shown_with_ids() -> None:
    request = {"input": [{"role": "assistant", "content": "a"}, CALL, user({"type": "x"})]}
    shown = input_items(request, "t")
    assert [item["id"] for item in shown] == ["msg_t_in0", "item_t_in1", "msg_t_in2"]
    assert shown[0]["content"] == [{"type": "output_text", "text": "a", "annotations": []}]
    assert shown[2]["content"] == [{"type": "x"}]
    assert input_items({"input": "a"}, "t")[0]["content"] == [{"type": "input_text", "text": "a"}]


def test_a_list_is_given_in_pages() -> None:
    found: list[dict[str, Any]] = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert listed(found, "a", 1)["data"] == [{"id": "b"}]
    assert listed(found, "c", 1) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    with pytest.raises(InvalidRequest):
        listed(found, "d", 1)
