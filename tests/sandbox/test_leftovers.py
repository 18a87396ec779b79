"""Sandboxes that a killed service has left behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox.bubblewrap import end_leftovers
from asyncsvc.sandbox.command import Bounds, Command, Ended, Output
from asyncsvc.sandbox.self_test import LEFT_S, PREFIX, find_fault
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
