"""Tools of other kinds than `function`: what a provider is sent, and how a call comes back."""

import json
from typing import Any

import pytest

from tests.clients.asking import chat, frames, respond, warnings
from tests.clients.scripted_provider import ScriptedProvider
from tests.web.serving import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATCH = '*** Begin Patch\n+a "quoted" line, caf\u00e9 \U0001f600\t\\end\n*** End Patch'
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'}
CUSTOM = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": GRAMMAR}
GROUP = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [
        {"type": "function", "name": "find", "description": "Finds one.", "parameters": {}},
        {"type": "custom", "name": "note"},
    ],
}
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}


def names(asked: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in asked.get("tools", [])]


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "as-it-is"])
async def test_a_custom_tool_is_a_function_there_and_a_custom_tool_again_here(
    service: Service, provider: ScriptedProvider, escaped: bool
) -> None:
    arguments = json.dumps({"input": PATCH}, ensure_ascii=escaped)
    provider.plan({"calls": [call("apply_patch", arguments)]})
    answer = await respond(service, input="x", tools=[CUSTOM], stream=True)
    [tool] = provider.asked[0]["tools"]
    assert tool["function"]["description"] == "Edits."
    schema = tool["function"]["parameters"]
    assert schema["required"] == ["input"]
    assert GRAMMAR["definition"] in schema["properties"]["input"]["description"]
    item = answer.item("custom_tool_call")
    assert (item["name"], item["input"], item["call_id"]) == ("apply_patch", PATCH, "call_1")
    deltas = answer.of("response.custom_tool_call_input.delta")
    assert "".join(event["delta"] for event in deltas) == PATCH
    [done] = answer.of("response.custom_tool_call_input.done")
    assert (done["input"], done["item_id"]) == (PATCH, item["id"])
    assert not answer.of("response.function_call_arguments.delta")


async def test_its_output_goes_back_with_the_next_turn(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan({"calls": [call("apply_patch", json.dumps({"input": PATCH}))]})
    first = await respond(service, input="x", tools=[CUSTOM])
    output = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"}
    for more in (
        {"input": [{"role": "user", "content": "x"}, *first.items, output]},
        {"input": [output], "previous_response_id": first.response["id"]},
    ):
        provider.plan({"text": "ok"})
        await respond(service, tools=[CUSTOM], **more)
        _, sent, result = provider.asked[0]["messages"]
        function = sent["tool_calls"][0]["function"]
        assert function["name"] == "apply_patch"
        assert json.loads(function["arguments"]) == {"input": PATCH}
        assert result == {"role": "tool", "tool_call_id": "call_1", "content": "done"}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ('{"patch": "text"}', "text"),
        ('{"input":"text"', "text"),
        ("text as it is", "text as it is"),
        ('"text"', "text"),
        ('{ "input" : "" }', ""),
        ('{"input": "a\\ud83d\\ude00b\\n"}', "a\U0001f600b\n"),
        ('{"input": "\\ud83d"}', "\ufffd"),
        ('{"input": {"a": 1}}', '{"input": {"a": 1}}'),
        ("{}", ""),
    ],
)
async def test_no_character_of_an_input_is_lost_where_a_model_is_careless(
    service: Service, provider: ScriptedProvider, arguments: str, wanted: str
) -> None:
    for stream in (False, True):
        provider.plan({"calls": [call("apply_patch", arguments)]})
        answer = await respond(service, input="x", tools=[CUSTOM], stream=stream)
        assert answer.item("custom_tool_call")["input"] == wanted


async def test_a_namespace_is_a_function_for_each_of_its_tools(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan(
        {"calls": [call("crm__find", '{"id": 1}'), call("crm__note", '{"input": "n"}', "call_2")]}
    )
    answer = await respond(service, input="x", tools=[GROUP, FUNCTION], stream=True)
    assert names(provider.asked[0]) == ["crm__find", "crm__note", "weather"]
    assert provider.asked[0]["tools"][0]["function"]["description"] == "Customers.\n\nFinds one."
    found, noted = answer.items
    assert (found["type"], found["name"], found["namespace"]) == ("function_call", "find", "crm")
    assert found["arguments"] == '{"id": 1}'
    assert (noted["type"], noted["name"], noted["namespace"]) == ("custom_tool_call", "note", "crm")
    assert noted["input"] == "n"
    provider.plan({"text": "ok"})
    outputs = [{"type": f"{one['type']}_output", "call_id": one["call_id"], "output": "o"}
               for one in answer.items]  # fmt: skip
    await respond(service, input=[*answer.items, *outputs], tools=[GROUP])
    calls = provider.asked[0]["messages"][0]["tool_calls"]
    assert [one["function"]["name"] for one in calls] == ["crm__find", "crm__note"]
    assert all("namespace" not in one["function"] for one in calls)


async def test_a_model_may_leave_the_namespace_out(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan({"calls": [call("find", "{}")]})
    answer = await respond(service, input="x", tools=[GROUP])
    assert answer.item("function_call")["namespace"] == "crm"
    provider.plan({"calls": [call("find", "{}")]})
    own = FUNCTION | {"name": "find"}
    answer = await respond(service, input="x", tools=[GROUP, own])
    assert "namespace" not in answer.item("function_call")


async def test_a_long_name_is_short_and_the_same_in_each_turn(
    service: Service, provider: ScriptedProvider
) -> None:
    tool = {"type": "function", "name": "n" * 60}
    group = {"type": "namespace", "name": "a.b/c", "tools": [tool]}
    provider.plan({"text": "ok"})
    await respond(service, input="x", tools=[group])
    [sent] = names(provider.asked[0])
    assert len(sent) <= 64
    assert set(sent) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    provider.plan({"calls": [call(sent, "{}")]}, {"text": "ok"})
    answer = await respond(service, input="x", tools=[group])
    item = answer.item("function_call")
    assert (item["name"], item["namespace"]) == ("n" * 60, "a.b/c")
    output = {"type": "function_call_output", "call_id": "call_1", "output": "o"}
    await respond(service, input=[item, output])
    assert provider.asked[1]["messages"][0]["tool_calls"][0]["function"]["name"] == sent


BUILTIN = [
    {"type": "web_search"},
    {"type": "web_search_preview"},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "image_generation"},
    {"type": "file_search", "vector_store_ids": ["v"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1},
    {"type": "mcp", "server_label": "s", "server_url": "http://s"},
    {"type": "tool_search"},
    {"type": "of_next_year"},
]


@pytest.mark.parametrize("tool", BUILTIN, ids=lambda tool: tool["type"])
async def test_a_tool_that_a_provider_does_not_take_is_left_out_with_a_warning(
    service: Service, provider: ScriptedProvider, tool: dict[str, Any]
) -> None:
    provider.plan({"text": "ok"}, {"text": "ok"})
    more = {"tool_choice": "auto", "parallel_tool_calls": True}
    answer = await respond(service, input="x", tools=[tool, FUNCTION], **more)
    assert names(provider.asked[0]) == ["weather"]
    assert provider.asked[0]["tool_choice"] == "auto"
    assert tool["type"] in await warnings(service, answer.task_id)
    await respond(service, input="x", tools=[tool], **more)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & provider.asked[1].keys()


async def test_the_chat_endpoint_takes_the_same_tools(
    service: Service, provider: ScriptedProvider
) -> None:
    custom = {"type": "custom", "custom": {"name": "apply_patch"}}
    function = {"type": "function", "function": {"name": "weather"}}
    provider.plan({"calls": [call("apply_patch", json.dumps({"input": PATCH}))]})
    answer = await chat(service, tools=[custom, function, {"type": "web_search"}])
    assert names(provider.asked[0]) == ["apply_patch", "weather"]
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    [made] = choice["message"]["tool_calls"]
    held = {"name": "apply_patch", "input": PATCH}
    assert made == {"id": "call_1", "type": "custom", "custom": held}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "done"}
    provider.plan({"text": "ok"})
    await chat(service, {"role": "user", "content": "x"}, choice["message"], result, tools=[custom])
    [before] = provider.asked[0]["messages"][1]["tool_calls"]
    assert before["type"] == "function"
    assert json.loads(before["function"]["arguments"]) == {"input": PATCH}


async def test_a_chat_stream_of_a_custom_call(service: Service, provider: ScriptedProvider) -> None:
    provider.plan({"calls": [call("apply_patch", json.dumps({"input": PATCH}))]})
    body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "x"}],
            "tools": [CUSTOM]}  # fmt: skip
    answer = await service.http.post("/v1/chat/completions", json=body)
    deltas = [one["choices"][0]["delta"] for one in frames(answer)]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    assert {piece["type"] for piece in pieces} == {"custom"}
    assert pieces[0]["custom"]["name"] == "apply_patch"
    assert "".join(piece["custom"]["input"] for piece in pieces) == PATCH


async def test_a_task_shows_a_custom_call_in_openais_shape(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan({"calls": [call("apply_patch", '{"input": "p"}')]})
    answer = await respond(service, input="x", tools=[CUSTOM])
    task = await service.task(answer.task_id)
    assert task["tool_calls"] == [
        {"id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": "p"}}
    ]


async def test_a_provider_that_takes_a_kind_is_sent_it(
    service: Service, provider: ScriptedProvider
) -> None:
    native = {"id": "call_1", "custom": {"name": "apply_patch", "input": PATCH}}
    provider.plan({"calls": [native]}, {"text": "ok"})
    answer = await respond(service, model="openai", input="x", tools=[CUSTOM], stream=True)
    [sent] = provider.asked[0]["tools"]
    grammar = {"syntax": "lark", "definition": GRAMMAR["definition"]}
    assert sent["type"] == "custom"
    assert sent["custom"]["format"] == {"type": "grammar", "grammar": grammar}
    assert answer.item("custom_tool_call")["input"] == PATCH
    output = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"}
    await respond(service, model="openai", input=[*answer.items, output], tools=[CUSTOM])
    assert provider.asked[1]["messages"][0]["tool_calls"] == [native | {"type": "custom"}]
    provider.plan({"text": "ok"}, {"text": "ok"})
    search = {"type": "web_search", "web_search": {"enable": True, "search_engine": "std"}}
    await chat(service, model="zhipu", tools=[search])
    await respond(service, model="zhipu", input="x", tools=[{"type": "web_search_preview"}])
    plain = {"type": "web_search", "web_search": {"enable": True}}
    assert [asked["tools"] for asked in provider.asked] == [[search], [plain]]


NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("choice", "sent", "tools"),
    [
        ({"type": "function", "name": "weather"}, NAMED, 4),
        ({"type": "custom", "name": "apply_patch"}, "apply_patch", 4),
        ({"type": "function", "name": "find", "namespace": "crm"}, "crm__find", 4),
        ({"type": "web_search_preview"}, None, 4),
        ({"type": "mcp", "server_label": "s"}, None, 4),
        ({"type": "function", "name": "gone"}, None, 4),
        ({"type": "allowed_tools", "mode": "required", "tools": [
            {"type": "function", "name": "weather"}, {"type": "web_search"}]}, "required", 1),
        ({"type": "allowed_tools", "mode": "auto", "tools": [
            {"type": "custom", "name": "apply_patch"}]}, "auto", 1),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, None, 0),
        ("required", "required", 4),
    ],
)  # fmt: skip
async def test_a_choice_among_converted_tools(
    service: Service, provider: ScriptedProvider, choice: Any, sent: Any, tools: int
) -> None:
    provider.plan({"text": "ok"})
    given = [CUSTOM, GROUP, FUNCTION, {"type": "web_search"}]
    await respond(service, input="x", tools=given, tool_choice=choice)
    asked = provider.asked[0]
    chosen = asked.get("tool_choice")
    if isinstance(chosen, dict) and sent is not NAMED:
        chosen = chosen["function"]["name"]
    assert (chosen, len(asked.get("tools", []))) == (sent, tools)


async def test_tools_of_an_item_are_tools_of_the_request(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan({"calls": [call("apply_patch", '{"input": "p"}')]})
    brought = {"type": "additional_tools", "role": "developer", "tools": [CUSTOM]}
    answer = await respond(service, input=[brought, {"role": "user", "content": "x"}])
    assert answer.item("custom_tool_call")["input"] == "p"
