"""The choice of the sandbox: what passes its test is used, all else is refused with a reason."""

import logging
import os
import platform
import sys
from pathlib import Path

import pytest

from asyncsvc.config.settings import Tools
from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox import Command, Ended, Sandbox, Unavailable, bubblewrap, choice, choose
from asyncsvc.sandbox.choice import BACKENDS, make
from asyncsvc.sandbox.command import Bounds
from asyncsvc.sandbox.control_groups import PREFIX, ControlGroups, find_groups
from asyncsvc.sandbox.mounts import Mounts, mounts
from asyncsvc.sandbox.namespaces import Namespaces
from asyncsvc.sandbox.seccomp import ALLOW, RETURN, filter_program
from asyncsvc.sandbox.self_test import find_fault
from tests.sandbox.test_escapes import backend

linux = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")
BOUNDS = Bounds(memory=256 << 20)


@linux
@pytest.mark.parametrize("name", BACKENDS)
async def test_a_backend_that_holds_is_chosen(name: str) -> None:
    await backend(name)
    found = await choose(Tools(), [name], BOUNDS)
    assert not isinstance(found, Unavailable), found
    assert found.name == name


@linux
async def test_the_self_test_finds_that_nothing_holds_without_a_sandbox() -> None:
    fault = await find_fault(await backend("none"), BOUNDS)
    assert fault is not None
    for what in (
        "a file outside was read",
        "a port of this machine was reached",
        "an abstract socket was reached",
        "more processes than allowed were started",
        "more memory than allowed was taken",
        "a file got the setuid bit",
        "namespaces can be made",
        "a process outlived the call",
    ):
        assert what in fault


NO_FILTER = RETURN.to_bytes(2, "little") + bytes(2) + ALLOW.to_bytes(4, "little")


@linux
@pytest.mark.parametrize("name", BACKENDS)
async def test_a_sandbox_without_its_filter_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend(name)
    monkeypatch.setattr(choice, "filter_program", lambda: NO_FILTER)
    found = await choose(Tools(), [name], BOUNDS)
    assert isinstance(found, Unavailable)
    assert "setuid" in found.reason


@linux
async def test_a_sandbox_that_shows_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    await backend("bubblewrap")
    monkeypatch.setattr(bubblewrap.Bubblewrap, "_mounted", _with_the_hosts_tmp)
    found = await choose(Tools(), ["bubblewrap"], BOUNDS)
    assert isinstance(found, Unavailable)
    assert "a file outside was read" in found.reason


def _with_the_hosts_tmp(self: bubblewrap.Bubblewrap, workspace: Path) -> list[str]:
    return ["--dev-bind", "/", "/", "--proc", "/proc", "--bind", str(workspace), "/ws"]


@linux
async def test_a_launcher_that_cannot_mount_says_so(tmp_path: Path) -> None:
    lists = mounts()
    broken = Mounts((*lists.read_only, "/no-such-folder"), lists.links, lists.devices)
    await backend("namespaces")
    sandbox = Namespaces(broken, filter_program(), BOUNDS, None)
    with pytest.raises(SandboxUnavailable, match="no-such-folder"):
        await sandbox.run(Command(["true"], tmp_path), lambda _: None)
    assert "no-such-folder" in (await find_fault(sandbox, BOUNDS) or "")


class Silent:
    """A sandbox in which nothing runs."""

    name = "silent"

    def __init__(self, code: int) -> None:
        self._code = code

    async def run(self, command: Command, output: object) -> Ended:
        return Ended(self._code, "", False, False, 0.0)


@pytest.mark.parametrize("code", [0, 1])
async def test_a_sandbox_in_which_python_does_not_run_is_refused(code: int) -> None:
    silent: Sandbox = Silent(code)
    assert "Python does not run" in (await find_fault(silent, BOUNDS) or "")


async def test_the_next_backend_is_tried_and_every_reason_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(name: str, bounds: Bounds) -> Sandbox | str:
        return f"{name} is not there"

    monkeypatch.setattr(choice, "make", missing)
    monkeypatch.setattr(choice, "_lacking", lambda: None)
    setting = tmp_path / "setting"
    setting.write_text("1\n")
    monkeypatch.setattr(choice, "FORBIDDING", {str(setting).replace(".", "_"): "1"})
    found = await choose(Tools())
    assert isinstance(found, Unavailable)
    assert found.reason.endswith("= 1)")
    for name in BACKENDS:
        assert f"{name}: {name} is not there" in str(found)


@pytest.mark.parametrize(
    ("system", "machine", "word"),
    [("darwin", "arm64", "Linux"), ("win32", "AMD64", "Linux"), ("linux", "riscv64", "riscv64")],
)
async def test_other_systems_are_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, word: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = await choose(Tools())
    assert isinstance(found, Unavailable)
    assert word in found.reason


async def test_running_without_a_sandbox_is_logged_as_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = await choose(Tools(unsafe_no_sandbox=True))
    assert not isinstance(found, Unavailable)
    assert found.name == "none"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "tools.unsafe_no_sandbox" in caplog.text


async def test_bubblewrap_that_is_absent_or_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "SEARCH", str(tmp_path))
    assert await make("bubblewrap", BOUNDS) == "bubblewrap is not installed"
    for name in ("bwrap", "prlimit"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho '--seccomp FD'\n")
        program.chmod(0o755)
    found = await make("bubblewrap", BOUNDS)
    assert isinstance(found, str)
    assert "too old: it lacks --size" in found


@linux
def test_a_control_group_bounds_and_goes_away() -> None:
    groups = find_groups(BOUNDS)
    if groups is None:
        pytest.skip("no control group can be made here")
    group = groups.make(BOUNDS)
    assert group is not None
    try:
        assert (group.folders[-1] / "pids.max").read_text() == "64\n"
        assert all(Path(door).exists() for door in group.doors)
    finally:
        for folder in group.folders:
            folder.rmdir()


@linux
@pytest.mark.parametrize("name", BACKENDS)
async def test_no_control_group_is_left_after_a_call(name: str, tmp_path: Path) -> None:
    sandbox = await backend(name)
    await sandbox.run(Command(["true"], tmp_path), lambda _: None)
    assert _left() == []


def _left() -> list[Path]:
    return [
        path for path in Path("/sys/fs/cgroup").glob(f"**/{PREFIX}{os.getpid()}-*") if path.is_dir()
    ]


def test_a_group_of_version_2_is_one_folder(tmp_path: Path) -> None:
    group = ControlGroups((tmp_path,), unified=True).make(BOUNDS)
    assert group is not None
    (folder,) = group.folders
    assert (folder / "memory.max").read_text() == str(256 << 20)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "64"
    assert group.doors == [str(folder / "cgroup.procs")]


def test_groups_that_cannot_be_made_are_none(tmp_path: Path) -> None:
    assert ControlGroups((tmp_path / "none",), unified=True).make(BOUNDS) is None
    (tmp_path / "memory").mkdir()
    parents = (tmp_path / "memory", tmp_path / "no-pids")
    assert ControlGroups(parents, unified=False).make(BOUNDS) is None
    assert list((tmp_path / "memory").iterdir()) == []
