"""Slips in the names and values of variables are found, and no value is shown."""

import os
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.advice import misspelt, of_variables, warnings
from asyncsvc.config.environment import Environment
from asyncsvc.config.secrets import close_variable, unwrapped, values
from asyncsvc.config.settings import Settings


def settings(**models: dict[str, Any]) -> Settings:
    one = {"zhipu": {"model": "m", "preset": "zhipu", "api_key_env": "ZHIPU_API_KEY"}}
    return Settings.model_validate({"models": models or one})


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("ZHIPU_API_KEY", "ZHIPU_APIKEY", True),
        ("ZHIPU_API_KEY", "ZHIPU_KEY", True),
        ("ZHIPU_API_KEY", "ZIHPU_API_KEY", True),
        ("ZHIPU_API_KEY", "zhipu_api_key", True),
        ("NVIDIA_API_KEY_1", "NVIDIA_API_KEY", True),
        ("OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATWAY_TOKEN", True),
        ("XAI_API_KEY", "ZAI_API_KEY", False),
        ("OPENCLAW_GATEWAY_TOKEN", "OPENAI_API_KEY", False),
        ("ZHIPU_API_KEY", "ZHIPU_HOME", False),
    ],
)
def test_a_name_that_is_nearly_the_wanted_one_is_found(
    wanted: str, there: str, found: bool
) -> None:
    assert close_variable(wanted, {there: "x", "PATH": "y"}) == (there if found else None)
    assert close_variable(wanted, {there: "  "}) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ASYNCSVC_SERVER_PORT", "ASYNCSVC_SERVER__PORT"),
        ("ASYNC_SVC_SERVER__PORT", "ASYNCSVC_SERVER__PORT"),
        ("ASYNCSVC_TOKNES", "ASYNCSVC_TOKENS"),
        ("ASYNCSVC_MODELS_ZHIPU_RPM", "ASYNCSVC_MODELS__ZHIPU__RPM"),
        ("ASYNCSVC_WEBHOOK_SECRETS", "ASYNCSVC_WEBHOOK_SECRET"),
        ("ASYNCSVC_WEBHOOK_SECRET", None),
        ("ASYNCSVC_TESTS_SEED", None),
        ("ASYNCSVC_URL", None),
        ("PORT", None),
    ],
)
def test_a_variable_that_sets_nothing_is_asked_about(name: str, meant: str | None) -> None:
    lines = misspelt(settings(), {name: "secret-value"})
    assert lines == ([f"{name} sets nothing; did you mean {meant}?"] if meant else [])


@pytest.mark.parametrize(
    ("held", "key"),
    [
        ("abc", "abc"),
        (" abc\n", "abc"),
        ('"abc"', "abc"),
        ("'abc'", "abc"),
        ("Bearer abc", "abc"),
        ('"Bearer abc"', "abc"),
        ("Authorization: Bearer abc", "abc"),
        ("bearer-of-news", "bearer-of-news"),
    ],
)
def test_what_was_copied_along_with_a_key_is_left_out(held: str, key: str) -> None:
    assert unwrapped(held) == key


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ('"abcdef123"', "quotes"),
        ("Bearer abcdef123", "Bearer"),
        ("your-key-here", "placeholder"),
        ("<key>", "placeholder"),
        ("sk-...", "placeholder"),
        ("abcdef123 # my key", "space"),
        ("abcdef123", None),
    ],
)
def test_a_key_that_is_none_is_noticed_and_not_shown(held: str, words: str | None) -> None:
    lines = warnings(settings(), {"ZHIPU_API_KEY": held}, None)
    assert len(lines) == (words is not None)
    assert words is None or words in lines[0]
    assert "abcdef" not in str(lines)


def test_a_start_warns_of_the_variables_in_one_list(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("ZHIPU_API_KEY='Bearer abcdef123'\nASYNCSVC_SERVER_PORT=1\n")
    file.chmod(0o600)
    lines = of_variables(settings(), Environment({}, file))
    assert ["ZHIPU_API_KEY" in lines[0], "SERVER__PORT" in lines[1]] == [True, True]
    file.chmod(0o644)
    readable = of_variables(settings(), Environment({}, file))
    assert readable[1:] == lines or os.name == "nt"


def test_a_key_is_known_as_a_secret_without_what_was_copied_along() -> None:
    environ = {"ZHIPU_API_KEY": '"Bearer abcdef123"', "ASYNCSVC_TOKENS": "one, two"}
    found = set(values(settings().model_dump(), environ))
    assert {"abcdef123", "one", "two"} <= found
    assert "Bearer" not in found
