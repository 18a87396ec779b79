from typing import Any

import pytest

from asyncsvc.providers.dialects import PLAIN, PRESETS, Preset
from asyncsvc.providers.upstream import CHAT, EMBEDDINGS
from tests.upstreams import ASK, KEY, upstream


def test_a_chat_body_streams_and_asks_for_usage() -> None:
    assert upstream().chat_body(ASK, {"temperature": 0}) == {
        "temperature": 0,
        "messages": ASK,
        "stream": True,
        "stream_options": {"include_usage": True},
        "model": "some-model",
    }


def test_usage_is_not_asked_for_where_that_is_refused() -> None:
    body = upstream(preset=Preset(ask_usage=False)).chat_body(ASK, {})
    assert "stream_options" not in body


def test_parameters_cannot_turn_a_call_into_another() -> None:
    spoilt = {"stream": False, "messages": [], "model": "dearer", "input": "x"}
    body = upstream().chat_body(ASK, spoilt)
    assert (body["stream"], body["messages"], body["model"]) == (True, ASK, "some-model")
    assert upstream().embedding_body("text", spoilt)["input"] == "text"


def test_the_body_of_the_settings_wins_but_for_the_model() -> None:
    thinking = {"thinking": {"type": "disabled"}, "model": "other", "temperature": 0.1}
    body = upstream(extra_body=thinking).chat_body(ASK, {"temperature": 1})
    assert body["thinking"] == {"type": "disabled"}
    assert body["temperature"] == pytest.approx(0.1)
    assert body["model"] == "some-model"


def test_an_embedding_body_neither_streams_nor_asks_for_usage() -> None:
    body = upstream(extra_body={"input_type": "query"}).embedding_body(["a"], {"dimensions": 8})
    expected = {"input": ["a"], "model": "some-model", "input_type": "query", "dimensions": 8}
    assert body == expected


def test_parameters_are_renamed_and_dropped() -> None:
    preset = Preset(drop=frozenset({"a"}), rename={"b": "c"})
    body = upstream(preset=preset).embedding_body("x", {"a": 1, "b": 2})
    assert body == {"input": "x", "model": "some-model", "c": 2}


def test_a_body_leaves_the_parameters_as_they_were() -> None:
    params = {"max_completion_tokens": 5}
    upstream(preset=Preset(rename={"max_completion_tokens": "max_tokens"})).chat_body(ASK, params)
    assert params == {"max_completion_tokens": 5}


def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    account = upstream()
    assert account.headers() == {"Authorization": f"Bearer {KEY}"}
    assert account.secrets == [KEY]
    assert KEY not in repr(account)
    assert KEY not in str(account.chat_body(ASK, {}))


def test_without_a_key_there_is_no_such_header() -> None:
    account = upstream(key=None, extra_headers={"x-agent": "main"})
    assert account.headers() == {"x-agent": "main"}
    assert account.secrets == []


def test_model_ids_are_tried_in_order() -> None:
    account = upstream(preset=PLAIN, model=["a", "b"])
    assert account.model_id == "a"
    assert account.drop_model("a") is True
    assert account.model_id == "b"
    assert account.drop_model("b") is False
    assert account.model_id == "a"


# Thinking -------------------------------------------------------------------------------------

GLM = Preset(thinking="glm")
TEMPLATE = Preset(thinking="template_enable")
SYSTEM = Preset(thinking="system_line")
OFF = {"thinking": "off"}


def test_thinking_is_merged_into_what_else_the_template_is_reported() -> None:
    body = upstream(preset=TEMPLATE).chat_body(ASK, OFF | {"chat_template_kwargs": {"a": 1}})
    assert body["chat_template_kwargs"] == {"a": 1, "enable_thinking": False}


def test_what_the_task_asks_for_wins_over_the_model_s_habit() -> None:
    habit = {"chat_template_kwargs": {"enable_thinking": True, "b": 2}}
    account = upstream(preset=TEMPLATE, extra_body=habit)
    assert account.chat_body(ASK, OFF)["chat_template_kwargs"] == {"enable_thinking": False, "b": 2}
    assert account.chat_body(ASK, {"thinking": "auto"})["chat_template_kwargs"]["enable_thinking"]
    assert account.settings.extra_body == habit


def test_a_system_line_comes_first() -> None:
    asked = [{"role": "system", "content": "be brief"}, *ASK]
    body = upstream(preset=SYSTEM).chat_body(asked, OFF)
    assert body["messages"] == [
        {"role": "system", "content": "detailed thinking off\n\nbe brief"},
        *ASK,
    ]
    assert asked[0]["content"] == "be brief"
    parts = [{"role": "developer", "content": [{"type": "text", "text": "x"}]}]
    (led,) = upstream(preset=SYSTEM).chat_body(parts, OFF)["messages"]
    assert led["role"] == "system"
    assert [part["text"] for part in led["content"]] == ["detailed thinking off\n\n", "x"]


@pytest.mark.parametrize("preset", [GLM, PLAIN])
def test_a_provider_s_own_thinking_object_passes(preset: Preset) -> None:
    own = {"thinking": {"type": "disabled", "clear_thinking": False}}
    account = upstream(preset=preset)
    assert account.chat_body(ASK, own)["thinking"] == own["thinking"]
    assert account.warnings(own) == []


@pytest.mark.parametrize("preset", [TEMPLATE, SYSTEM, Preset()])
@pytest.mark.parametrize("value", [{"type": "disabled"}, True, 1, ["on"]])
def test_no_other_is_sent_one(preset: Preset, value: Any) -> None:
    account = upstream(preset=preset)
    assert account.chat_body(ASK, {"thinking": value}) == account.chat_body(ASK, {})
    (text,) = account.warnings({"thinking": value})
    assert text.startswith("some-model at m takes no thinking object")


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_mode_that_there_is_not_is_left_out_with_a_warning(mode: str) -> None:
    account = upstream(preset=PLAIN)
    assert account.chat_body(ASK, {"thinking": mode}) == account.chat_body(ASK, {})
    assert account.warnings({"thinking": mode}) == [
        f"some-model at m has no switch for thinking, so thinking {mode!r} was left out"
    ]


def test_what_can_only_think_less_says_so() -> None:
    account = upstream(preset=Preset(thinking="effort"))
    assert "cannot stop thinking" in account.warnings(OFF)[0]
    assert account.warnings({"thinking": "on"}) == []


def test_parameters_that_are_left_out_are_named() -> None:
    preset = Preset(allow=frozenset({"c", "x"}), drop=frozenset({"d"}), rename={"b": "c"})
    account = upstream(preset=preset)
    params = {"b": 1, "d": 2, "user": 3, "x": 4, "thinking": "auto"}
    assert account.warnings(params) == ["some-model at m does not take d, user as given; left out"]
    assert account.warnings({"x": 1}) == []
    assert {"c", "x"} <= account.chat_body(ASK, params).keys()


def test_a_warning_does_not_grow_with_what_a_client_makes_up() -> None:
    account = upstream(preset=Preset(allow=frozenset()))
    (text,) = account.warnings({f"{n:05}" + "x" * 1000: n for n in range(1000)})
    assert " and 990 more as given" in text
    assert len(text) < 600


def test_a_parameter_may_be_taken_with_one_value_only() -> None:
    account = upstream(preset=Preset(only={"tool_choice": "auto"}))
    assert account.chat_body(ASK, {"tool_choice": "auto"})["tool_choice"] == "auto"
    assert "tool_choice" not in account.chat_body(ASK, {"tool_choice": "required"})
    assert "tool_choice" in account.warnings({"tool_choice": "required"})[0]


def test_keys_of_messages_that_are_refused_are_left_out() -> None:
    account = upstream(preset=Preset(drop_in_messages=frozenset({"name"})))
    asked = [ASK[0] | {"name": "Ada"}]
    assert account.chat_body(asked, {})["messages"] == ASK
    assert asked[0]["name"] == "Ada"


def test_a_mode_that_an_earlier_version_let_in_is_none() -> None:
    account = upstream(preset=GLM)
    assert "thinking" not in account.chat_body(ASK, {"thinking": "enabled"})
    assert "no switch" in account.warnings({"thinking": "enabled"})[0]


@pytest.mark.parametrize("names", [("b", "c"), ("c", "b")])
def test_of_two_names_the_provider_s_own_counts(names: tuple[str, str]) -> None:
    account = upstream(preset=Preset(rename={"b": "c"}))
    assert account.embedding_body("x", {name: name for name in names})["c"] == "c"


def test_texts_in_batches() -> None:
    account = upstream(preset=Preset(embed_batch=2))
    assert account.batches("one") == ["one"]
    assert account.batches(["a", "b"]) == [["a", "b"]]
    assert account.batches(["a", "b", "c", "d", "e"]) == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize(
    ("model", "preset", "extra_body", "params", "thinks"),
    [
        ("some-model", PLAIN, {}, {}, False),
        ("some-model", PLAIN, {}, {"thinking": "on"}, False),
        ("qwen3", PRESETS["vllm"], {}, {}, False),
        ("qwen3", PRESETS["vllm"], {}, {"thinking": "off"}, False),
        ("qwen3", PRESETS["vllm"], {}, {"thinking": "on"}, True),
        ("DeepSeek-R1-Distill", PLAIN, {}, {}, True),
        ("m", PLAIN, {}, {"chat_template_kwargs": {"enable_thinking": True}}, True),
        ("m", PLAIN, {"chat_template_kwargs": {"thinking": True}}, {}, True),
        ("m", PLAIN, {"chat_template_kwargs": {"thinking": False}}, {}, False),
        ("m", PLAIN, {}, {"chat_template_kwargs": "x"}, False),
    ],
)
def test_where_thinking_may_begin_without_a_tag(
    model: str, preset: Preset, extra_body: Any, params: dict[str, Any], thinks: bool
) -> None:
    account = upstream(preset=preset, model=model, extra_body=extra_body)
    assert account.thinks(params) is thinks


@pytest.mark.parametrize(
    ("usage", "asks", "sent"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("stream_options", False, True),
        ("none", True, False),
        (False, True, False),
    ],
)
def test_the_setting_usage_decides_whether_usage_is_asked_for(
    usage: Any, asks: bool, sent: bool
) -> None:
    account = upstream(preset=Preset(ask_usage=asks), usage=usage)
    assert ("stream_options" in account.chat_body(ASK, {})) == sent


def test_a_field_that_the_provider_does_not_know_is_left_out() -> None:
    account = upstream(preset=Preset(embed_params={"input_type": "passage"}))
    account.refused |= {"stream_options", "input_type"}
    assert "stream_options" not in account.chat_body(ASK, {})
    assert "input_type" not in account.embedding_body("x", {})
    assert account.embedding_body("x", {"input_type": "query"})["input_type"] == "query"


def test_what_a_task_or_the_settings_ask_for_is_no_field_of_the_service() -> None:
    assert set(upstream().own_fields(CHAT, {})) == {"stream_options"}
    own = {"stream_options": {"include_usage": True}}
    assert upstream(extra_body=own).own_fields(CHAT, {}) == {}
    assert upstream(usage="stream_options").own_fields(CHAT, {}) == {}
    preset = Preset(embed_params={"input_type": "passage"})
    assert set(upstream(preset=preset).own_fields(EMBEDDINGS, {})) == {"input_type"}
    assert upstream(preset=preset).own_fields(EMBEDDINGS, {"input_type": "query"}) == {}
