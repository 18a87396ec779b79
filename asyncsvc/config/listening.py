"""Where the service listens, read from the settings file and the environment alone.

For commands that only need the address: it costs a tenth of `load`, which checks all settings.
Promises the same answer as `load` wherever it gives one; for values that only `load` can judge it
gives None.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_FILE = "settings.toml"
PREFIX = "ASYNCSVC_SERVER__"


def listening(path: Path | None, environ: Mapping[str, str]) -> tuple[str, str, int] | None:
    """Return scheme, host and port of the service; None where `load` must be asked."""
    values: dict[str, Any] = {"host": "127.0.0.1", "port": 8000, "certfile": ""}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("server", {})
        except (OSError, ValueError):
            return None
        if not isinstance(table, dict):
            return None
        values |= table
    for name, text in sorted(environ.items()):
        if name.upper().startswith(PREFIX):
            key = name.upper().removeprefix(PREFIX).lower()
            whole = key == "port" and text.isascii() and text.isdigit()
            values[key] = int(text) if whole else text
    host, port, certfile = values["host"], values["port"], values["certfile"]
    if type(port) is not int or not 0 <= port <= 65535:
        return None
    if not isinstance(host, str) or not isinstance(certfile, str):
        return None
    if host[:1] in ("", "[", "{") or certfile[:1] in ("[", "{"):
        return None
    return "https" if certfile else "http", host, port


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host in ("127.0.0.1", "localhost"):
        return True
    from ipaddress import ip_address  # costs a tenth of a command's start, for rare hosts

    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
