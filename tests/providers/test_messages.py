"""Messages as they are sent to a provider."""

from copy import deepcopy
from typing import Any

import pytest

from asyncsvc.providers.dialects import PLAIN, PRESETS, Preset
from asyncsvc.providers.upstream import sendable

Message = dict[str, Any]
OPENAI, STRINGS = PRESETS["openai"], Preset(join_text=True)
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def sent(message: Message, preset: Preset = PLAIN) -> Message:
    before = deepcopy(message)
    (found,) = sendable([message], preset)
    assert message == before, "what the client sent stays as it was"
    return found


@pytest.mark.parametrize(
    ("preset", "role"),
    [
        (OPENAI, "developer"),
        *((p, "system") for n, p in PRESETS.items() if not p.acts and n != "openai"),
    ],
)
def test_a_developer_is_the_system_but_where_the_role_is_known(preset: Preset, role: str) -> None:
    assert sent({"role": "developer", "content": "x"}, preset)["role"] == role
    assert sent({"role": "user", "content": "x"}, preset)["role"] == "user"


def test_an_unknown_provider_gets_a_system_message_for_a_developer() -> None:
    assert sent({"role": "developer", "content": "x"}) == {"role": "system", "content": "x"}


@pytest.mark.parametrize(
    "name", ["refusal", "audio", "function_call", "tool_calls", "annotations", "name", "reasoning"]
)
@pytest.mark.parametrize("preset", [PLAIN, OPENAI])
def test_null_fields_of_a_message_are_left_out(name: str, preset: Preset) -> None:
    message = {"role": "assistant", "content": "Hi", name: None}
    assert sent(message, preset) == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("name", ["tool_calls", "annotations", "images"])
def test_empty_lists_of_a_message_are_left_out(name: str) -> None:
    message = {"role": "assistant", "content": "Hi", name: []}
    assert sent(message) == {"role": "assistant", "content": "Hi"}


def test_null_content_stays_beside_tool_calls_and_is_a_string_elsewhere() -> None:
    assert sent({"role": "assistant", "content": None, "tool_calls": [CALL]})["content"] is None
    assert "content" not in sent({"role": "assistant", "tool_calls": [CALL]})
    for role in ("user", "system", "assistant", "tool"):
        assert sent({"role": role, "content": None, "tool_calls": None})["content"] == ""


def test_null_fields_of_calls_and_parts_are_left_out() -> None:
    call = CALL | {"index": None, "function": {"name": "f", "arguments": "{}", "strict": None}}
    image = {"type": "image_url", "image_url": {"url": "u", "detail": None}, "cache_control": None}
    found = sent({"role": "assistant", "content": [image], "tool_calls": [call]})
    assert found["tool_calls"] == [CALL]
    assert found["content"] == [{"type": "image_url", "image_url": {"url": "u"}}]


def test_what_a_later_turn_needs_passes_unchanged() -> None:
    signed = CALL | {"extra_content": {"google": {"thought_signature": "s", "x": None}}}
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [signed],
        "reasoning_content": "hm",
        "reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": None}],
    }
    assert sent(message) == message
    assert sent(message, PRESETS["openrouter"]) == message


@pytest.mark.parametrize("name", ["openai", "deepseek", "nvidia", "zhipu"])
def test_a_strict_provider_is_spared_the_signatures_of_others(name: str) -> None:
    signed = CALL | {"extra_content": {"google": {"thought_signature": "s"}}, "index": 0}
    message = {
        "role": "assistant",
        "content": "x",
        "tool_calls": [signed],
        "reasoning_details": [{"text": "hm"}],
    }
    found = sent(message, PRESETS[name])
    assert found == {"role": "assistant", "content": "x", "tool_calls": [CALL]}


def test_the_name_of_a_function_is_no_name_of_a_message() -> None:
    found = sent({"role": "assistant", "content": "x", "tool_calls": [CALL]}, PRESETS["zhipu"])
    assert found["tool_calls"][0]["function"]["name"] == "f"


def test_text_parts_are_joined_where_content_must_be_a_string() -> None:
    assert sent({"role": "user", "content": TEXTS}, STRINGS)["content"] == "a\nb"
    assert sent({"role": "user", "content": []}, STRINGS)["content"] == ""
    assert sent({"role": "user", "content": TEXTS}, OPENAI)["content"] == TEXTS


def test_parts_that_are_more_than_text_are_never_lost() -> None:
    image = {"type": "image_url", "image_url": {"url": "u"}}
    assert sent({"role": "user", "content": [*TEXTS, image]}, STRINGS)["content"] == [*TEXTS, image]


@pytest.mark.parametrize("content", [["x", 1, None], [{"text": 5}], [{"type": "text"}]])
def test_odd_parts_pass_as_they_are(content: list[Any]) -> None:
    assert len(sent({"role": "user", "content": content}, STRINGS)["content"]) == len(content)


@pytest.mark.parametrize("calls", ["x", [1], [{"function": "f"}], {"a": 1}])
def test_odd_tool_calls_pass_as_they_are(calls: Any) -> None:
    assert sent({"role": "assistant", "content": "", "tool_calls": calls})["tool_calls"] == calls


@pytest.mark.parametrize("name", ["deepseek", "zhipu", "nvidia"])
def test_functions_of_the_older_way_become_tools(name: str) -> None:
    call = {"name": "f", "arguments": "{}"}
    asked: list[Message] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "5"},
    ]
    _, called, result = sendable(asked, PRESETS[name])
    (tool,) = called["tool_calls"]
    assert tool == {"id": result["tool_call_id"], "type": "function", "function": call}
    assert called.keys() == {"role", "content", "tool_calls"}
    assert result == {"role": "tool", "tool_call_id": tool["id"], "content": "5"}
    assert sendable(asked, OPENAI) == asked


def test_a_result_without_a_call_goes_as_it_is() -> None:
    message = {"role": "function", "name": "f", "content": "5"}
    assert sent(message, STRINGS) == message


@pytest.mark.parametrize("name", [["f"], None, {}])
def test_odd_names_of_functions_are_no_fault_of_the_service(name: Any) -> None:
    call = {"role": "assistant", "content": "", "function_call": {"name": name}}
    assert len(sendable([call, {"role": "function", "name": name, "content": ""}], PLAIN)) == 2
