"""Where the service is, for the commands that talk to one.

Owns the order: --url, ASYNCSVC_URL, the host and port of the settings. Promises that a
loopback address is never looked for behind a proxy. Never opens a connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from asyncsvc.cli.failure import MISUSED, Failure

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}
"""Addresses that a server listens on but nobody can call."""


@dataclass(frozen=True, slots=True)
class Address:
    """`url` has no slash at its end."""

    url: str
    token: str | None = field(default=None, repr=False)
    direct: bool = True

    @property
    def websocket_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find(url: str | None, environ: Mapping[str, str]) -> Address:
    """`url` is the flag's or the variable's. Raises Failure, or SettingsError of the file."""
    from asyncsvc.config.settings import is_loopback

    found = _checked(url) if url else _of_settings(environ)
    host = urlsplit(found).hostname or ""
    return Address(found, environ.get("ASYNCSVC_TOKEN") or None, is_loopback(host))


def _checked(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Failure(f"{url!r} is no address; one looks like http://127.0.0.1:8000", MISUSED)
    return full.rstrip("/")


def _of_settings(environ: Mapping[str, str]) -> str:
    from asyncsvc.cli.files import settings_file
    from asyncsvc.config.load import load
    from asyncsvc.errors import SettingsError

    file = settings_file(None)
    try:
        server = load(file, environ).server
    except SettingsError:
        # A service that other machines can reach needs its tokens in its own environment, not
        # in that of a client; on its own machine it answers on loopback too.
        server = load(file, environ, {"server": {"host": "127.0.0.1"}}).server
    host = ANYWHERE.get(server.host, server.host)
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{shown}:{server.port}"
