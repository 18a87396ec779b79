from collections.abc import Mapping
from typing import Any

import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.errors import ModelNotFound, NoModel, SettingsError
from asyncsvc.limits.breaker import BreakerState
from asyncsvc.providers.registry import Catalogue
from tests.virtual_time import START_MS, loop, virtual

CHAT = {"preset": "nvidia", "api_key_env": "KEY_1", "model": "a"}
KEYS = {"KEY_1": "sk-one", "KEY_2": "sk-two"}


def catalogue(
    environ: Mapping[str, str] = KEYS, breaker: dict[str, Any] | None = None, **models: Any
) -> Catalogue:
    raw = {"models": models} | ({"breaker": breaker} if breaker else {})
    return Catalogue(Settings.model_validate(raw), environ)


def test_a_model_is_built_from_its_settings_and_its_key() -> None:
    built = catalogue(m=CHAT | {"concurrency": 3, "rpm": 40, "rpm_window_s": 30})
    (upstream,) = built.upstreams
    assert built.disabled == {}
    assert (upstream.name, upstream.gate.name, upstream.key) == ("m", "m", "sk-one")
    assert upstream.base_url == "https://integrate.api.nvidia.com/v1"
    gate = upstream.gate
    assert (gate.concurrency, gate.window.limit, gate.window.span_s) == (3, 40, 30)


def test_an_address_of_its_own_wins_over_the_presets() -> None:
    (upstream,) = catalogue(m=CHAT | {"base_url": "http://127.0.0.1:1/v1/"}).upstreams
    assert upstream.base_url == "http://127.0.0.1:1/v1"


def test_several_keys_are_several_accounts_of_one_model() -> None:
    both = {"preset": "nvidia", "api_key_envs": ["KEY_1", "KEY_2"], "model": "a"}
    built = catalogue(m=both)
    assert [(u.gate.name, u.key) for u in built.of("m")] == [("m#1", "sk-one"), ("m#2", "sk-two")]
    assert built.upstreams[0].gate is not built.upstreams[1].gate


def test_one_of_several_keys_is_enough() -> None:
    both = {"preset": "nvidia", "api_key_envs": ["KEY_1", "KEY_2"], "model": "a"}
    built = catalogue({"KEY_2": "sk-two"}, m=both)
    assert [(u.gate.name, u.key) for u in built.of("m")] == [("m", "sk-two")]


def test_a_model_without_need_of_a_key_has_none() -> None:
    (upstream,) = catalogue({}, m={"preset": "ollama", "model": "a"}).upstreams
    assert upstream.key is None


@pytest.mark.parametrize("held", [{}, {"KEY_1": ""}, {"KEY_1": " \n"}])
def test_a_model_without_its_key_is_disabled_naming_the_variable(held: dict[str, str]) -> None:
    built = catalogue(held, m=CHAT)
    assert built.upstreams == []
    assert built.disabled == {"m": "KEY_1 is not set"}


def test_all_variables_that_would_do_are_named() -> None:
    both = {"preset": "nvidia", "api_key_envs": ["KEY_1", "KEY_2"], "model": "a"}
    assert catalogue({}, m=both).disabled == {"m": "KEY_1 or KEY_2 is not set"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"enabled": False}, "enabled = false"),
    ],
)
def test_what_cannot_be_used_says_why(changes: dict[str, Any], why: str) -> None:
    assert why in catalogue(m=CHAT | changes).disabled["m"]


def test_a_key_from_a_file_may_end_in_a_line_feed() -> None:
    assert catalogue({"KEY_1": "sk-one\r\n"}, m=CHAT).upstreams[0].key == "sk-one"


@pytest.mark.parametrize("key", ["sk-一", "sk-a\nb", "sk-a\x00b"])
def test_a_key_that_no_header_can_carry_stops_the_start_without_showing_it(key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        catalogue({"KEY_1": key}, m=CHAT)
    assert refused.value.lines == [
        "models.m.api_key_env: KEY_1 holds characters that no HTTP header can carry"
    ]


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        catalogue({}, a={"model": "x"}, b={"model": "x", "preset": "other"}, c=CHAT)
    first, second = refused.value.lines
    assert first == "models.a.base_url: is required where there is no preset"
    assert second.startswith("models.b.preset: unknown preset 'other'; known: openai, ")


@virtual
async def test_a_task_for_a_model_that_is_there_passes() -> None:
    built = catalogue(m=CHAT)
    built.require("m", "chat")
    built.require(None, "chat")


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelNotFound, match="no model 'x'; known: m"):
        catalogue(m=CHAT).require("x", "chat")
    with pytest.raises(ModelNotFound, match="known: none"):
        catalogue().require("x", "chat")


def test_a_disabled_model_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(NoModel, match="m is disabled: KEY_1 is not set") as refused:
        catalogue({}, m=CHAT).require("m", "chat")
    assert refused.value.retry_after == 60


@virtual
async def test_with_no_model_of_a_kind_the_lacking_ones_are_named() -> None:
    built = catalogue({}, m=CHAT, e=CHAT | {"type": "embedding"})
    with pytest.raises(NoModel, match=r"no chat model is enabled\. m: KEY_1 is not set$"):
        built.require(None, "chat")
    with pytest.raises(NoModel, match="The settings name none"):
        catalogue(m=CHAT).require(None, "embedding")


@virtual
async def test_earlier_calls_count_in_the_window_of_their_account_only() -> None:
    both = {"preset": "nvidia", "api_key_envs": ["KEY_1", "KEY_2"], "model": "a", "rpm": 2}
    built = catalogue(m=both)
    calls = [("m#2", START_MS - 90_000, 1), ("m#2", START_MS - 30_000, 1), ("gone", START_MS, 1)]
    built.restore([*calls, ("m#2", START_MS - 10_000, 1)], START_MS)
    first, second = (upstream.gate for upstream in built.upstreams)
    assert first.window.used(loop().time()) == 0
    assert second.wait() == pytest.approx(32.002)


@virtual
async def test_limits_to_be_learned_begin_low_and_go_on_where_they_were() -> None:
    both = {"preset": "nvidia", "api_key_envs": ["KEY_1", "KEY_2"], "model": "a"}
    built = catalogue(m=both | {"concurrency": "auto", "rpm": "auto", "tpm": 500})
    first, second = (upstream.gate for upstream in built.upstreams)
    assert (first.concurrency, first.window.limit) == (2, 30)
    assert first.budget.limit == 500
    value = {"value": 7, "patience": 8, "settled": True}
    built.learned({"m#2": {"concurrency": value, "tells": True}, "gone": {}})
    assert (first.concurrency, second.concurrency, second.window.limit) == (2, 7, 30)


def test_the_longest_window_is_known() -> None:
    assert catalogue().longest_window_s() == 60
    built = catalogue(a=CHAT, b=CHAT | {"rpm_window_s": 3600})
    assert built.longest_window_s() == 3600


@virtual
async def test_the_breaker_is_built_from_the_settings() -> None:
    (upstream,) = catalogue(breaker={"failures": 1, "cooldown_s": 7}, m=CHAT).upstreams
    upstream.gate.breaker.failed(0.0)
    assert upstream.gate.breaker.state(upstream.gate.time()) is BreakerState.OPEN
    assert upstream.gate.wait() == 7
