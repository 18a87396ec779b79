"""`serve --certfile --keyfile`, and commands that talk to such a service."""

import shutil
import signal
import ssl
from pathlib import Path

import pytest

from asyncsvc.cli.client import find
from tests.cli.processes import Place, Process

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
AUTHORITY = str(CERTIFICATES / "authority.pem")
LISTENING = "listening on https://127.0.0.1:"


def install(place: Place, name: str) -> None:
    for kind in ("pem", "key"):
        shutil.copy(CERTIFICATES / f"{name}.{kind}", place.folder / f"live.{kind}")


def serve(place: Place) -> list[str]:
    install(place, "first")
    return ["serve", "--port", "0", "--certfile", "live.pem", "--keyfile", "live.key"]


def address(process: Process) -> str:
    text = process.until(LISTENING)
    return "https://" + text[text.index(LISTENING) :].split()[-1].removeprefix("https://")


def certificate(url: str) -> str:
    host, _, port = url.removeprefix("https://").rpartition(":")
    return ssl.get_server_certificate((host, int(port))).strip()


def test_commands_talk_to_it_over_https_and_wss(place: Place) -> None:
    with place.start(*serve(place)) as process:
        variables = {"ASYNCSVC_URL": address(process), "SSL_CERT_FILE": AUTHORITY}
        ended = place.run("submit", "hello", "--model", "fast", "--wait", **variables)
        assert ended.code == 0, ended.err
        assert place.run("stats", "--json", **variables).json["completed"] == 1
        for command in (["stats"], ["watch"], ["submit", "hello", "--wait"]):
            ended = place.run(*command, ASYNCSVC_URL=variables["ASYNCSVC_URL"])
            assert ended.code == 1
            assert ended.err.count("\n") == 1
            assert "SSL_CERT_FILE" in ended.err


def test_a_signal_renews_the_certificate(place: Place) -> None:
    with place.start(*serve(place)) as process:
        url = address(process)
        assert certificate(url) == (CERTIFICATES / "first.pem").read_text().strip()
        install(place, "second")
        process.signal(signal.SIGHUP)
        process.until("settings read again", "err")
        assert certificate(url) == (CERTIFICATES / "second.pem").read_text().strip()
        (place.folder / "live.key").write_text("no key")
        process.signal(signal.SIGHUP)
        process.until("settings not read again: server.certfile", "err")
        assert certificate(url) == (CERTIFICATES / "second.pem").read_text().strip()
        process.signal(signal.SIGTERM)
        ended = process.ended()
    assert ended.code == 0
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--certfile", "live.pem"], "both"),
        (["--keyfile", "live.key"], "both"),
        (["--certfile", "live.pem", "--keyfile", "none.key"], "none.key: cannot be read"),
        (["--certfile", "live.key", "--keyfile", "live.key"], "PEM"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_line_and_exit_code_2(
    place: Place, flags: list[str], word: str
) -> None:
    install(place, "first")
    ended = place.run("serve", *flags)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert word in ended.err


def test_check_reads_the_certificate(place: Place) -> None:
    install(place, "first")
    names = {"ASYNCSVC_SERVER__CERTFILE": "live.pem", "ASYNCSVC_SERVER__KEYFILE": "live.key"}
    assert place.run("check", **names).code == 0
    (place.folder / "live.pem").unlink()
    ended = place.run("check", **names)
    assert ended.code == 2
    assert "live.pem: cannot be read" in ended.err


def test_the_settings_say_that_it_is_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[server]\nport = 9\ncertfile = "a.pem"\nkeyfile = "a.key"\n'
    (tmp_path / "settings.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert find(None, {}).url == "https://127.0.0.1:9"
