"""What a sandboxed program sees of the file system: an allow-list.

Owns the list, once for all backends: the system's programs and libraries and the service's own
Python, read-only; a few devices; memory for /tmp; the workspace as /ws. Promises that nothing
else of the machine is there: no home, no /etc but the linker's cache, no /sys, no socket.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from asyncsvc.sandbox.command import interpreter

WORKSPACE = "/ws"
ID = 65534
"""User and group in the sandbox: those that own nothing on any system."""
HOST = "sandbox"
ROOT_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = ("ld.so.cache", "alternatives")
"""Where the linker finds libraries, and what names such as awk lead to."""
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2"))
SHARED_MEMORY = 16 << 20
"""Bytes of /dev/shm: locks of Python's multiprocessing are there."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """`read_only` paths keep their place; `links` are (path, target)."""

    read_only: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]


def mounts() -> Mounts:
    """The allow-list for this machine."""
    read_only, links = ["/usr"], []
    for name in ROOT_FOLDERS:
        path = f"/{name}"
        if os.path.islink(path):
            links.append((path, os.readlink(path)))
        elif os.path.isdir(path):
            read_only.append(path)
    read_only += _python()
    read_only += [f"/etc/{name}" for name in ETC if os.path.exists(f"/etc/{name}")]
    links += [(f"/dev/{name}", f"/proc/self/fd{number}") for name, number in LINKS]
    return Mounts(tuple(read_only), tuple(links), tuple(f"/dev/{name}" for name in DEVICES))


def _python() -> list[str]:
    """The folders of the service's Python, where it is not the system's.

    Not its whole prefix: a Python may be installed straight into a home folder.
    """
    prefix = interpreter().parent.parent
    if prefix == Path("/usr") or Path("/usr") in prefix.parents:
        return []
    folders = [prefix / name for name in ("bin", "lib", "lib64")]
    return [str(folder) for folder in folders if folder.is_dir() and not folder.is_symlink()]
