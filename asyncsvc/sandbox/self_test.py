"""The self-test of a sandbox: a program that tries to get out, run once at start.

Owns the program and what it tries to reach. Promises the sentence that says what it reached, in
about half a second, and that nothing of it is left. Never decides what follows.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox.command import Bounds, Command, Sandbox

TIMEOUT_S = 10.0
"""A machine under load starts Python slowly. On an idle one a test takes 0.3 s."""
PULSE_S = 0.15
SOCKET_BYTES = 100
"""Length of a path up to which each system takes it as the address of a socket (Linux: 107)."""
PREFIX, LEFT_S = "asyncsvc-sandbox-", 3600
"""Of its folders; one that is an hour older than a new one belongs to no self-test any more."""
GREETING = b"hello"
PROGRAM = """
import json, os, signal, socket, stat, sys, time

canary = json.loads(sys.argv[1])
held = sys.stdin.read() == "hello"
with open("written", "w") as file:
    file.write("hello")


def attempt(what, action):
    try:
        reached = action()
    except (OSError, MemoryError, ValueError, AttributeError):
        return
    if reached is not False:
        print("escaped: " + what, flush=True)


def make(path):
    open(path, "x").close()
    os.unlink(path)


def connect(family, address):
    with socket.socket(family) as made:
        made.settimeout(0.5)
        made.connect(address)


def forks():
    children = []
    try:
        for _ in range(canary["processes"] + 8):
            child = os.fork()
            if not child:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError:
        return False
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def setuid():
    with open("own", "w"):
        pass
    os.chmod("own", 0o4755)


def ptrace():
    import ctypes
    child = os.fork()
    if not child:
        os._exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)
    return os.waitpid(child, 0)[1] == 0


def namespaces():
    import ctypes
    return ctypes.CDLL(None).unshare(0x10000000) == 0


def environment():
    own = {name + "=" + value for name, value in os.environ.items()}
    with open("/proc/1/environ") as file:
        return not set(file.read().split("\\0")) <= {*own, ""}


def descriptors():
    return len(os.listdir("/proc/self/fd")) > 4


attempt("a file outside was read", lambda: open(canary["file"]).close())
attempt("a file outside could be written", lambda: open(canary["file"], "a").close())
for path in ("/left-over", "/usr/left-over", "/etc/left-over"):
    attempt("a file was made in " + os.path.dirname(path), lambda: make(path))
attempt("the kernel's settings could be written",
        lambda: open("/proc/sys/kernel/core_pattern", "r+").close())
attempt("a port of this machine was reached",
        lambda: connect(socket.AF_INET, tuple(canary["port"])))
attempt("an abstract socket was reached", lambda: connect(socket.AF_UNIX, "\\0" + canary["name"]))
attempt("a socket's file was reached", lambda: connect(socket.AF_UNIX, canary["path"]))
for path in ("/dev/null", "/proc/1/exe"):
    attempt("the mode of " + path + " could be changed",
            lambda: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode)))
attempt("the environment of process 1 was read", environment)
attempt("descriptors were inherited", descriptors)
attempt("more processes than allowed were started", forks)
attempt("more memory than allowed was taken", lambda: bytearray(canary["memory"]) and None)
attempt("a file got the setuid bit", setuid)
attempt("ptrace is allowed", ptrace)
attempt("namespaces can be made", namespaces)
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
if held:
    print("ended", flush=True)
"""


async def find_fault(sandbox: Sandbox, bounds: Bounds) -> str | None:
    """Why a sandbox does not hold, or cannot run programs; None where it is good."""
    with _canary(bounds) as (workspace, canary):
        command = Command(
            ["-I", "-c", PROGRAM, json.dumps(canary)],
            workspace,
            stdin=GREETING,
            timeout_s=TIMEOUT_S,
            python=True,
        )
        try:
            ended = await sandbox.run(command, lambda _: None)
        except (SandboxUnavailable, OSError) as error:
            return str(error)
        lines = ended.output.splitlines()
        escapes = [line.removeprefix("escaped: ") for line in lines if line.startswith("escaped: ")]
        pulse = workspace / "pulse"
        before = _size(pulse)
        await asyncio.sleep(PULSE_S)
        if _size(pulse) > before:
            escapes.append("a process outlived the call")
        if escapes:
            return "; ".join(escapes)
        if ended.timed_out or ended.exit_code != 0 or "ended" not in lines:
            return f"Python does not run in it: {ended.output.strip()[-300:] or 'no output'}"
        if not _size(workspace / "written"):
            return "the workspace cannot be written"
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sweep(new: Path) -> None:
    """Remove what self-tests of services that were killed have left beside the new folder."""
    mine = new.stat()
    for found in new.parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            other = found.lstat()
            old = other.st_mtime < mine.st_mtime - LEFT_S
            if old and other.st_uid == mine.st_uid and not found.is_symlink():
                shutil.rmtree(found)


@contextmanager
def _canary(bounds: Bounds) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A workspace, and a file and three sockets outside that must not be reached from it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        _sweep(folder)
        (folder / "workspace").mkdir()
        file = folder / "canary"
        file.write_text("canary")
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        path = str(folder / "socket")
        if len(os.fsencode(path)) > SOCKET_BYTES:
            short = tempfile.TemporaryDirectory(prefix=PREFIX, dir="/tmp")
            path = f"{stack.enter_context(short)}/socket"
        name = f"asyncsvc-{secrets.token_hex(8)}"
        addresses = [path, f"\0{name}"] if sys.platform == "linux" else [path]
        for address in addresses:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(address)
            listening.listen()
        canary = {
            "file": str(file),
            "port": port.getsockname(),
            "path": path,
            "name": name,
            "processes": bounds.processes,
            "memory": bounds.memory + (64 << 20),
        }
        yield folder / "workspace", canary
