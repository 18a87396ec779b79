"""Warnings about the addresses of models: what is probably a slip, with the address that is meant.

Owns the guesses; what can only be wrong is a fault of the settings and stops the start. Promises
that no warning holds a user or a secret of an address.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from asyncsvc.config.settings import Model, Settings
from asyncsvc.providers.dialects import PRESETS

PRIVATE_ENDINGS = (".local", ".internal", ".lan", ".localhost", ".home.arpa", ".test")


def warnings(settings: Settings) -> list[str]:
    """Return one line for each address that is probably not what is meant."""
    return [
        f"models.{name}.base_url: {line}"
        for name, model in settings.models.items()
        if model.enabled and model.base_url
        for line in _of(model, model.base_url)
    ]


def _of(model: Model, base_url: str) -> Iterator[str]:
    parts = urlsplit(base_url)
    shown = f"{parts.scheme}://{parts.netloc}"
    usual = PRESETS[model.preset].base_url if model.preset in PRESETS else "/v1"
    path = urlsplit(usual or "").path
    if path and parts.path in ("", "/") and parts.scheme in ("http", "https"):
        yield f"{shown} has no path, but such addresses end with {path}: {shown}{path}"
    if parts.scheme in ("http", "ws") and model.key_variables and is_public(parts.hostname or ""):
        yield f"{parts.scheme}:// sends the key readable to {parts.hostname}: use {_safe(shown)}"


def _safe(shown: str) -> str:
    scheme, _, rest = shown.partition("://")
    return f"{scheme}s://{rest}"


def is_public(host: str) -> bool:
    """Whether a host lies outside of this machine and its own network, as far as its name says."""
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host.strip(".") and not host.lower().rstrip(".").endswith(PRIVATE_ENDINGS)
