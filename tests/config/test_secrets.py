"""Secrets where none belongs are refused without being repeated, and weak ones are warned of."""

import hashlib
from pathlib import Path

import pytest

from asyncsvc.config.advice import warnings
from asyncsvc.config.load import load
from asyncsvc.config.secrets import is_variable, looks_like_key, redacted
from asyncsvc.config.settings import Settings
from asyncsvc.errors import SettingsError

HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
# Joined at run time: no scanner shall take a file of tests for a leak.
KEYS = [
    "sk-" + "proj-Abc0123456789defghi",
    "nvapi-" + "Abc0123456789defghijkl",
    "gh" + "p_Abc0123456789defghijklmnopqrstuvwx",
    "hf" + "_AbcdefghijklmnopQRSTUV",
    "AK" + "ID" + "z8krbsJ5yKBZQpn74WFkmLPx3gnPhESA",
    "AI" + "zaSyA0123456789abcdefghijklmnopqrstu",
    HEX + "." + "Abc0123456789def",
    "ey" + "J" + "hbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl",
    "whsec" + "_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
]
MODEL = '[models.a]\nmodel = "m"\n'
PLACES = [
    MODEL + 'api_key_env = "{}"',
    MODEL + 'api_key_envs = ["A_KEY", "{}"]',
    MODEL + 'api_key_envs = "{}"',
    MODEL + 'api_key = "{}"',
    MODEL + 'base_url = "https://example.org/v1?key={}"',
    MODEL + 'base_url = "https://user:{}@example.org/v1"',
    MODEL + 'base_url = "https://example.org/{}"',
    MODEL + 'extra_headers = {{ Authorization = "Bearer {}" }}',
    MODEL + 'extra_body = {{ deep = [{{ er = "{}" }}] }}',
    MODEL + 'rpm = "{}"',
    MODEL + 'good_at = ["{}"]',
    '[models.a]\nmodel = ["{}"]',
    '[models."{}"]\nmodel = "m"',
    '[server]\nauth_tokens_env = "{}"',
    '[server]\nhost = "{}"',
    '[server]\n"{}" = 1',
    '[webhooks]\nsecret_env = "{}"',
    '["{}"]\nx = 1',
    '[routes]\nsimple = ["{}"]',
    '[routes]\n"{}" = ["a"]',
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:5])
@pytest.mark.parametrize("place", PLACES)
def test_a_key_in_the_file_is_refused_and_not_repeated(
    place: str, key: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(place.format(key))
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    text = "".join(caught.value.lines)
    assert key not in text
    assert key[6:] not in text


@pytest.mark.parametrize("key", [*KEYS, "hunter2!", "pass word", "ключ", "1A", "A-B", HEX])
@pytest.mark.parametrize("name", ["API_KEY_ENV", "API_KEY_ENVS"])
def test_a_key_in_the_environment_is_refused_and_not_repeated(key: str, name: str) -> None:
    text = f'["{key}"]' if name.endswith("S") else key
    environ = {"ASYNCSVC_MODELS__A__MODEL": "m", f"ASYNCSVC_MODELS__A__{name}": text}
    with pytest.raises(SettingsError) as caught:
        load(None, environ)
    (line,) = caught.value.lines
    assert "must be the name of an environment variable" in line
    assert key not in line


NAMES = "ZHIPU_API_KEY NVIDIA_API_KEY_1 _x a Mein_Schluessel OPENCLAW_GATEWAY_TOKEN KEY2024 K1 " + (
    "ASYNCSVC_MODELS__A__KEY ANTHROPICAPIKEYPRODUCTION2 HF_TOKEN sk_test GITHUB_TOKEN_2026_11"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_variables_are_names(name: str) -> None:
    assert is_variable(name)


@pytest.mark.parametrize("text", ["sk-learn", "task-0123456789abcdef0123", "deepseek-v3", HEX, ""])
def test_what_is_no_key_is_left_alone(text: str) -> None:
    assert not looks_like_key(text)
    assert redacted(f"({text})") == f"({text})"


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_hidden_wherever_it_stands(key: str) -> None:
    assert key not in redacted(f'x="{key}", Bearer {key}; {key}')


def made(**sections: object) -> Settings:
    return Settings.model_validate(sections)


def test_short_and_equal_tokens_are_warned_of_and_never_shown() -> None:
    model = {"model": "m", "api_key_env": "A_KEY"}
    settings = made(models={"a": model, "b": model, "c": model | {"api_key_env": "C_KEY"}})
    environ = {"ASYNCSVC_TOKENS": "short, long-enough-0123456,short", "A_KEY": "short"}
    found = warnings(settings, environ | {"C_KEY": "another", "UNUSED": "short"}, None)
    assert [line.partition(";")[0] for line in found] == [
        "token 1 of ASYNCSVC_TOKENS has 5 characters and may be guessed",
        "token 3 of ASYNCSVC_TOKENS has 5 characters and may be guessed",
        "token 3 of ASYNCSVC_TOKENS is equal to token 1 of ASYNCSVC_TOKENS",
        "A_KEY is equal to token 1 of ASYNCSVC_TOKENS",
    ]
    assert not [line for line in found if "short" in line or "long-enough" in line]


def test_good_tokens_and_no_tokens_are_no_warning() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert warnings(made(), {}, None) == []
    assert warnings(made(), {"ASYNCSVC_TOKENS": f"{digest},{HEX}"}, None) == []


def test_a_secret_header_in_the_file_is_warned_of(tmp_path: Path) -> None:
    headers = {"Authorization": "Basic dTpw", "x-openclaw-agent-id": "main", "max-tokens": "9"}
    body = {"api_key": "of my own", "deeper": {"X-Auth-Token": "mine"}, "top_k": "1"}
    settings = made(models={"a": {"model": "m", "extra_headers": headers, "extra_body": body}})
    file = tmp_path / "settings.toml"
    file.touch(mode=0o600)
    found = warnings(settings, {}, file)
    assert [line.partition(" ")[0] for line in found] == [
        "models.a.extra_body.api_key",
        "models.a.extra_body.deeper.X-Auth-Token",
        "models.a.extra_headers.Authorization",
    ]
    assert not [line for line in found if "dTpw" in line or "mine" in line]
    file.chmod(0o644)
    assert f"chmod 600 {file}" in warnings(settings, {}, file)[-1]


def test_a_file_of_secrets_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.touch(mode=0o644)
    assert warnings(made(), {}, file) == []
    (tmp_path / ".env").touch(mode=0o644)
    (line,) = warnings(made(), {}, file)
    assert line.endswith(f"chmod 600 {tmp_path / '.env'}")
    (tmp_path / ".env").chmod(0o600)
    assert warnings(made(), {}, file) == []
