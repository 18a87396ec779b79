"""Host and port by the file and the environment alone: the same as by all settings."""

from pathlib import Path

import pytest

from asyncsvc.config.listening import listening
from asyncsvc.config.load import load
from asyncsvc.errors import SettingsError

HOST, PORT, CERTIFICATE = (f"ASYNCSVC_SERVER__{name}" for name in ("HOST", "PORT", "CERTFILE"))
TLS = {CERTIFICATE: "a.pem", "ASYNCSVC_SERVER__KEYFILE": "a.key"}


@pytest.mark.parametrize("environ", [{}, {PORT: "9"}, {HOST: "::1"}, {PORT.lower(): "7"}, TLS])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[server]\n",
        '[server]\nport = 9000\nhost = "localhost"\n',
        '\ufeff[server]\nhost = "::1"\nport = 0\n',
        '[server]\ncertfile = "b.pem"\nkeyfile = "b.key"\n[queue]\nmax_length = 7\n',
    ],
)
def test_it_is_the_same_as_by_all_settings(
    text: str, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    server = load(file, environ).server
    assert listening(file, environ) == (server.scheme, server.host, server.port)


def test_without_a_file_the_defaults_count() -> None:
    server = load(None, {}).server
    assert listening(None, {}) == (server.scheme, server.host, server.port)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("[server", {}),
        ("server = 1", {}),
        ('[server]\nport = "9000"\n', {}),
        ("[server]\nport = true\n", {}),
        ("[server]\nport = 70000\n", {}),
        ("[server]\nhost = 1\n", {}),
        ("", {PORT: "x"}),
        ("", {PORT: "٣"}),
        ("", {PORT: "70000"}),
        ("", {CERTIFICATE: '["a"]'}),
    ],
)
def test_what_is_wrong_is_left_to_all_settings(
    text: str, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    assert listening(file, environ) is None
    if environ.get(PORT) != "٣":  # pydantic takes it
        with pytest.raises(SettingsError):
            load(file, environ)


def test_a_file_that_is_not_there_is_left_to_all_settings(tmp_path: Path) -> None:
    assert listening(tmp_path / "settings.toml", {}) is None
