"""How fast this disk takes synced writes, and whether that can be true.

Owns the measurement and what is known of the file system below a folder. No program can show that
a synced write survives a power cut; what can be shown is a disk that is too fast to be one.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import psutil

from asyncsvc.selftest.checks import Check, check, hint

WRITES = 200
MOST_S = 3.0
BYTES = 4096
"""A page and its frame in SQLite's log are a little more."""
IN_MEMORY = ("tmpfs", "ramfs")
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afpfs", "ceph", "glusterfs")
UNSAFE_OPTIONS = ("nobarrier", "barrier=0")
NO_DISK_S = 20e-6
"""Faster than the fastest disk that keeps what it was given (flash behind a capacitor)."""
CACHED_S = 200e-6
"""Faster than a disk without a protected cache; those with one take 30 to 200 µs."""
SLOW_S = 0.1


@dataclass(frozen=True)
class Place:
    """What the system says of the disk below a folder; empty is unknown."""

    file_system: str = ""
    device: str = ""
    options: str = ""
    write_cache: str = ""
    """`write back`: the device has a cache, and a sync must empty it; `write through`: none."""


def measure(folder: Path, writes: int = WRITES, most_s: float = MOST_S) -> list[float]:
    """Seconds of each sync after a write, as SQLite's log is written: first to the end of a file
    that grows, then over what is there, which costs the file system less."""
    file, times, began = folder / "synced", list[float](), perf_counter()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        while len(times) < writes and (perf_counter() - began < most_s or not times):
            if len(times) == writes // 2:
                os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, os.urandom(BYTES))
            start = perf_counter()
            sync(descriptor)
            times.append(perf_counter() - start)
    finally:
        os.close(descriptor)
        file.unlink()
    return times


def place(folder: Path) -> Place:
    """What is known of the file system that holds a folder."""
    path = folder.resolve()
    parts = [
        part
        for part in psutil.disk_partitions(all=True)
        if path == Path(part.mountpoint) or Path(part.mountpoint) in path.parents
    ]
    if not parts:
        return Place()
    found = max(parts, key=lambda part: len(part.mountpoint))
    return Place(found.fstype, found.device, found.opts, _write_cache(path))


def _write_cache(path: Path) -> str:
    """What Linux knows of the device's own cache."""
    with suppress(OSError, AttributeError):
        number = path.stat().st_dev
        device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
        for each in (device, device.parent):  # a partition has none of its own
            if (file := each / "queue" / "write_cache").exists():
                return file.read_text(encoding="ascii").strip()
    return ""


def of_disk(times: list[float], where: Place) -> Check:
    """The line of the disk."""
    ordered = sorted(times)
    middle, late = median(ordered), ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    figures = f"{shown(middle)} (median), {shown(late)} (99 %), {shown(ordered[-1])} (most)"
    cache = f", device cache: {where.write_cache}" if where.write_cache else ""
    device = f" on {where.device}" if where.device and where.device != where.file_system else ""
    system = where.file_system or "an unknown file system"
    tried = f"{len(times)} writes, each synced to the disk"
    found = f"{figures}; {system}{device}{cache}"
    if where.file_system in IN_MEMORY:
        lost = f"{system} is in memory: every task is lost when this machine stops"
        return check("disk", tried, found, [lost])
    return hint("disk", tried, found, list(_hints(middle, late, where)))


def of_acknowledgements(acknowledged: list[float], synced: list[float]) -> Check:
    """The line that holds the service's answers against the disk: an answer that a sync has to
    come before cannot be faster than the fastest sync."""
    tried = "an acknowledgement waits for a sync of the disk"
    ordered = sorted(acknowledged)
    if not ordered:
        return check("synced", tried, "nothing was acknowledged", ["no submit was answered 202"])
    early, fastest = ordered[len(ordered) // 10], min(synced)
    found = f"acknowledged after {shown(median(ordered))} (median), {shown(early)} (fastest tenth)"
    found += f"; the fastest sync took {shown(fastest)}"
    wrong = f"submits are acknowledged in {shown(early)}, before a sync can be over"
    return check("synced", tried, found, [wrong] if early < fastest / 2 else [])


def _hints(middle: float, late: float, where: Place) -> Iterator[str]:
    if where.file_system in NETWORK:
        yield (
            f"{where.file_system} is on the network: SQLite's log needs a disk of this machine; "
            "set storage.path to one"
        )
    if options := [each for each in where.options.split(",") if each in UNSAFE_OPTIONS]:
        yield f"it is mounted with {', '.join(options)}: a sync does not reach the disk"
    if middle < NO_DISK_S:
        yield (
            f"a sync in {shown(middle)} is faster than any disk: the host of a virtual machine or "
            "a driver acknowledges what it has not written, and a power cut can lose tasks"
        )
    elif middle < CACHED_S and where.write_cache != "write through":
        yield (
            f"a sync in {shown(middle)} needs a disk with a cache that survives a power cut "
            "(servers' disks have one); where yours has none, something acknowledges too early"
        )
    if late > SLOW_S:
        yield (
            f"one sync in a hundred takes {shown(late)} or more, and each submit waits for one: "
            "a faster disk, or less beside it, answers sooner"
        )


def shown(seconds: float) -> str:
    """A short time for people."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
