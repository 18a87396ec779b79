"""Nothing gets out of a sandbox, whichever backend it has; without one, nearly everything does."""

import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import asyncsvc
from asyncsvc.sandbox import Command, Sandbox
from asyncsvc.sandbox.choice import BACKENDS, make
from asyncsvc.sandbox.command import Bounds
from asyncsvc.sandbox.control_groups import find_groups
from asyncsvc.sandbox.system_calls import NUMBERS, number
from tests.needs import need
from tests.sandbox.probes import KINDS, Probe
from tests.sandbox.runner import PROGRAM

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")
CANARY = "a-canary-that-nothing-else-holds"
BOUNDS = Bounds(memory=256 << 20)
TIMEOUT_S = 90.0
NAMESPACES = ("user", "pid", "net", "mnt", "ipc", "uts", "cgroup")


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return await backend(request.param)


async def backend(name: str) -> Sandbox:
    made = await make(name, BOUNDS)
    if isinstance(made, str):
        need(made)
    assert not isinstance(made, str)
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def world(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What is outside: a file, its open descriptor, sockets, a process, a repository, a key."""
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    (workspace / "planted").symlink_to(secret)
    monkeypatch.setenv("CANARY_KEY", CANARY)
    with ExitStack() as stack:
        kept = stack.enter_context(secret.open())
        os.set_inheritable(kept.fileno(), True)
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port6 = stack.enter_context(socket.socket(socket.AF_INET6))
        port6.bind(("::1", 0))
        port6.listen()
        abstract = f"canary-{os.getpid()}-{tmp_path.name}"
        # A socket's path has at most 107 bytes, so it is bound by a shorter name.
        near = "/dev/shm" if tmp_path.is_relative_to("/dev/shm") else "/tmp"
        short = Path(f"{near}/canary-{os.getpid()}")
        for address in (f"\0{abstract}", str(short)):
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(address)
            listening.listen()
        stack.callback(short.unlink, missing_ok=True)
        os.link(short, workspace / "socket")
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(f"{short}-datagrams")
        os.rename(f"{short}-datagrams", workspace / "datagrams")
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(victim.kill)
        repository = tmp_path / "repository"
        _repository(repository)
        device = os.stat("/").st_dev
        yield {
            "canary": CANARY,
            "file": str(secret),
            "folder": str(tmp_path),
            "source": asyncsvc.__file__,
            "repository": str(repository),
            "pid": os.getpid(),
            "victim": victim.pid,
            "host": platform.node(),
            "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES},
            "disk": [os.major(device), os.minor(device)],
            "port": port.getsockname(),
            "port6": port6.getsockname()[1],
            "abstract": abstract,
            "socket": str(short),
            "processes": BOUNDS.processes,
            "memory": BOUNDS.memory,
            "calls": {
                name: found
                for name in NUMBERS
                if (found := number(name, platform.machine())) is not None
            },
        }


def _repository(folder: Path) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    folder.mkdir()
    (folder / "secret").write_text(CANARY)
    for words in (["init", "-q"], ["add", "secret"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)


async def verdicts(
    sandbox: Sandbox, probes: list[Probe], workspace: Path, world: dict[str, Any]
) -> dict[str, str]:
    """What each probe came to, each in a process of its own in one sandbox."""
    given = {"world": world, "probes": [(probe.name, probe.code) for probe in probes]}
    ended = await sandbox.run(
        Command(
            ["-I", "-c", PROGRAM],
            workspace,
            stdin=json.dumps(given).encode(),
            timeout_s=TIMEOUT_S,
            python=True,
        ),
        lambda _: None,
    )
    assert ended.exit_code == 0, ended
    return dict(json.loads(line) for line in ended.output.splitlines())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sandbox", BACKENDS, indirect=True)
async def test_no_probe_escapes(
    sandbox: Sandbox, kind: str, workspace: Path, world: dict[str, Any]
) -> None:
    probes = KINDS[kind]
    if kind == "totals" and find_groups(BOUNDS) is None:
        pytest.skip("only a control group bounds many processes, and none can be made here")
    found = await verdicts(sandbox, probes, workspace, world)
    assert {name: verdict for name, verdict in found.items() if verdict != "held"} == {}
    assert len(found) == len(probes)
    assert "reached" not in os.listdir(world["folder"])


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_probes_escape_without_a_sandbox(
    kind: str, workspace: Path, world: dict[str, Any]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("without a sandbox an ordinary user is held by much that is not ours")
    probes = [probe for probe in KINDS[kind] if probe.free is None]
    found = await verdicts(await backend("none"), probes, workspace, world)
    assert {name: verdict for name, verdict in found.items() if verdict != "escaped"} == {}


def test_there_are_enough_probes_and_each_has_its_own_name() -> None:
    names = [(kind, probe.name) for kind, probes in KINDS.items() for probe in probes]
    assert len(names) == len(set(names)) >= 60


DAEMON = """
import os, sys, time
if not os.fork():
    os.setsid()
    if not os.fork():
        while True:
            with open("pulse", "a") as file:
                file.write(".")
            time.sleep(0.01)
    os._exit(0)
while not os.path.exists("pulse"):
    time.sleep(0.01)
print("started", flush=True)
"""


@pytest.mark.parametrize("sandbox", BACKENDS, indirect=True)
@pytest.mark.parametrize("rest", ["", "time.sleep(600)"], ids=["ends", "runs out of time"])
async def test_no_process_outlives_the_call(sandbox: Sandbox, workspace: Path, rest: str) -> None:
    command = Command(
        ["-I", "-c", DAEMON + rest], workspace, timeout_s=8.0 if rest else 60.0, python=True
    )
    ended = await sandbox.run(command, lambda _: None)
    assert ended.output == "started\n"
    assert ended.timed_out == bool(rest)
    pulse = workspace / "pulse"
    before = pulse.read_bytes()
    await asyncio.sleep(0.3)
    assert pulse.read_bytes() == before
