"""The backend with a launcher of our own, for Linux without bubblewrap.

Owns the description that the launcher gets. Promises the walls of bubblewrap and Landlock beside
them, made by system calls in a process of its own: the service has threads and never forks.
"""

import marshal
import os
from pathlib import Path

from asyncsvc.sandbox.command import Bounds, Command, Ended, Output, interpreter
from asyncsvc.sandbox.control_groups import ControlGroups, make_group
from asyncsvc.sandbox.mounts import HOST, ID, SHARED_MEMORY, WORKSPACE, Mounts
from asyncsvc.sandbox.supervisor import Process, sealed, supervise

LAUNCHER = Path(__file__).with_name("launcher.py")
WRITABLE = (WORKSPACE, "/tmp", "/dev/shm", "/dev/null", "/dev/full", "/dev/zero")


class Namespaces:
    """Runs commands under the launcher."""

    name = "namespaces"

    def __init__(
        self, mounts: Mounts, filter_program: bytes, bounds: Bounds, groups: ControlGroups | None
    ) -> None:
        self._mounts = mounts
        self._filter = filter_program
        self._bounds = bounds
        self._groups = groups

    async def run(self, command: Command, output: Output) -> Ended:
        words = command.words()
        group = make_group(self._groups, self._bounds)
        try:
            description = sealed(self._description(command, words, group.doors if group else []))
            argv = [str(interpreter()), "-I", "-S", str(LAUNCHER), str(description)]
            process = Process(
                argv, {}, Path("/"), (description,), self._bounds.disk, sandboxed=True
            )
            return await supervise(process, command, output)
        finally:
            if group is not None:
                await group.remove()

    def _description(self, command: Command, words: list[str], groups: list[str]) -> bytes:
        bounds = self._bounds
        wanted = {
            "words": words,
            "environment": command.variables(),
            "workspace": os.path.realpath(command.workspace),
            "workspace_at": WORKSPACE,
            "read_only": self._mounts.read_only,
            "links": self._mounts.links,
            "devices": self._mounts.devices,
            "shared_memory": SHARED_MEMORY,
            "scratch": bounds.scratch,
            "writable": WRITABLE,
            "host": HOST,
            "identity": ID,
            "groups": groups,
            "filter": self._filter,
            "limits": [
                ("RLIMIT_AS", bounds.memory),
                ("RLIMIT_FSIZE", bounds.file),
                ("RLIMIT_NOFILE", bounds.descriptors),
                ("RLIMIT_NPROC", bounds.processes),
                ("RLIMIT_CPU", bounds.cpu_s(command.timeout_s)),
                ("RLIMIT_CORE", 0),
            ],
        }
        # Not json: the launcher would be busy for longer importing it than with all else.
        return marshal.dumps(wanted)
