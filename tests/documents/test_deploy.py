"""The files for deployment: read as their programs read them, and checked by those.

Nothing is built or started: `docs/deploy/README.md` says what was tried by hand.
"""

import configparser
import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.load import load
from asyncsvc.config.settings import Storage
from tests.documents.test_examples import unbalanced

yaml = import_module("yaml")  # it has no types of its own

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs/deploy"
SANDBOX_FORBIDDEN = (
    "RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc",
    "ProtectHostname",
)  # fmt: skip


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


class Lists(dict[str, Any]):
    """The keys of a section, of which each may come several times."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


@pytest.fixture
def unit() -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False, dict_type=Lists, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(text("asyncsvc.service"))
    return found


def test_the_unit_starts_our_command_with_paths_that_it_may_write(
    unit: configparser.RawConfigParser, tmp_path: Path
) -> None:
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "asyncsvc"
    assert words == ["serve", "--settings", "/etc/asyncsvc/settings.toml"]
    variables = dict(each.split("=", 1) for each in service["Environment"].split("\n"))
    (tmp_path / "settings.toml").touch()
    settings = load(tmp_path / "settings.toml", variables)
    for path in (settings.storage.path, settings.tools.workspace):
        assert path.startswith("/var/lib/asyncsvc/")
    assert service["StateDirectory"] == "asyncsvc"
    assert service["ExecReload"].startswith("/bin/kill -HUP")
    assert int(service["TimeoutStopSec"]) > settings.server.grace_s + 10
    assert service["RestartPreventExitStatus"] == "2"


def test_the_unit_is_hardened_and_lets_the_sandbox_be_made(
    unit: configparser.RawConfigParser,
) -> None:
    service = unit["Service"]
    assert service["User"] not in ("", "root")
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert not [name for name in SANDBOX_FORBIDDEN if name in service]
    assert {"@system-service", "@mount", "seccomp", "sethostname"} == set(
        service["SystemCallFilter"].split()
    )
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]  # a loopback of its own


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is absent: the unit was read by our own test alone")
    unit = tmp_path / "asyncsvc.service"
    unit.write_text(text("asyncsvc.service").replace("/opt/asyncsvc/bin/asyncsvc", "/bin/true"))
    done = subprocess.run(
        [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    faults = [line for line in done.stderr.splitlines() if "asyncsvc.service" in line]
    assert faults == []


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and their arguments."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", dockerfile))
    return [(line.split()[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def test_the_image_is_small_unprivileged_and_watched() -> None:
    found = steps(text("Dockerfile"))
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "EXPOSE", "USER", "STOPSIGNAL",
             "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {name for name, _ in found} <= known
    bases = [argument for name, argument in found if name == "FROM"]
    assert len(bases) == 2
    assert all("-slim" in base for base in bases), "a build stage, and an image without it"
    last = dict(found)
    assert last["USER"].split(":")[0].isdigit()
    assert int(last["USER"].split(":")[0]) > 0
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["VOLUME"] in last["ENV"]
    compile(re.findall(r'"(import .*)"\]', last["HEALTHCHECK"])[0], "health check", "exec")
    assert "/livez" in last["HEALTHCHECK"]
    copied = [word for name, words in found if name == "COPY" and "--from" not in words
              for word in words.split()[:-1]]  # fmt: skip
    ignored = text("Dockerfile.dockerignore").splitlines()
    assert ignored[0] == "*"
    for word in copied:
        assert (ROOT / word).exists()
        assert f"!{word.removeprefix('./')}" in ignored
    variables = dict(pair.split("=", 1) for pair in last["ENV"].split())
    settings = load(None, {k: v for k, v in variables.items() if k.startswith("ASYNCSVC_")} | {
        "ASYNCSVC_TOKENS": "a-long-token-of-mine"})  # fmt: skip
    assert settings.storage.path.startswith(last["VOLUME"])


def test_compose_keeps_the_container_small_and_its_data() -> None:
    found = yaml.safe_load(text("compose.yaml"))
    service = found["services"]["asyncsvc"]
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == dict(steps(text("Dockerfile")))["USER"]
    volume, path = service["volumes"][0].split(":")
    assert volume in found["volumes"]
    assert path == dict(steps(text("Dockerfile")))["VOLUME"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert ":?" in service["environment"]["ASYNCSVC_TOKENS"], "without tokens it must not start"
    assert service["restart"] == "unless-stopped"


def test_the_proxies_pass_on_what_streams_need() -> None:
    nginx = text("nginx.conf")
    for line in (
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Host $http_host;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
    ):
        assert line in nginx
    assert nginx.count("{") == nginx.count("}")
    most = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(most[0]) << 20 >= Storage().max_file_bytes
    assert "flush_interval -1" in text("Caddyfile")
    for name in ("nginx.conf", "Caddyfile"):
        assert 'trusted_proxies = ["127.0.0.1"]' in text(name)


def test_the_script_for_windows_is_whole() -> None:
    assert unbalanced(text("windows-task.ps1")) is None
    assert text("windows-task.ps1").isascii()


def test_each_file_is_named_with_what_was_tried() -> None:
    rows = re.findall(r"^\| (\[.*?) \|", text("README.md"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\(([\w.-]+)\)", row)}
    files = {path.name for path in DEPLOY.iterdir()} - {"README.md", "Dockerfile.dockerignore"}
    assert named == files
