"""Trees of files for tests: what is in one, and changes by chance."""

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Snapshot = dict[bytes, tuple[Any, ...]]
Step = tuple[str, bytes, Any]


def snapshot(root: Path) -> Snapshot:
    """All that counts of a tree, by path; names of one file are a group."""
    found: Snapshot = {}
    first: dict[int, bytes] = {}
    top = os.fsencode(root)

    def level(folder: bytes) -> None:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            at, own = os.lstat(path), os.path.relpath(path, top)
            mode = stat.S_IMODE(at.st_mode) & 0o777
            if stat.S_ISLNK(at.st_mode):
                found[own] = ("link", os.readlink(path), at.st_mtime_ns)
            elif stat.S_ISREG(at.st_mode):
                same = first.setdefault(at.st_ino, own)
                found[own] = (
                    "file",
                    mode,
                    at.st_mtime_ns,
                    _opened(path, mode, 0o400, _contents),
                    same,
                )
            elif stat.S_ISDIR(at.st_mode):
                found[own] = ("folder", mode, at.st_mtime_ns)
                _opened(path, mode, 0o500, level)

    level(top)
    return found


def _contents(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _opened(path: bytes, mode: int, least: int, read: Callable[[bytes], Any]) -> Any:
    """Read something that its owner may not be allowed to."""
    if mode & least == least:
        return read(path)
    os.chmod(path, 0o700)
    try:
        return read(path)
    finally:
        os.chmod(path, mode)


# Changes ----------------------------------------------------------------------------------------


def _write(path: bytes, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(path)  # to open a FIFO takes for ever
    with open(path, "wb") as file:
        file.write(data)


def _sparse(path: bytes, hole: int) -> None:
    _write(path, b"start")
    with open(path, "r+b") as file:
        file.seek(hole, os.SEEK_END)
        file.write(b"end")
        file.truncate(file.tell() + hole)


def _overwrite(path: bytes, data: bytes) -> None:
    """Change a file so that its size and its time stay."""
    at = os.stat(path)
    if not stat.S_ISREG(at.st_mode):
        raise FileExistsError(path)
    with open(path, "r+b") as file:
        file.write(data[: at.st_size])
    os.utime(path, ns=(at.st_mtime_ns, at.st_mtime_ns))


def _remove(path: bytes, _: object) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


STEPS: dict[str, Callable[[bytes, Any], object]] = {
    "write": _write,
    "sparse": _sparse,
    "overwrite": _overwrite,
    "folder": lambda path, _: os.makedirs(path),
    "symlink": lambda path, target: os.symlink(target, path),
    "link": lambda path, other: os.link(other, path, follow_symlinks=False),
    "move": lambda path, other: os.rename(path, other),
    "remove": _remove,
    "chmod": os.chmod,
    "touch": lambda path, at: os.utime(path, ns=(at, at), follow_symlinks=False),
    "fifo": lambda path, _: os.mkfifo(path),
}


def change(root: Path, steps: Sequence[Step]) -> None:
    """Take the steps; one that is not possible changes nothing."""
    top = os.fsencode(root)
    for kind, path, value in steps:
        if kind in ("link", "move"):
            value = os.path.join(top, value)
        try:
            STEPS[kind](os.path.join(top, path), value)
        except OSError:
            continue


NAMES = st.sampled_from([b"a", b"b", b"c.txt", "好".encode(), b"\xff\xfe", b" ", b"-n\n"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "write": st.binary(max_size=40),
    "sparse": st.integers(0, 300_000),
    "overwrite": st.binary(min_size=1, max_size=40),
    "symlink": st.sampled_from([b"a", b"b/a", b"/nowhere/to/go", b"\xff"]),
    "link": PATHS,
    "move": PATHS,
    "chmod": st.sampled_from([0o644, 0o755, 0o400, 0o111, 0o000, 0o777]),
    "touch": st.integers(0, 2_000_000_000_000_000_000),
}
CHANGES: st.SearchStrategy[list[Step]] = st.lists(
    st.sampled_from(sorted(STEPS)).flatmap(
        lambda kind: st.tuples(st.just(kind), PATHS, VALUES.get(kind, st.none()))
    ),
    max_size=15,
)
