"""Addresses of models that are probably a slip."""

import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.providers.addresses import is_public, warnings


def found(**fields: object) -> list[str]:
    return warnings(Settings.model_validate({"models": {"a": {"model": "m", **fields}}}))


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"base_url": "https://api.example.com"}, "https://api.example.com/v1"),
        ({"preset": "vllm", "base_url": "http://box:8000/"}, "http://box:8000/v1"),
        ({"preset": "zhipu", "base_url": "https://api.z.ai"}, "https://api.z.ai/api/paas/v4"),
        ({"preset": "deepseek", "base_url": "https://api.deepseek.com"}, None),
        ({"base_url": "https://api.example.com/openai"}, None),
        ({"preset": "zhipu"}, None),
    ],
)
def test_an_address_without_its_path_is_noticed(
    fields: dict[str, object], meant: str | None
) -> None:
    lines = found(**fields)
    assert len(lines) == (meant is not None)
    assert meant is None or lines[0].endswith(f": {meant}")


def test_a_key_that_travels_readable_is_noticed() -> None:
    public = {"base_url": "http://api.example.com/v1", "api_key_env": "K"}
    assert "https://api.example.com" in found(**public)[0]
    assert found(**public | {"base_url": "https://api.example.com/v1"}) == []
    assert found(**public | {"base_url": "http://10.0.0.7/v1"}) == []
    assert found(base_url="http://api.example.com/v1") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.168.1.2", "box", "box.lan", "x.local."])
def test_hosts_of_the_own_network_are_not_public(host: str) -> None:
    assert not is_public(host)
    assert is_public("8.8.8.8")
    assert is_public("api.example.com")
