"""The process of a command, from its start to the end of its output.

Owns pipes, time limit and kill. Promises that a call ends within a second of its limit, though a
grandchild holds the pipe; that output is read in pieces and no more than FLOOD_BYTES beyond what
is kept; and that an abandoned call leaves no process. Never knows how a sandbox is made.
"""

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox.command import Command, Ended, Output
from asyncsvc.sandbox.handshake import Handshake
from asyncsvc.sandbox.kept_output import KeptOutput

FLOOD_BYTES = 10_000_000
"""Output beyond the kept part after which the program is killed."""
PIECE_BYTES = 65_536
DRAIN_S = 0.25
"""How long output is awaited after the program's end: only a process that outlives it can still
hold the pipe."""
DISK_S = 0.1
"""How often the disk is looked at."""
MOST_FILES = 100_000
SIGNALLED = 128
"""From here on exit codes are of a signal: the sandbox itself was killed, for want of memory."""
NICE = 10
"""By how much programs step back behind the service where both want the processor."""


@dataclass(frozen=True, slots=True)
class Process:
    """What to start. `descriptors` stay open in it; here they are closed in any case.

    It is killed when the workspace's file system has lost `disk` bytes since. One that is
    `sandboxed` makes a sandbox first, and takes part in the handshake by its stderr.
    """

    argv: Sequence[str]
    environ: Mapping[str, str]
    folder: Path
    descriptors: Sequence[int] = ()
    disk: int | None = None
    sandboxed: bool = False


class Stop(Enum):
    """Why a process is killed."""

    TIMEOUT = "timeout"
    OUTPUT = "output"
    DISK = "disk"


async def supervise(process: Process, command: Command, output: Output) -> Ended:
    """Start a process, give it stdin, read its output, and kill it at its limits.

    Raises SandboxUnavailable where the sandbox of a sandboxed process could not be set up.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    handshake = None
    try:
        handshake = Handshake(loop) if process.sandboxed else None
        source, sink = os.pipe()
    except OSError:  # no more descriptors
        if handshake is not None:
            handshake.close()
        _close(process.descriptors)
        raise
    kept = KeptOutput(command.max_output_bytes, output)
    reader = _Reader(loop, source, kept, max(command.max_output_bytes, 0) + FLOOD_BYTES)
    try:
        child = _start(process, command.stdin, sink, handshake)
        try:
            stop = await _run(child, reader, command, process.disk)
        finally:
            await _end(child, handshake)
        if stop is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reader.end), DRAIN_S)
            _check(handshake, _exit_code(child.returncode))
    finally:
        reader.close()
        if handshake is not None:
            handshake.close()
    if (failure := reader.failure) is not None:
        reader.failure = None
        try:
            raise failure
        finally:
            del failure  # else it would hold its own frame, and the output with it
    lines = {
        Stop.OUTPUT: f"\n[killed after {kept.read} bytes of output]",
        Stop.DISK: "\n[killed because it took too much of the disk]",
    }
    last = lines.get(stop, "") if stop is not None else ""
    return Ended(
        exit_code=_exit_code(child.returncode) if stop is None else None,
        output=kept.text(last),
        truncated=kept.truncated,
        timed_out=stop is Stop.TIMEOUT,
        duration_s=loop.time() - began,
    )


def _check(handshake: Handshake | None, code: int | None) -> None:
    """Raises SandboxUnavailable where a sandbox ended by itself before it was set up."""
    if handshake is not None and not handshake.completed and code is not None and code < SIGNALLED:
        raise SandboxUnavailable(f"the sandbox could not be set up: {handshake.text()}")


class Child:
    """A process that has been started with no descriptors but its own.

    Not by the event loop: uvloop passes on whatever is inheritable, and copies that it makes of
    descriptors by itself.
    """

    def __init__(self, process: Process, stdin: int, sink: int, errors: int) -> None:
        """Raises OSError where there is nothing to start."""
        self._child = subprocess.Popen(
            process.argv,
            stdin=stdin,
            stdout=sink,
            stderr=errors,
            env=dict(process.environ),
            cwd=process.folder,
            pass_fds=tuple(process.descriptors),
            start_new_session=True,
        )
        self.pid = self._child.pid
        if hasattr(os, "setpriority"):
            with suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PGRP, self.pid, NICE)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(self.pid)
            self._loop.add_reader(descriptor, self._seen, descriptor)
        else:
            threading.Thread(target=self._await, daemon=True).start()

    @property
    def returncode(self) -> int | None:
        """The exit code once the process has ended; negative for a signal."""
        return self._ended.result() if self._ended.done() else None

    def lives(self) -> bool:
        """Whether it has not ended, though that may not have been seen yet."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    async def wait(self) -> int:
        """Wait for the end; the exit code."""
        return await asyncio.shield(self._ended)

    def _seen(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        self._ended.set_result(self._child.wait())

    def _await(self) -> None:
        code = self._child.wait()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set_result, code)


def _start(process: Process, stdin: bytes, sink: int, handshake: Handshake | None) -> Child:
    source = None
    try:
        source = _readable(stdin)
        child = Child(process, source, sink, sink if handshake is None else handshake.inside)
    finally:
        _close(
            (sink, *process.descriptors) if source is None else (sink, source, *process.descriptors)
        )
    if handshake is not None:
        handshake.begin(child.lives)
    return child


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


async def _run(child: Child, reader: "_Reader", command: Command, disk: int | None) -> Stop | None:
    """Why the process has to be killed; None where it has ended by itself."""
    ended = asyncio.ensure_future(child.wait())
    filled = asyncio.ensure_future(_filled(command.workspace, disk))
    awaited: set[asyncio.Future[Any]] = {ended, filled, reader.flooded}
    try:
        await asyncio.wait(awaited, timeout=command.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if reader.flooded.done():
            return Stop.OUTPUT
        if ended.done():
            return None
        return Stop.DISK if filled.done() else Stop.TIMEOUT
    finally:
        ended.cancel()
        filled.cancel()


async def _filled(workspace: Path, most: int | None) -> None:
    """Return once the workspace's file system has lost too much, in bytes or in files.

    Asked is the file system: a file that is deleted while it is open is in no folder.
    """
    before = _free(workspace)
    if most is None or before is None:
        await asyncio.get_running_loop().create_future()
        return
    while True:
        await asyncio.sleep(DISK_S)
        now = _free(workspace)
        if now and (before[0] - now[0] > most or before[1] - now[1] > MOST_FILES):
            return


def _free(folder: Path) -> tuple[int, int] | None:
    """Free bytes and files of a file system."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_favail


async def _end(child: Child, handshake: Handshake | None) -> None:
    """Kill the process group, if it still runs, and await its end."""
    try:
        if child.returncode is None and handshake is not None:
            await handshake.refuse(child.wait)
    finally:
        if child.returncode is None:
            # Not by `child.kill`: what the program has started belongs to its group.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
    await child.wait()


def _exit_code(code: int | None) -> int | None:
    return 128 - code if code is not None and code < 0 else code


def _readable(content: bytes) -> int:
    """A descriptor with this content that nothing can be written to.

    Never /dev/null: a program of root could change its mode through it.
    """
    if hasattr(os, "memfd_create"):
        return sealed(content)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return os.dup(file.fileno())


def sealed(content: bytes) -> int:
    """A descriptor of memory with this content, sealed: it can only be read."""
    import fcntl

    descriptor = os.memfd_create("input", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


class _Reader:
    """Reads a pipe as output comes. `end` is done at its end, `flooded` at too much."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: int, kept: KeptOutput, most: int
    ) -> None:
        self.end: asyncio.Future[None] = loop.create_future()
        self.flooded: asyncio.Future[None] = loop.create_future()
        self.failure: Exception | None = None
        """What the receiver of the output raised."""
        self._loop, self._source, self._kept, self._most = loop, source, kept, most
        os.set_blocking(source, False)
        loop.add_reader(source, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._source, PIECE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._stop(self.end)
            return
        try:
            self._kept.add(data)
        except Exception as error:
            # The receiver of the output failed, so the call fails now, not at the program's end.
            self.failure = error
            self._stop(self.flooded)
        else:
            if self._kept.read > self._most:
                self._stop(self.flooded)

    def _stop(self, why: asyncio.Future[None]) -> None:
        self._loop.remove_reader(self._source)
        if not why.done():
            why.set_result(None)

    def close(self) -> None:
        """Close the pipe, whatever is still in it."""
        self._loop.remove_reader(self._source)
        os.close(self._source)
        self.end.cancel()
        self.flooded.cancel()
