"""Trees of files: lists, reads and removes a folder with all that is in it, and no symbolic link
leads out of it.

Each folder is opened relative to the one above, so that a link which is made meanwhile leads
nowhere. Programs leave what they like: names that are no UTF-8, rights that keep their own owner
out, folders nested deeper than a path can be long. Rights that are in the way are widened and put
back. All functions block: call them in a thread.
"""

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_RDONLY
ONE_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NAME_MOST = 255
RIGHTS = 0o777
"""What is kept of a mode: set-user-id and its like are not."""
ENTRIES_MOST = 250_000
DEPTH_MOST = 128
"""Folders in each other: each is open while the walk is below it."""
REMOVED_AT_ONCE = 1000
BLOCK = 512
"""The unit of `st_blocks`."""

Check = Callable[[], None]
"""Raises where the work is no longer wanted."""


class TooLarge(Exception):
    """A tree with more bytes, files or levels than are allowed."""


@dataclass(slots=True)
class Entry:
    """What is in a tree. `kind` is folder, file, link (symbolic) or same: a further name of a
    file. `path` has / between its parts; times are ns since the epoch."""

    kind: str
    path: str
    mode: int
    mtime: int
    size: int = 0
    inode: int = 0
    ctime: int = 0
    target: str = ""
    """Where a symbolic link leads to, or the path of the same file."""
    occupied: int = 0
    """Of a file, the bytes that are no holes, as far as the file system says."""

    @property
    def signature(self) -> list[int]:
        """What differs after any change of a file."""
        return [self.mode, self.mtime, self.size, self.inode, self.ctime]


class Folder:
    """An open folder. `name` and `fd` are what a system call needs for something in it."""

    def __init__(self, path: str, above: "Folder | None") -> None:
        self.path: str = path if above is None else os.path.join(above.path, path)
        self.fd: int | None = None
        self._rights: int | None = None
        """Rights to be put back."""
        if not BY_DESCRIPTOR:
            if os.path.islink(self.path) or not os.path.isdir(self.path):
                raise NotADirectoryError(errno.ENOTDIR, "is no folder", self.path)
            return
        beside = None if above is None else above.fd
        try:
            self.fd = os.open(path, FOLDER, dir_fd=beside)
        except PermissionError:
            rights = _widen(path, beside, 0o700)
            self.fd = os.open(path, FOLDER, dir_fd=beside)
            self._rights = rights
        else:
            rights = stat.S_IMODE(os.fstat(self.fd).st_mode)
            if rights & 0o500 != 0o500:
                os.fchmod(self.fd, rights | 0o700)
                self._rights = rights

    def name(self, name: str) -> str:
        """How a system call finds `name` in the folder, beside `dir_fd`."""
        return name if BY_DESCRIPTOR else os.path.join(self.path, name)

    def scan(self) -> "os._ScandirIterator[str]":
        return os.scandir(self.path if self.fd is None else self.fd)

    def open_file(self, name: str) -> int:
        """A descriptor to read a file by. Raises OSError, also where it is no regular file."""
        flags = os.O_RDONLY | ONE_FILE
        try:
            fd = os.open(self.name(name), flags, dir_fd=self.fd)
        except PermissionError:
            rights = _widen(self.name(name), self.fd, 0o400)
            fd = os.open(self.name(name), flags, dir_fd=self.fd)
            if BY_DESCRIPTOR:
                os.fchmod(fd, rights)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "is no file", name)
        return fd

    def sync(self) -> None:
        """Have the names in it on the disk."""
        if self.fd is not None:
            os.fsync(self.fd)

    def widen(self) -> None:
        """Let its owner change what is in it."""
        if self.fd is not None:
            os.fchmod(self.fd, stat.S_IMODE(os.fstat(self.fd).st_mode) | 0o700)

    def close(self) -> None:
        if self.fd is not None:
            fd, self.fd = self.fd, None
            if self._rights is not None:
                os.fchmod(fd, self._rights)
            os.close(fd)


def link(source: Folder, other: str, folder: Folder, name: str) -> None:
    """Give a file one more name."""
    os.link(
        source.name(other),
        folder.name(name),
        src_dir_fd=source.fd,
        dst_dir_fd=folder.fd,
        follow_symlinks=False,
    )


class Descent:
    """The way from the root of a tree to one folder after the other; `at` opens what is new."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parts: list[str] = []
        self._open: list[Folder] = []

    def __enter__(self) -> "Descent":
        self._open.append(Folder(str(self._root), None))
        return self

    def __exit__(self, *_: object) -> None:
        self._leave(0)

    def at(self, path: str) -> Folder:
        """The folder at that path; it is open until the next call."""
        parts = path.split("/") if path else []
        same = 0
        for own, wanted in zip(self._parts, parts, strict=False):
            if own != wanted:
                break
            same += 1
        self._leave(same + 1)
        for part in parts[same:]:
            above = self._open[-1]
            self._open.append(Folder(part, above))
            self._parts.append(part)
        return self._open[-1]

    def _leave(self, levels: int) -> None:
        """Close all but so many folders, the deepest first."""
        del self._parts[max(levels - 1, 0) :]
        while len(self._open) > levels:
            self._open.pop().close()


def split(path: str) -> tuple[str, str]:
    """(the path of the folder, the name in it)."""
    above, _, name = path.rpartition("/")
    return above, name


def entries(root: Path, most: int, check: Check) -> list[Entry]:
    """All that is below a folder, each folder before what is in it. What is no file, folder or
    link (a FIFO, a socket, a device) is left out. Raises TooLarge or OSError."""
    found: list[Entry] = []
    first: dict[tuple[int, int], str] = {}
    left, waiting = most, [""]
    with Descent(root) as descent:
        while waiting:
            path = waiting.pop()
            check()
            try:
                level = _level(descent.at(path), path, first)
            except FileNotFoundError:
                continue  # removed meanwhile
            found += level
            left -= sum(entry.occupied for entry in level)
            if left < 0 or len(found) > ENTRIES_MOST:
                raise TooLarge(f"more than {most:,} bytes or {ENTRIES_MOST:,} files")
            deeper = [entry.path for entry in level if entry.kind == "folder"]
            if deeper and deeper[0].count("/") >= DEPTH_MOST:
                raise TooLarge(f"more than {DEPTH_MOST} folders in each other")
            waiting += reversed(deeper)
    return found


def _level(folder: Folder, path: str, first: dict[tuple[int, int], str]) -> list[Entry]:
    """What is in one folder, by name."""
    with folder.scan() as items:
        names = sorted(item.name for item in islice(items, ENTRIES_MOST + 1))
    level: list[Entry] = []
    for name in names:
        with contextlib.suppress(FileNotFoundError, _Special):
            level.append(_entry(folder, path, name, first))
    return level


class _Special(Exception):
    """A FIFO, a socket, a device."""


def _entry(folder: Folder, path: str, name: str, first: dict[tuple[int, int], str]) -> Entry:
    at = os.stat(folder.name(name), dir_fd=folder.fd, follow_symlinks=False)
    full = f"{path}/{name}" if path else name
    mode = stat.S_IMODE(at.st_mode) & RIGHTS
    if stat.S_ISDIR(at.st_mode):
        return Entry("folder", full, mode, at.st_mtime_ns)
    if stat.S_ISLNK(at.st_mode):
        target = os.readlink(folder.name(name), dir_fd=folder.fd)
        return Entry("link", full, mode, at.st_mtime_ns, target=target)
    if not stat.S_ISREG(at.st_mode):
        raise _Special
    if at.st_nlink > 1:
        same = first.setdefault((at.st_dev, at.st_ino), full)
        if same != full:
            return Entry("same", full, mode, at.st_mtime_ns, target=same)
    entry = Entry("file", full, mode, at.st_mtime_ns, at.st_size, at.st_ino, at.st_ctime_ns)
    entry.occupied = min(at.st_size, getattr(at, "st_blocks", at.st_size) * BLOCK)
    return entry


def _widen(name: str, dir_fd: int | None, more: int) -> int:
    """Give the owner more rights to a file or folder; the rights that it had."""
    plain: int | None = getattr(os, "O_PATH", None)
    if plain is None:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        rights = stat.S_IMODE(found.st_mode)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, rights | more, dir_fd=dir_fd if BY_DESCRIPTOR else None)
        return rights
    fd = os.open(name, plain | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        rights = stat.S_IMODE(os.fstat(fd).st_mode)
        # No fchmod takes such a descriptor, and chmod would follow a link.
        os.chmod(f"/proc/self/fd/{fd}", rights | more)
        return rights
    finally:
        os.close(fd)


# Removal ----------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    """Delete a folder with all that is in it, however deep and whatever its rights; none may be
    there. Raises OSError."""
    if not BY_DESCRIPTOR:
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            raise OSError(errno.ENOTEMPTY, "is still there", str(path))
        return
    while True:
        try:
            top = Folder(str(path), None)
        except FileNotFoundError:
            return
        with contextlib.closing(top):
            _empty(top, top, 1)
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno in (
                    errno.ENOTEMPTY,
                    errno.EEXIST,
                ):  # folders from further down have come up
                    continue
                raise
        return


def _empty(folder: Folder, top: Folder, depth: int) -> None:
    folder.widen()
    while names := _names(folder):
        for name, is_folder in names:
            with contextlib.suppress(FileNotFoundError):
                if not is_folder:
                    os.unlink(name, dir_fd=folder.fd)
                    continue
                with contextlib.closing(Folder(name, folder)) as deeper:
                    if depth >= DEPTH_MOST // 2:
                        # Each level costs a descriptor: what is deeper is emptied from the top.
                        deeper.widen()
                        new = f".{secrets.token_hex(8)}.deep"
                        os.rename(name, new, src_dir_fd=folder.fd, dst_dir_fd=top.fd)
                        continue
                    _empty(deeper, top, depth + 1)
                os.rmdir(name, dir_fd=folder.fd)


def _names(folder: Folder) -> list[tuple[str, bool]]:
    """(name, whether it is a folder) of a part of what is in a folder."""
    with folder.scan() as items:
        return [
            (item.name, item.is_dir(follow_symlinks=False))
            for item in islice(items, REMOVED_AT_ONCE)
        ]


# Durability -------------------------------------------------------------------------------------


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk."""
    with contextlib.closing(Folder(str(path), None)) as folder:
        folder.sync()


def sync_tree(root: Path) -> None:
    """Have all that was written below a folder on the disk. A call for the whole file system
    takes one commit, where a call for each of 1,000 files takes 1,000."""
    if not BY_DESCRIPTOR:
        for path in _files(root):
            with open(path, "r+b") as file:
                os.fsync(file.fileno())
        return
    fd = os.open(root, FOLDER)
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if call is None:
            os.sync()
        elif call(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(fd)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
