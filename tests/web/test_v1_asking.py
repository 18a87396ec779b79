"""What an OpenAI request becomes, and what is refused."""

from typing import Any

import pytest
from starlette.datastructures import Headers

from asyncsvc.errors import InvalidRequest, ModelNotFound, RequestError
from asyncsvc.web.openai.requests import Call, chat, embedding, named

MESSAGES = [{"role": "user", "content": "hi"}]
FUNCTION = {"type": "function", "function": {"name": "f"}}


def asked(headers: dict[str, str] | None = None, **fields: Any) -> Call:
    return chat({"model": "auto", "messages": MESSAGES} | fields, Headers(headers or {}))


def test_parameters_go_to_the_provider_and_the_rest_does_not() -> None:
    call = asked(temperature=0, tools=[FUNCTION], user="u", store=True, service_tier="auto")
    assert call.submissions[0].params == {"temperature": 0, "tools": [FUNCTION]}


def test_null_is_the_same_as_left_out() -> None:
    call = asked(temperature=None, n=None, stop=None, logprobs=None, audio=None)
    assert call.submissions[0].params == {}


def test_what_says_what_is_so_anyway_is_no_fault() -> None:
    assert asked(n=1, logprobs=False, modalities=["text"], stream=False).stream is False


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        (["x"], "tools[0]"),
        ([{}], "tools[0]"),
        ([FUNCTION, {"type": "custom"}], "tools[1].name"),
        ([{"type": "function", "function": {}}], "tools[0].function.name"),
        ([{"type": "namespace", "name": "n"}], "tools[0].tools"),
        ([{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}],
         "tools[0].tools[0].name"),
    ],
)  # fmt: skip
def test_a_tool_without_a_name_is_refused_by_its_place(tools: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(tools=tools)
    assert refused.value.param == param


def test_a_field_of_no_known_name_goes_to_the_provider() -> None:
    call = asked(top_n_sigma=1.5, dry_multiplier=0.8, adapter_id="a")
    assert call.submissions[0].params == {
        "top_n_sigma": 1.5,
        "dry_multiplier": 0.8,
        "adapter_id": "a",
    }
    assert call.submissions[0].notes == []


SERVICE_FIELDS: dict[str, Any] = {
    "client_metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_breakpoint": 3,
    "safety_identifier": "s",
    "truncation": "auto",
    "max_tool_calls": 3,
    "include": [],
    "store": False,
    "user": "u",
    "service_tier": "flex",
    "litellm_metadata": {},
}


def test_a_field_of_a_service_is_left_out_with_a_note() -> None:
    call = asked(**SERVICE_FIELDS)
    assert call.submissions[0].params == {}
    [note] = call.submissions[0].notes
    assert all(name in note for name in SERVICE_FIELDS)


def test_null_needs_no_note() -> None:
    call = asked(conversation=None, prompt=None, functions=None, **dict.fromkeys(SERVICE_FIELDS))
    assert (call.submissions[0].params, call.submissions[0].notes) == ({}, [])


def test_a_sampling_parameter_has_no_effect_on_embeddings() -> None:
    made = embedding({"model": "embed", "input": "a", "temperature": 0, "user": "u"}, Headers())
    assert made.submissions[0].params == {}
    assert made.submissions[0].notes == ["without effect here: temperature, user"]


def test_tools_in_the_shape_of_the_responses_api_are_taken() -> None:
    flat = {"type": "function", "name": "f", "parameters": {}, "strict": True, "defer_loading": 1}
    custom = {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark",
                                                       "definition": "start: A"}}  # fmt: skip
    params = asked(tools=[flat, custom], tool_choice={"type": "function", "name": "f"})
    assert params.submissions[0].params == {
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}},
            {"type": "custom", "custom": {"name": "c", "format": {
                "type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}}}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }  # fmt: skip


def test_params_are_passed_unseen() -> None:
    assert asked(params={"my_own": 1}, seed=2).submissions[0].params == {"my_own": 1, "seed": 2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["audio"]),
        ("functions", []),
        ("tool_choice", {}),
        ("tool_choice", "maybe"),
        ("tool_choice", {"type": "function"}),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
        ("previous_response_id", "resp_1"),
        ("function_call", "auto"),
        ("audio", {}),
        ("tools", {}),
        ("tool_choice", False),
        ("temperature", True),
        ("temperature", "0"),
        ("max_tokens", 1.5),
        ("params", []),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("messages", []),
        ("messages", [{"role": "king"}]),
        ("lane", "fast"),
        ("priority", 10),
        ("model", 7),
        ("model", ""),
    ],
)
def test_a_refusal_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**{field: value})
    assert refused.value.param == field


@pytest.mark.parametrize("options", [[], {"include_usage": 1}])
def test_stream_options_are_an_object_of_flags(options: Any) -> None:
    with pytest.raises(InvalidRequest):
        asked(stream=True, stream_options=options)


def test_usage_is_asked_for_with_a_stream() -> None:
    call = asked(stream=True, stream_options={"include_usage": True})
    assert (call.stream, call.include_usage) == (True, True)
    assert asked(stream=True, stream_options={"include_obfuscation": False}).include_usage is False


def test_headers_say_where_it_queues_and_win_over_the_body() -> None:
    headers = {"x-lane": "long", "x-priority": "0", "x-session-id": "s", "idempotency-key": "k"}
    call = asked(headers, lane="short", priority=9, timeout_s=5, metadata={"a": "b"})
    found = call.submissions[0]
    assert (found.lane, found.priority, found.session_id, call.key) == ("long", 0, "s", "k")
    assert (found.timeout_s, found.metadata) == (5, {"a": "b"})


@pytest.mark.parametrize(
    "header",
    [
        {"x-priority": "10"},
        {"x-priority": ""},
        {"x-priority": "-"},
        {"x-lane": ""},
        {"x-session-id": ""},
        {"idempotency-key": ""},
        {"idempotency-key": "k" * 256},
    ],
)
def test_a_wrong_header_is_refused(header: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        asked(header)


def test_a_model_is_named_or_routed() -> None:
    assert named("fast") == {"model": "fast"}
    assert named("auto") == {}
    assert named("auto:batch") == {"route_as": "batch"}
    assert named("auto:embedding", chat=False) == {"route_as": "embedding"}


@pytest.mark.parametrize(("model", "is_chat"), [("auto:embedding", True), ("auto:simple", False)])
def test_a_class_that_does_not_fit_is_no_model(model: str, is_chat: bool) -> None:
    with pytest.raises(ModelNotFound):
        named(model, chat=is_chat)


def test_embeddings() -> None:
    call = embedding(
        {"model": "auto", "input": ["a"], "dimensions": 3, "encoding_format": "base64"},
        Headers({"x-lane": "long"}),
    )
    assert call.base64
    assert call.submissions[0].input == ["a"]
    assert call.submissions[0].lane == "long"
    assert call.submissions[0].params == {"dimensions": 3}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [1, 2]},
        {"input": [[1, 2]]},
        {"input": []},
        {"input": "a", "encoding_format": "hex"},
        {"input": "a", "dimensions": "3"},
        {},
    ],
)
def test_wrong_embeddings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        embedding({"model": "embed"} | fields, Headers())
