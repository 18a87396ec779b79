from typing import Any

import pytest

from asyncsvc.providers.answers.thinking import SWITCHES
from asyncsvc.providers.dialects import PLAIN, PRESETS
from asyncsvc.providers.error_tables import DIALECTS
from tests.upstreams import ASK, upstream


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_knows_where_it_is(name: str) -> None:
    base_url = PRESETS[name].base_url
    assert base_url is not None
    assert base_url.startswith(("https://", "http://localhost:", "http://127.0.0.1:"))
    assert not base_url.endswith("/")


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_renames_into_what_it_drops(name: str) -> None:
    preset = PRESETS[name]
    assert preset.drop.isdisjoint(preset.rename.values())


def test_only_an_agent_gateway_acts() -> None:
    assert [name for name, preset in PRESETS.items() if preset.acts] == ["openclaw"]


def test_the_plain_dialect_changes_nothing() -> None:
    body = upstream(preset=PLAIN).chat_body(ASK, {"n": 1, "user": "u", "max_completion_tokens": 5})
    assert body | {"n": 1, "user": "u", "max_completion_tokens": 5} == body


def test_zhipu_is_not_sent_what_it_refuses() -> None:
    params = {
        "max_completion_tokens": 5,
        "frequency_penalty": 1,
        "presence_penalty": 1,
        "thinking_budget": 1,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
    }
    body = upstream(preset=PRESETS["zhipu"]).chat_body(ASK, params)
    assert body == {
        "messages": ASK,
        "stream": True,
        "model": "some-model",
        "max_tokens": 5,
        "temperature": 0.5,
    }


def test_nvidia_is_not_sent_what_its_schema_forbids() -> None:
    forbidden = ("prompt_cache_key", "frequency_penalty", "presence_penalty", "n", "user")
    body = upstream(preset=PRESETS["nvidia"]).chat_body(ASK, dict.fromkeys(forbidden, 1))
    assert set(body) == {"messages", "stream", "stream_options", "model"}


def test_openclaw_is_not_sent_who_asks() -> None:
    body = upstream(preset=PRESETS["openclaw"]).chat_body(ASK, {"user": "u", "n": 2})
    assert not {"user", "n"} & set(body)


# Thinking -------------------------------------------------------------------------------------

GLM = ({"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}})
ENABLE = ({"enable_thinking": True}, {"enable_thinking": False})
TEMPLATE = (
    {"chat_template_kwargs": {"enable_thinking": True}},
    {"chat_template_kwargs": {"enable_thinking": False}},
)
TEMPLATE_THINKING = (
    {"chat_template_kwargs": {"thinking": True}},
    {"chat_template_kwargs": {"thinking": False}},
)
EFFORT = ({"reasoning_effort": "high"}, {"reasoning_effort": "low"})
NONE: tuple[dict[str, Any], dict[str, Any]] = ({}, {})


@pytest.mark.parametrize(
    ("preset", "model", "on", "off"),
    [
        *(("zhipu", id_, *GLM) for id_ in ("glm-4.7", "glm-5", "glm-5.1", "glm-4.5-flash")),
        ("zhipu", "glm-5.3", *EFFORT),
        ("zhipu", "glm-4-flash", *NONE),
        ("hunyuan", "hunyuan-lite", *NONE),
        ("hunyuan", "hunyuan-a13b", *ENABLE),
        ("tencent-tokenhub", "hy3", EFFORT[0], {}),
        ("nvidia", "nvidia/nemotron-3-super-120b-a12b", *TEMPLATE),
        ("nvidia", "nvidia/nemotron-nano-3-30b-a3b", *TEMPLATE),
        ("nvidia", "z-ai/glm5", *TEMPLATE),
        ("nvidia", "deepseek-ai/deepseek-v3.2", *TEMPLATE_THINKING),
        ("nvidia", "moonshotai/kimi-k2.5", *TEMPLATE_THINKING),
        ("nvidia", "moonshotai/kimi-k2-thinking", *NONE),
        ("nvidia", "openai/gpt-oss-20b", *EFFORT),
        ("nvidia", "mistralai/mistral-nemotron", *NONE),
        ("siliconflow", "Qwen/Qwen3-8B", *ENABLE),
        ("siliconflow", "Qwen/Qwen2.5-7B-Instruct", *NONE),
        ("openai", "gpt-5.1", *EFFORT),
        ("openai", "gpt-4o", *NONE),
        ("deepseek", "deepseek-flash", *GLM),
        ("moonshot", "kimi-k2.6", *GLM),
        ("moonshot", "kimi-k3", *EFFORT),
        ("moonshot", "moonshot-v1-8k", *NONE),
        ("dashscope", "qwen-plus", *ENABLE),
        ("openrouter", "a/b", {"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
        ("ollama", "qwen3", *EFFORT),
        ("vllm", "Qwen/Qwen3-8B", *TEMPLATE),
        ("vllm", "deepseek-ai/DeepSeek-V3.1", *TEMPLATE_THINKING),
        ("llama.cpp", "any", *TEMPLATE),
        ("openclaw", "openclaw/main", *NONE),
    ],
)
def test_thinking_is_switched_as_the_model_has_it(
    preset: str, model: str, on: dict[str, Any], off: dict[str, Any]
) -> None:
    account = upstream(preset=PRESETS[preset], model=model)
    plain = account.chat_body(ASK, {})
    assert account.chat_body(ASK, {"thinking": "auto"}) == plain
    assert account.chat_body(ASK, {"thinking": "on"}) == plain | on
    assert account.chat_body(ASK, {"thinking": "off"}) == plain | off


def test_the_older_nemotrons_are_reported_in_the_system_message() -> None:
    account = upstream(preset=PRESETS["nvidia"], model="nvidia/llama-3.1-nemotron-ultra-253b-v1")
    body = account.chat_body(ASK, {"thinking": "off"})
    assert body["messages"] == [{"role": "system", "content": "detailed thinking off"}, *ASK]
    assert "system" not in body


@pytest.mark.parametrize("name", PRESETS)
def test_each_name_in_a_preset_is_in_its_table(name: str) -> None:
    preset = PRESETS[name]
    assert {preset.thinking, *(switch for _, switch in preset.thinking_by_id)} <= SWITCHES.keys()
    assert preset.errors in DIALECTS
    assert all(preset.takes(parameter) for parameter in preset.embed_params)


@pytest.mark.parametrize(("name", "size"), [("siliconflow", 32), ("dashscope", 10), ("zhipu", 64)])
def test_no_call_embeds_more_than_the_provider_takes(name: str, size: int) -> None:
    assert PRESETS[name].embed_batch == size


def test_nvidia_is_reported_what_an_embedding_is_for() -> None:
    account = upstream(preset=PRESETS["nvidia"], type="embedding")
    assert account.embedding_body("x", {})["input_type"] == "passage"
    assert account.embedding_body("x", {"input_type": "query"})["input_type"] == "query"


def test_openai_gets_the_newer_name() -> None:
    body = upstream(preset=PRESETS["openai"]).chat_body(ASK, {"max_tokens": 5})
    assert (body["max_completion_tokens"], "max_tokens" in body) == (5, False)


@pytest.mark.parametrize(
    ("preset", "model", "textual"),
    [
        ("openclaw", "openclaw/main", True),
        ("hunyuan", "hunyuan-lite", True),
        ("hunyuan", "hunyuan-turbos-latest", False),
        ("hunyuan", "hunyuan-turbos-vision", True),
        ("hunyuan", "Hunyuan-FunctionCall", False),
        ("zhipu", "glm-4.7", False),
    ],
)
def test_a_preset_knows_which_models_call_tools(preset: str, model: str, textual: bool) -> None:
    assert upstream(preset=PRESETS[preset], model=model).textual is textual
    for wanted in (True, False):
        account = upstream(preset=PRESETS[preset], model=model, tool_calling=wanted)
        assert account.textual is not wanted
