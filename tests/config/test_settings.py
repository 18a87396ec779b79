"""What can be set, and what is impossible."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from asyncsvc.config.diff import NAMED
from asyncsvc.config.settings import Model, Settings, Variable, is_loopback, tokens
from asyncsvc.config.value_types import Section

SECTIONS = [name for name in Settings.model_fields if name not in NAMED]


def fields() -> Iterator[tuple[str, Any]]:
    for section in SECTIONS:
        kind = Settings.model_fields[section].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        yield from ((f"{section}.{key}", field) for key, field in kind.model_fields.items())
    yield from ((f"models.*.{key}", field) for key, field in Model.model_fields.items())


def faults(**values: Any) -> list[str]:
    """Where the faults are."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    return [".".join(str(part) for part in fault["loc"]) for fault in caught.value.errors()]


def model(**values: Any) -> Model:
    return Model.model_validate({"model": "m", **values})


def bad_model(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model(**values)
    return str(caught.value.errors()[0]["msg"])


def test_nothing_needs_to_be_set() -> None:
    settings = Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)
    assert settings.models == {}
    assert Settings.model_validate(settings.model_dump()) == settings


@pytest.mark.parametrize("field", [pytest.param(field, id=key) for key, field in fields()])
def test_each_key_has_a_meaning(field: Any) -> None:
    assert field.description


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_a_fault(section: str) -> None:
    assert faults(**{section: {"typo": 1}}) == [f"{section}.typo"]


def test_an_unknown_section_is_a_fault() -> None:
    assert faults(serv={}) == ["serv"]


IMPOSSIBLE = [
    *(("server", "port", value) for value in (-1, 65536, "x", "8000", 1.5, True, None)),
    *(
        ("server", "allowed_origins", [value])
        for value in ("*", "", "app", "http://", "http://a/b")
    ),
    *(("server", "max_connections", value) for value in (0, 100_001)),
    *(("server", "grace_s", value) for value in (-0.1, 3601, float("nan"), False)),
    *(("server", "keep_alive_s", value) for value in (0, 3601, 1.5)),
    *(("server", "client_timeout_s", value) for value in (0, 3601)),
    *(("server", "wrong_tokens", value) for value in (0, 10_001)),
    ("storage", "path", ""),
    *(("storage", "retention_days", value) for value in (-1, 36501, float("inf"))),
    *(("queue", "max_length", value) for value in (0, 10_000_001)),
    *(("queue", "max_task_bytes", value) for value in (1023, (1 << 30) + 1)),
    *(("queue", "ttl_s", value) for value in (0, "soon", "60")),
    *(
        ("timeouts", key, 0)
        for key in ("short_s", "long_s", "connect_s", "first_token_s", "idle_s")
    ),
    *(("retry", "max_retries", value) for value in (-1, 101)),
    ("retry", "base_s", 0),
    ("breaker", "failures", 0),
    ("breaker", "cooldown_s", 0),
    *(("cache", "enabled", value) for value in ("perhaps", "yes", 1, 0, None)),
    ("cache", "max_bytes", -1),
    ("limits", "memory_mb", 63),
    ("limits", "disk_free_mb", -1),
    ("tools", "workspace", ""),
    ("tools", "max_output_bytes", 1023),
]


@pytest.mark.parametrize(("section", "key", "value"), IMPOSSIBLE)
def test_an_impossible_value_is_a_fault(section: str, key: str, value: Any) -> None:
    assert faults(**{section: {key: value}}) == [f"{section}.{key}"]


def test_the_longest_delay_is_not_below_the_first() -> None:
    assert faults(retry={"base_s": 2, "max_s": 1}) == ["retry"]
    Settings.model_validate({"retry": {"base_s": 2, "max_s": 2}})


@pytest.mark.parametrize("given", ["", [], [""], ["a", ""], 5, [5], None])
def test_a_model_has_an_id(given: Any) -> None:
    assert bad_model(model=given) == "Value error, must be a model id, or a list of them"


def test_a_model_may_have_several_ids() -> None:
    assert model().model_ids == ["m"]
    assert model(model=["a", "b"]).model_ids == ["a", "b"]


def test_a_model_s_keys_are_named_in_one_way() -> None:
    assert model().key_variables == []
    assert model(api_key_env="A").key_variables == ["A"]
    assert model(api_key_envs=["A", "B"]).key_variables == ["A", "B"]
    assert "not both" in bad_model(api_key_env="A", api_key_envs=["B"])


@pytest.mark.parametrize("address", ["http://x/v1", "https://x/v1/", "ws://x/v1", "wss://x/v1//"])
def test_an_address_ends_without_a_slash(address: str) -> None:
    protocol = "openclaw-ws" if address.startswith("ws") else "openai"
    assert model(base_url=address, protocol=protocol).base_url == address.rstrip("/")


def test_an_address_is_a_web_address() -> None:
    assert "must start with http" in bad_model(base_url="ftp://x")
    assert "openclaw-ws" in bad_model(base_url="ws://x")
    assert model(base_url=None).base_url is None


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hunter2pw@host/v1", "https://hunter2pw@host/v1", "https://:hunter2pw@host/v1",
        "https://@host/v1", "https://host/v1?key=hunter2pw", "https://host/v1?",
        "https://host/v1#hunter2pw", "https://host/v1#", "https://ho st/hunter2pw",
        "https://host/hunter2pw\n", "https://host/\x00hunter2pw", "https:///hunter2pw",
        "https://host:99999/hunter2pw", "https://host:0/hunter2pw", "https://host:x/hunter2pw",
        "https://[hunter2pw", "https://host\\@hunter2pw/", "http://" + "a" * 64 + "é.de/hunter2pw",
        "file://hunter2pw", "hunter2pw", "",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_called_is_refused_without_repeating_it(address: str) -> None:
    found = bad_model(base_url=address)
    assert "must" in found or "is no address that can be called" in found


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:11434/v1", "http://[::1]:8000/v1", "https://münchen.example/v1",
        "http://my_host:8000", "HTTPS://Host/v1", "http://10.0.0.1/a/b%20c", "https://host/v1/@x",
    ],
)  # fmt: skip
def test_an_address_that_can_be_called_is_taken(address: str) -> None:
    assert model(base_url=address).base_url == address


@pytest.mark.parametrize("values", [{"rpm": True}, {"concurrency": 0}, {"weight": 0}, {"tpm": -1}])
def test_a_model_s_limits(values: dict[str, Any]) -> None:
    assert bad_model(**values)


def test_limits_may_be_learned() -> None:
    learning = model(concurrency="auto", rpm="auto")
    assert (learning.concurrency, learning.rpm, learning.counted) == ("auto", "auto", True)
    assert not model().counted
    assert model(tpm=5).counted


@pytest.mark.parametrize("key", ["concurrency", "rpm"])
@pytest.mark.parametrize("value", ["Auto", "", "many", None, 1.5, -1, True, 10**7, [1]])
def test_what_a_limit_cannot_be(key: str, value: Any) -> None:
    assert bad_model(**{key: value})


def test_a_limit_from_the_environment_is_text() -> None:
    assert (model(rpm=Variable("40")).rpm, model(concurrency="auto").concurrency) == (40, "auto")


@pytest.mark.parametrize(
    "name",
    ["nvidia-1", "a.b_c", "模型", "x" * 64, "openai/gpt-5.1", "qwen3:8b", "@cf/x/y", "automatic"],
)
def test_names_of_models(name: str) -> None:
    assert list(Settings.model_validate({"models": {name: {"model": "m"}}}).models) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\nb",
        "a#1",
        "x" * 65,
        "auto",
        "auto:batch",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        ".",
        "..",
    ],
)
def test_names_that_no_model_can_have(name: str) -> None:
    assert faults(models={name: {"model": "m"}}) == ["models"]
    assert faults(models={"a": {"model": "m", "aliases": [name]}}) == ["models"]


def test_a_model_has_aliases() -> None:
    given = {"models": {"a": {"model": "m", "aliases": ["gpt-4o", "vendor/x"]}}}
    assert Settings.model_validate(given).models["a"].aliases == ["gpt-4o", "vendor/x"]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (["x"], ["x"], "b.aliases: 'x' is an alias of a already"),
        (["b"], [], "a.aliases: 'b' is the name of a model"),
        (["a"], [], "a.aliases: 'a' is the name of a model"),
        (["x", "x"], [], "a.aliases: 'x' is an alias of a already"),
    ],
)
def test_an_alias_means_one_model(first: list[str], second: list[str], words: str) -> None:
    models = {"a": {"model": "m", "aliases": first}, "b": {"model": "m", "aliases": second}}
    with pytest.raises(ValidationError, match=re.escape(words)):
        Settings.model_validate({"models": models})


@pytest.mark.parametrize(
    ("held", "expected"),
    [("", []), (" , ,", []), ("a", ["a"]), (" a , b,", ["a", "b"])],
)
def test_tokens_are_separated_by_commas(held: str, expected: list[str]) -> None:
    assert tokens(Settings(), {"ASYNCSVC_TOKENS": held}) == expected


def test_the_variable_of_the_tokens_can_be_chosen() -> None:
    settings = Settings.model_validate({"server": {"auth_tokens_env": "MINE"}})
    assert tokens(settings, {"ASYNCSVC_TOKENS": "a"}) == []
    assert tokens(settings, {"MINE": "b"}) == ["b"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.0.1", "localhost.example", "x"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_sections_forbid_and_freeze() -> None:
    assert Section.model_config["extra"] == "forbid"
    assert Section.model_config["frozen"]


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({"reasoning": ["b"]}, "there is no model 'b'; known: a, e"),
        ({"reasoning": ["e"]}, "e is of type embedding, not chat"),
        ({"embedding": ["a"]}, "a is of type chat, not embedding"),
        ({"simple": []}, "must name at least one model"),
        ({"simple": ["a", "a"]}, "each once"),
        ({"poetry": ["a"]}, "extra_forbidden"),
    ],
)
def test_routes_name_models_and_classes_that_exist(routes: object, message: str) -> None:
    models = {"a": {"model": "x"}, "e": {"model": "y", "type": "embedding"}}
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate({"models": models, "routes": routes})
    fine = Settings.model_validate({"models": models, "routes": {"simple": ["a"]}})
    assert fine.routes.of("simple") == ["a"]
    assert fine.routes.of("batch") is None


@pytest.mark.parametrize("rule", ["10.0.0.1/8", "127.1", "http://x", ""])
def test_what_webhooks_may_call_is_a_network_or_a_name(rule: str) -> None:
    Settings.model_validate({"webhooks": {"allow": ["10.0.0.0/8", "::1", "hooks.internal"]}})
    with pytest.raises(ValidationError, match=r"host bits|neither network nor host name"):
        Settings.model_validate({"webhooks": {"allow": [rule]}})


@pytest.mark.parametrize("waits", [[0], [-1], [604_801], [1] * 51, [True], ["soon"]])
def test_the_waits_of_webhooks_are_seconds(waits: list[object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"webhooks": {"retry_s": waits}})
