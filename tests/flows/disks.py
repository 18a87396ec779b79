"""Disks that misbehave: a small file system that fills up, and calls that fail.

Owns the mounting of a small tmpfs and the command lines that make system calls fail. Promises
to unmount what it has mounted.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.needs import need


def _root() -> Sequence[str]:
    """What goes before a command that only root may give."""
    return () if os.geteuid() == 0 else ("sudo", "-n")


def _mount(*arguments: str) -> str | None:
    """Why it could not be mounted; None where it is."""
    if shutil.which("mount") is None:
        return "there is no mount command here"
    try:
        done = subprocess.run([*_root(), "mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return "mounting needs root here"
    return None if done.returncode == 0 else f"mounting is not permitted: {done.stderr.strip()}"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own of that size in `folder`, such as `700k`."""
    folder.mkdir()
    options = f"size={size},uid={os.getuid()},gid={os.getgid()}"
    need(_mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder)))
    try:
        yield folder
    finally:
        subprocess.run([*_root(), "umount", "--lazy", str(folder)], check=True)


def read_only(disk: Path) -> None:
    """Refuse all writes to a mounted disk from now on."""
    lacking = _mount("-o", "remount,ro", str(disk))
    assert lacking is None, lacking


def fill(disk: Path, name: str = "ballast") -> Path:
    """Take all room that is left."""
    ballast = disk / name
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return ballast


def failing(call: str, error: str, when: str) -> list[str]:
    """Start something whose `call` fails with `error` as `when` says, such as `3..9`."""
    return injecting(call, f"error={error}:when={when}")


def injecting(call: str, fault: str) -> list[str]:
    """Start something whose system `call` has a `fault`, as strace's `inject` writes it."""
    need(None if shutil.which("strace") else "strace is not installed")
    inject = f"inject={call}:{fault}"
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]


@contextmanager
def unmounted(disk: Path) -> Iterator[None]:
    """Take a mounted disk away from its folder, though files on it are open; at the end another
    one is there, so that it can be taken away as any other."""
    subprocess.run([*_root(), "umount", "--lazy", str(disk)], check=True)
    try:
        yield
    finally:
        need(_mount("-t", "tmpfs", "tmpfs", str(disk)))
