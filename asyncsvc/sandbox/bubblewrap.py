"""The backend that uses bubblewrap, the launcher of Flatpak.

Owns its arguments. Promises namespaces of every kind, the allow-list of mounts, the filter of
system calls, rlimits and a control group where one can be made; an empty environment also for
bubblewrap itself, which the program could read. Never runs a program when one of them fails.
"""

import asyncio
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from asyncsvc.sandbox.command import Bounds, Command, Ended, Output
from asyncsvc.sandbox.control_groups import ControlGroups, Group, make_group
from asyncsvc.sandbox.mounts import HOST, ID, SHARED_MEMORY, WORKSPACE, Mounts
from asyncsvc.sandbox.supervisor import Process, sealed, supervise

SEARCH = "/usr/bin:/bin:/usr/local/bin"
NEEDED = ("--seccomp", "--size", "--remount-ro", "--as-pid-1")
HELP_S = 5.0
DEVICES_BYTES = 65_536
"""Room for /dev, which holds names only."""
BEFORE = """
if [ "$1" = root ]; then mount -o rbind,ro /dev /dev || exit 125; fi
shift
while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done
shift
exec env -i "$@"
"""
"""What a shell does before bubblewrap starts: it joins the control groups, so that no process is
ever outside them, and sets no variable that goes further. Where the service is root, devices are
made read-only first, in a mount namespace of its own: they can be written all the same, but a
program, which owns them there, cannot change their mode for the whole machine. What is mounted
below /dev stays, as a workspace may be in memory there."""
FIRST = r"""
printf '\0' >&2
read -r _ <&2 || exit 125
exec 2>/dev/null
"$@" 2>&1
exit $?
"""
"""Process 1 is a shell from the allow-list, never bubblewrap: /proc/1/exe would lead to its file
outside, whose mode a program could change where the service is root. It starts the program after
the handshake, for which its stderr is the socket."""


@dataclass(frozen=True, slots=True)
class Programs:
    """bubblewrap and prlimit (util-linux), and whether bubblewrap can forbid user namespaces."""

    bubblewrap: str
    prlimit: str
    disables_namespaces: bool

    @classmethod
    async def find(cls) -> Self | str:
        """The programs, or why they cannot be used."""
        found = {name: shutil.which(name, path=SEARCH) for name in ("bwrap", "prlimit")}
        bubblewrap, prlimit = found["bwrap"], found["prlimit"]
        if bubblewrap is None:
            return "bubblewrap is not installed"
        if prlimit is None:
            return "prlimit (util-linux) is not installed"
        offered = await _help(bubblewrap)
        lacking = [option for option in NEEDED if option not in offered]
        if lacking:
            return f"this bubblewrap is too old: it lacks {', '.join(lacking)}"
        return cls(bubblewrap, prlimit, "--disable-userns" in offered)


async def _help(program: str) -> set[str]:
    child = await asyncio.create_subprocess_exec(
        program,
        "--help",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={},
    )
    try:
        text, _ = await asyncio.wait_for(child.communicate(), HELP_S)
    except TimeoutError:
        child.kill()
        await child.wait()
        return set()
    return set(text.decode(errors="replace").split())


class Bubblewrap:
    """Runs commands under bubblewrap."""

    name = "bubblewrap"

    def __init__(
        self,
        programs: Programs,
        mounts: Mounts,
        filter_program: bytes,
        bounds: Bounds,
        groups: ControlGroups | None,
    ) -> None:
        self._programs = programs
        self._mounts = mounts
        self._filter = filter_program
        self._bounds = bounds
        self._groups = groups

    async def run(self, command: Command, output: Output) -> Ended:
        words = command.words()
        group = make_group(self._groups, self._bounds)
        try:
            calls = sealed(self._filter)
            argv = [*_before(group), *self._argv(command, words, calls)]
            process = Process(argv, {}, Path("/"), (calls,), self._bounds.disk, sandboxed=True)
            return await supervise(process, command, output)
        finally:
            if group is not None:
                await group.remove()

    def _argv(self, command: Command, words: list[str], calls: int) -> list[str]:
        environment = [
            word
            for name, value in command.variables().items()
            for word in ("--setenv", name, value)
        ]
        return [
            self._programs.bubblewrap,
            *("--unshare-all", "--unshare-user", "--hostname", HOST),
            *(("--disable-userns",) if self._programs.disables_namespaces else ()),
            *("--uid", str(ID), "--gid", str(ID), "--cap-drop", "ALL"),
            *("--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"),
            *environment,
            *("--seccomp", str(calls)),
            *self._mounted(command.workspace),
            *("--chdir", WORKSPACE, "--", "/bin/sh", "-c", FIRST, "sh"),
            *self._limited(command.timeout_s),
            *words,
        ]

    def _mounted(self, workspace: Path) -> list[str]:
        """The mounts in order: a later one lies over an earlier one."""
        arguments = ["--size", str(DEVICES_BYTES), "--tmpfs", "/dev"]
        for path in self._mounts.read_only:
            arguments += ["--ro-bind", path, path]
        for path in self._mounts.devices:
            arguments += ["--dev-bind", path, path]
        for path, target in self._mounts.links:
            arguments += ["--symlink", target, path]
        arguments += ["--size", str(SHARED_MEMORY), "--perms", "1777", "--tmpfs", "/dev/shm"]
        arguments += ["--size", str(self._bounds.scratch), "--perms", "1777", "--tmpfs", "/tmp"]
        arguments += ["--proc", "/proc", "--bind", os.path.realpath(workspace), WORKSPACE]
        for path in ("/proc", "/dev", "/"):
            arguments += ["--remount-ro", path]
        return arguments

    def _limited(self, timeout_s: float) -> list[str]:
        # Inside: a limit on processes that is set outside would count all those of the user.
        bounds = self._bounds
        return [
            self._programs.prlimit,
            f"--as={bounds.memory}",
            f"--fsize={bounds.file}",
            f"--nofile={bounds.descriptors}",
            f"--nproc={bounds.processes}",
            f"--cpu={bounds.cpu_s(timeout_s)}",
            "--core=0",
            "--",
        ]


def end_leftovers(root: str) -> int:
    """Kill each bubblewrap without a service whose workspace is below `root`; their number.

    One whose service is killed while it still sets up its sandbox runs nothing, but waits for
    ever. It blocks: call it in a thread.
    """
    below, ended = os.path.realpath(root) + os.sep, 0
    for process in psutil.process_iter(["ppid", "cmdline"]):
        words = process.info["cmdline"] or [""]
        ours = any(word.startswith(below) for word in words)
        if ours and os.path.basename(words[0]) == "bwrap" and _orphan(process):
            with suppress(psutil.Error):
                process.kill()
                ended += 1
    return ended


def _orphan(process: psutil.Process) -> bool:
    """Whether init, or the init of a user, has taken the process over."""
    with suppress(psutil.Error):
        parent = process.parent()
        return parent is None or parent.pid == 1 or parent.name().startswith("systemd")
    return False


def _before(group: Group | None) -> list[str]:
    doors = group.doors if group is not None else []
    root = os.geteuid() == 0
    alone = ["unshare", "--mount"] if root else []
    return [*alone, "/bin/sh", "-c", BEFORE, "sh", "root" if root else "user", *doors, "--"]
