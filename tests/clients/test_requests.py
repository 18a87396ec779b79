"""What programs send by themselves: fields, items and references that need no change of theirs."""

from typing import Any

import pytest

from tests.clients.asking import Answered, chat, respond, warnings
from tests.clients.scripted_provider import ScriptedProvider
from tests.web.serving import Service, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CALL = {"id": "call_1", "function": {"name": "weather", "arguments": "{}"}}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
OF_A_SERVICE: dict[str, Any] = {
    "client_metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "truncation": "auto",
    "max_tool_calls": 3,
    "include": ["message.output_text.logprobs"],
    "service_tier": "flex",
    "user": "u",
    "moderation": {"model": "m"},
    "new_service_metadata": {"x": 1},
}
NULLS = dict.fromkeys(
    ("conversation", "prompt", "temperature", "tools", "tool_choice", "text", "reasoning",
     "instructions", "previous_response_id", "metadata", "seed", "n", "logprobs", "functions",
     "audio", "stream_options", "background", "max_output_tokens", "top_logprobs", *OF_A_SERVICE)
)  # fmt: skip


async def respond_or_chat(service: Service, door: str, **body: Any) -> str:
    """The task's id."""
    if door == "responses":
        return (await respond(service, input="x", **body)).task_id
    answer = await chat(service, **body)
    return str(answer["id"]).removeprefix("chatcmpl-")


DOORS = pytest.mark.parametrize("door", ["responses", "chat"])


@DOORS
async def test_a_field_of_a_service_is_not_sent_and_noted(
    service: Service, provider: ScriptedProvider, door: str
) -> None:
    provider.plan({"text": "ok"})
    task_id = await respond_or_chat(service, door, **OF_A_SERVICE)
    assert provider.asked[0].keys() == {"model", "messages", "stream", "stream_options"}
    named = await warnings(service, task_id)
    assert "client_metadata" in named
    assert "new_service_metadata" in named
    assert "include" in named


@DOORS
async def test_null_is_the_same_as_left_out(
    service: Service, provider: ScriptedProvider, door: str
) -> None:
    provider.plan({"text": "ok"})
    task_id = await respond_or_chat(service, door, **NULLS)
    assert provider.asked[0].keys() == {"model", "messages", "stream", "stream_options"}
    assert await warnings(service, task_id) == ""


@DOORS
async def test_a_field_for_the_model_is_passed_on(
    service: Service, provider: ScriptedProvider, door: str
) -> None:
    provider.plan({"text": "ok"})
    more = {"seed": 7, "top_n_sigma": 1.5, "stop": ["."], "params": {"top_k": 4}}
    await respond_or_chat(service, door, frequency_penalty=0.5, **more)
    sent = {"seed": 7, "top_n_sigma": 1.5, "stop": ["."], "top_k": 4, "frequency_penalty": 0.5}
    assert sent.items() <= provider.asked[0].items()


@pytest.mark.parametrize(
    ("door", "more", "param"),
    [
        ("/v1/responses", {"conversation": "conv_1"}, "conversation"),
        ("/v1/responses", {"prompt": {"id": "p"}}, "prompt"),
        ("/v1/responses", {"temperature": "hot"}, "temperature"),
        ("/v1/responses", {"seed": "x"}, "seed"),
        ("/v1/responses", {"stop": 5}, "stop"),
        ("/v1/chat/completions", {"conversation": "conv_1"}, "conversation"),
        ("/v1/chat/completions", {"seed": "x"}, "seed"),
        ("/v1/chat/completions", {"tool_choice": {}}, "tool_choice"),
    ],
)
async def test_only_what_cannot_be_done_is_refused(
    service: Service, door: str, more: dict[str, Any], param: str
) -> None:
    body = {"model": "fast", "input": "x", "messages": [{"role": "user", "content": "x"}]} | more
    error = refused(await service.http.post(door, json=body), 400, "invalid_request")
    assert error["param"] == param


# Items named by their ids ----------------------------------------------------------------------


async def called(service: Service, provider: ScriptedProvider, **more: Any) -> Answered:
    """A response with thinking, text and a call."""
    provider.plan({"thinking": "I think.", "text": "Let me see.", "calls": [CALL]})
    return await respond(service, input="x", tools=[WEATHER], **more)


def references(answer: Answered, typed: bool = True) -> list[dict[str, Any]]:
    kind = {"type": "item_reference"} if typed else {}
    return [{"id": item["id"]} | kind for item in answer.items]


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "bare"])
async def test_items_are_found_by_the_ids_that_were_given_out(
    service: Service, provider: ScriptedProvider, typed: bool
) -> None:
    first = await called(service, provider)
    assert [item["type"] for item in first.items] == ["reasoning", "message", "function_call"]
    provider.plan({"text": "ok"}, {"text": "ok"})
    user = {"role": "user", "content": "x"}
    again = await respond(service, input=[user, *references(first, typed), OUTPUT])
    by_value = await respond(service, input=[user, *first.items, OUTPUT])
    assert provider.asked[0]["messages"] == provider.asked[1]["messages"]
    listed = await service.http.get(f"/v1/responses/{again.response['id']}/input_items")
    kinds = [item["type"] for item in listed.json()["data"]]
    assert kinds == ["function_call_output", "function_call", "message", "reasoning", "message"]
    assert by_value.response["status"] == "completed"


async def test_an_item_of_the_conversation_so_far_is_not_sent_twice(
    service: Service, provider: ScriptedProvider
) -> None:
    first = await called(service, provider)
    second = await respond(service, input=[OUTPUT], previous_response_id=first.response["id"])
    provider.plan({"text": "ok"})
    items = [*references(first), *references(second), {"role": "user", "content": "and?"}]
    await respond(service, input=items, previous_response_id=second.response["id"])
    roles = [message["role"] for message in provider.asked[0]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_an_item_of_another_conversation_is_found_as_well(
    service: Service, provider: ScriptedProvider
) -> None:
    other, first = await called(service, provider), await respond(service, input="a")
    provider.plan({"text": "ok"})
    items = [*references(other), OUTPUT]
    await respond(service, input=items, previous_response_id=first.response["id"])
    roles = [message["role"] for message in provider.asked[0]["messages"]]
    assert roles == ["user", "assistant", "assistant", "tool"]


async def test_an_item_that_was_given_in_is_found_by_its_listed_id(
    service: Service, provider: ScriptedProvider
) -> None:
    first = await respond(service, input=[{"role": "user", "content": "one"}])
    listed = await service.http.get(f"/v1/responses/{first.response['id']}/input_items")
    [item] = listed.json()["data"]
    assert item["id"] != first.items[0]["id"]
    provider.plan({"text": "ok"})
    await respond(service, input=[{"type": "item_reference", "id": item["id"]}])
    assert provider.asked[0]["messages"] == [{"role": "user", "content": "one"}]


@pytest.mark.parametrize("item_id", ["msg_1", "rs_none_0", "msg_é_0", "", None, 5, "fc_x_99"])
async def test_an_unknown_reference_is_refused_by_its_place(service: Service, item_id: Any) -> None:
    items = [{"role": "user", "content": "x"}, {"type": "item_reference", "id": item_id}]
    answer = await service.http.post("/v1/responses", json={"model": "fast", "input": items})
    assert refused(answer, 400, "invalid_request")["param"] == "input[1].id"


async def test_what_was_not_stored_is_no_reference(
    service: Service, provider: ScriptedProvider
) -> None:
    first = await called(service, provider, store=False)
    body = {"model": "fast", "input": [*references(first), OUTPUT]}
    refused(await service.http.post("/v1/responses", json=body), 400, "invalid_request")


# Thinking ---------------------------------------------------------------------------------------


async def test_thinking_goes_back_beside_the_calls_that_it_led_to(
    service: Service, provider: ScriptedProvider
) -> None:
    sealed = {"include": ["reasoning.encrypted_content"], "store": False}
    first = await called(service, provider, **sealed)
    thought = first.item("reasoning")
    bare = {"type": "reasoning", "id": thought["id"], "summary": []}
    bare["encrypted_content"] = thought["encrypted_content"]
    provider.plan({"text": "ok"})
    await respond(service, input=[bare, *first.items[1:], OUTPUT])
    assert provider.asked[0]["messages"][0]["reasoning_content"] == "I think."
    foreign = bare | {"encrypted_content": "gAAAAA", "id": "rs_0"}
    provider.plan({"text": "ok"})
    await respond(service, input=[foreign, *first.items[1:], OUTPUT])
    assert "reasoning_content" not in provider.asked[0]["messages"][0]


async def test_a_stored_thought_is_found_where_a_client_has_only_its_id(
    service: Service, provider: ScriptedProvider
) -> None:
    first = await called(service, provider)
    bare = {"type": "reasoning", "id": first.item("reasoning")["id"], "summary": []}
    provider.plan({"text": "ok"})
    await respond(service, input=[bare, *first.items[1:], OUTPUT])
    assert provider.asked[0]["messages"][0]["reasoning_content"] == "I think."


async def test_thinking_is_a_summary_where_one_is_asked_for(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan({"thinking": "I think.", "text": "ok"})
    answer = await respond(service, input="x", stream=True, reasoning={"summary": "auto"})
    deltas = answer.of("response.reasoning_summary_text.delta")
    assert "".join(event["delta"] for event in deltas) == "I think."
    assert len(answer.of("response.reasoning_summary_part.added")) == 1
    assert len(answer.of("response.reasoning_summary_part.done")) == 1
    assert answer.item("reasoning")["summary"] == [{"type": "summary_text", "text": "I think."}]
    assert not answer.of("response.reasoning_text.delta")


async def test_a_failure_has_a_code_of_openais(
    service: Service, provider: ScriptedProvider
) -> None:
    error = {"message": "this parameter is wrong", "type": "invalid_request_error"}
    provider.plan({"status": 400, "error": error})
    answer = await respond(service, input="x", stream=True)
    assert answer.events[-1]["type"] == "response.failed"
    error = answer.response["error"]
    assert (error["code"], error["type"]) == ("invalid_prompt", "upstream_rejected")
    assert "this parameter is wrong" in error["message"]


async def test_the_tokens_of_a_request_are_estimated(service: Service) -> None:
    async def count(**body: Any) -> int:
        answer = await service.http.post("/v1/responses/input_tokens", json=body)
        assert answer.json()["object"] == "response.input_tokens", answer.text
        return int(answer.json()["input_tokens"])

    short = await count(input="What is HTTP?")
    assert 3 <= short < await count(input="What is HTTP?", instructions="Be very brief, please.")
    assert short < await count(model="fast", input="What is HTTP?", tools=[WEATHER])
    refused(await service.http.post("/v1/responses/input_tokens", json={}), 400, "invalid_request")
