import pytest

from asyncsvc.providers.dialects import PLAIN, PRESETS
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


def test_openclaw_is_not_told_who_asks() -> None:
    body = upstream(preset=PRESETS["openclaw"]).chat_body(ASK, {"user": "u", "n": 2})
    assert not {"user", "n"} & set(body)
