"""From items to chat messages, and what cannot be one."""

import json
from typing import Any

import pytest

from asyncsvc.errors import InvalidRequest
from asyncsvc.web.openai.items import conversation, input_items, sealed
from asyncsvc.web.openai.response_request import ParsedResponse, read
from asyncsvc.web.openai.schemas import listed

CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat_messages(items: list[Any]) -> list[dict[str, Any]]:
    return conversation(items).messages


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def user_says(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def asked(**fields: Any) -> ParsedResponse:
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
    message = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "n"}],
    }
    output = {"type": "function_call_output", "call_id": "c", "output": "o"}
    parts = output | {"output": [{"type": "input_text", "text": "p"}]}
    thought = {"type": "reasoning", "summary": []}
    assert chat_messages([thought, CALL, CALL, output, message, CALL, parts]) == [
        {"role": "assistant", "content": None, "tool_calls": [CALLED, CALLED]},
        {"role": "tool", "tool_call_id": "c", "content": "o"},
        {"role": "assistant", "content": "n", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c", "content": "p"},
    ]


def test_an_output_stands_behind_its_call_whatever_came_between() -> None:
    second = CALL | {"call_id": "d"}
    items = [
        user_says("q"),
        CALL,
        second,
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        user_says("wait"),
        {"type": "function_call_output", "call_id": "d", "output": "2"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ]
    assert chat_messages(items) == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "t", "tool_calls": [CALLED, CALLED | {"id": "d"}]},
        {"role": "tool", "tool_call_id": "d", "content": "2"},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "user", "content": "wait"},
    ]


def test_an_image_of_an_output_is_shown_behind_the_outputs() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    second = CALL | {"call_id": "d"}
    outputs = [
        {"type": "function_call_output", "call_id": "c", "output": [picture]},
        {"type": "function_call_output", "call_id": "d", "output": [
            {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
    ]  # fmt: skip
    _, first, other, shown = chat_messages([CALL, second, *outputs])
    assert first["content"]
    assert other["content"] == "a\nb"
    image = {"url": "data:image/png;base64,AA==", "detail": "low"}
    assert shown == user({"type": "image_url", "image_url": image})


SHELL = {"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "status": "completed",
         "action": {"type": "exec", "command": ["ls"], "env": {}}}  # fmt: skip
PATCH = {"type": "apply_patch_call", "call_id": "c", "status": "completed",
         "operation": {"type": "delete_file", "path": "x"}}  # fmt: skip


@pytest.mark.parametrize(
    ("items", "name", "arguments", "output"),
    [
        ([SHELL, {"type": "local_shell_call_output", "id": "lsh_1", "output": "o"}],
         "local_shell", SHELL["action"], "o"),
        ([SHELL, {"type": "local_shell_call_output", "call_id": "c", "output": "o"}],
         "local_shell", SHELL["action"], "o"),
        ([{"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
          {"type": "shell_call_output", "call_id": "c",
           "output": [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]}],
         "shell", {"commands": ["ls"]},
         '[{"stdout":"x","stderr":"","outcome":{"type":"exit","exit_code":0}}]'),
        ([PATCH, {"type": "apply_patch_call_output", "call_id": "c", "status": "failed"}],
         "apply_patch", PATCH["operation"], "failed"),
        ([{"type": "mcp_call", "id": "c", "server_label": "s", "name": "f", "arguments": "{}",
           "output": "o"}], "f", {}, "o"),
    ],
)  # fmt: skip
def test_calls_of_other_tools_are_calls(items: Any, name: str, arguments: Any, output: str) -> None:
    message, answer = chat_messages(items)
    [call] = message["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        name,
        arguments,
    )
    assert answer == {"role": "tool", "tool_call_id": call["id"], "content": output}


def test_a_screenshot_is_an_image() -> None:
    call = {"type": "computer_call", "call_id": "c", "action": {"type": "screenshot"}}
    output = {"type": "computer_call_output", "call_id": "c",
              "output": {"type": "computer_screenshot", "image_url": "data:,x"}}  # fmt: skip
    _, answer, shown = chat_messages([call, output])
    assert answer["role"] == "tool"
    assert shown == user({"type": "image_url", "image_url": {"url": "data:,x"}})


@pytest.mark.parametrize(
    "kind",
    ["web_search_call", "file_search_call", "image_generation_call", "code_interpreter_call",
     "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "compaction"],
)  # fmt: skip
def test_what_the_service_did_by_itself_is_left_out_with_a_note(kind: str) -> None:
    found = read({"model": "m", "input": [{"type": kind, "id": "x"}, user_says("q")]}, [])
    assert found.messages == [{"role": "user", "content": "q"}]
    assert any(kind in note for note in found.notes)


def test_fields_of_a_provider_go_back_to_the_call_that_they_came_with() -> None:
    signature = {"extra_content": {"google": {"thought_signature": "s"}}}
    item = CALL | signature | {"status": "completed", "caller": None, "namespace": "n"}
    [message] = chat_messages([item])
    function = {"name": "f", "arguments": "{}", "namespace": "n"}
    assert message["tool_calls"] == [CALLED | signature | {"function": function}]
    details = {"reasoning_details": [{"type": "x"}]}
    carried = {"type": "reasoning", "encrypted_content": sealed(details | {"content": "no"})}
    [message] = chat_messages([CALL, carried])
    assert message == details | {"role": "assistant", "content": None, "tool_calls": [CALLED]}


def test_instructions_may_be_items() -> None:
    found = asked(instructions=[{"role": "developer", "content": "a"}, user_says("b")])
    roles = [message["role"] for message in found.messages]
    assert (roles, found.request["head"]) == (["developer", "user", "user"], 2)
    assert conversation([]).messages == []


def test_an_assistant_may_have_said_nothing() -> None:
    nothing: list[Any] = [None, [], ""]
    for content in nothing:
        assert chat_messages([{"role": "assistant", "content": content}]) == [
            {"role": "assistant", "content": ""}
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
        asked(**fields)
    assert refused.value.param == param


def test_items_are_shown_with_ids() -> None:
    request = {"input": [{"role": "assistant", "content": "a"}, CALL, user({"type": "x"})]}
    shown = input_items(request, "t")
    assert [item["id"] for item in shown] == ["msg_t_in0", "item_t_in1", "msg_t_in2"]
    assert shown[0]["content"] == [{"type": "output_text", "text": "a", "annotations": []}]
    assert shown[2]["content"] == [{"type": "x"}]
    assert input_items({"input": "a"}, "t")[0]["content"] == [{"type": "input_text", "text": "a"}]


def test_a_list_is_given_in_pages() -> None:
    found: list[dict[str, Any]] = [{"id": "a"}, {"id": "b"}]
    page = {"object": "list", "data": [{"id": "a"}], "first_id": "a", "last_id": "a"}
    assert listed(found, 1) == page | {"has_more": True}
    empty: dict[str, Any] = {"data": [], "first_id": None, "last_id": None, "has_more": False}
    assert listed([], 1) == {"object": "list"} | empty
