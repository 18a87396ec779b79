"""What is left of sandboxes whose service or whose call ends while they are set up."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox.bubblewrap import Bubblewrap, Programs, end_leftovers
from asyncsvc.sandbox.choice import BACKENDS
from asyncsvc.sandbox.command import Bounds, Command, Ended, Output
from asyncsvc.sandbox.mounts import mounts
from asyncsvc.sandbox.seccomp import filter_program
from asyncsvc.sandbox.self_test import LEFT_S, PREFIX, find_fault
from tests.flows.disks import injecting
from tests.needs import need

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")
ORPHANED = '"$0" -c "read line <$2" sh "$1" >/dev/null 2>&1 & echo $!'


def test_those_without_a_service_end_at_the_next_start(tmp_path: Path) -> None:
    program = shutil.copy(shutil.which("sh") or "/bin/sh", tmp_path / "bwrap")
    root = tmp_path / "workspaces"
    root.mkdir()
    fifo = tmp_path / "fifo"  # which is never written to
    os.mkfifo(fifo)

    def orphan(workspace: Path) -> psutil.Process:
        words = ["sh", "-c", ORPHANED, str(program), str(workspace), str(fifo)]
        return psutil.Process(int(subprocess.check_output(words)))

    left, other = orphan(root / "tasks/x"), orphan(tmp_path / "elsewhere")
    served = [program, "-c", "read line", "sh", root / "tasks/y"]
    with subprocess.Popen(served, stdin=subprocess.PIPE) as kept:
        try:
            if left.ppid() != 1 and not psutil.Process(left.ppid()).name().startswith("systemd"):
                need("a process whose parent has ended is not given to init here")
            assert end_leftovers(str(root)) == 1
            left.wait(30)
            assert other.is_running()
            assert kept.poll() is None, "it has a service"
        finally:
            kept.kill()
            for process in filter(psutil.Process.is_running, (left, other)):
                process.kill()


class Refusing:
    """A sandbox in which nothing runs."""

    name = "none"

    async def run(self, command: Command, output: Output) -> Ended:
        raise SandboxUnavailable("not here")


async def test_a_long_path_of_the_folder_for_temporary_files_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert await find_fault(Refusing(), Bounds()) == "not here"
    assert os.listdir(folder) == []


async def test_folders_of_killed_self_tests_are_removed_once_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old, young, other = tmp_path / f"{PREFIX}old", tmp_path / f"{PREFIX}young", tmp_path / "other"
    link, target = tmp_path / f"{PREFIX}link", tmp_path / "target"
    for folder in (old, young, other, target):
        (folder / "workspace").mkdir(parents=True)
    link.symlink_to(target)
    past = old.stat().st_mtime - LEFT_S - 60
    for folder in (old, other, target):
        os.utime(folder, (past, past))
    os.utime(link, (past, past), follow_symlinks=False)
    assert await find_fault(Refusing(), Bounds()) == "not here"
    left = sorted(os.listdir(tmp_path))
    assert left == sorted(each.name for each in (young, other, link, target))


PULSE = ["sh", "-c", "while :; do echo >>pulse; sleep 0.01; done"]


async def runs(folder: Path) -> bool:
    """Whether a program still writes its pulse, or a process of its sandbox is left.

    After a second: a program that should not start would run by then.
    """

    def size() -> int:
        return (folder / "pulse").stat().st_size if (folder / "pulse").exists() else 0

    await asyncio.sleep(1.0)
    before = size()
    await asyncio.sleep(0.2)
    words = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return size() > before or any(str(folder) in found for found in words)


async def test_a_call_given_up_while_its_sandbox_is_set_up_leaves_no_program(
    tmp_path: Path,
) -> None:
    programs = await Programs.find()
    assert isinstance(programs, Programs), programs
    # From here to the next call it is in no group that is killed, and would outlive its parent.
    tracing = [*injecting("setsid", "delay_exit=200000"), "-DDD", programs.bubblewrap]
    slowed = tmp_path / "slowed"
    slowed.write_text(f'#!/bin/sh\nexec {" ".join(tracing)} "$@"\n')
    slowed.chmod(0o755)
    programs = replace(programs, bubblewrap=str(slowed))
    sandbox = Bubblewrap(programs, mounts(), filter_program(), Bounds(), None)
    for number in range(16):
        command = Command([*PULSE, str(tmp_path)], tmp_path, timeout_s=60.0)
        call = asyncio.ensure_future(sandbox.run(command, lambda _: None))
        await asyncio.sleep(0.025 * number)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert not await runs(tmp_path)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from asyncsvc.sandbox.choice import make
from asyncsvc.sandbox.command import Bounds, Command

async def main(name, folder, delay, *words):
    sandbox = await make(name, Bounds())
    command = Command([*words, folder], Path(folder), timeout_s=60.0)
    call = asyncio.ensure_future(sandbox.run(command, lambda _: None))
    await asyncio.sleep(float(delay))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_service_killed_while_a_sandbox_is_set_up_leaves_no_program(
    name: str, tmp_path: Path
) -> None:
    for delay in (0.001, 0.005, 0.02):
        words = [sys.executable, "-c", KILLED, name, str(tmp_path), str(delay), *PULSE]
        killed = await asyncio.to_thread(subprocess.run, words, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not await runs(tmp_path)
