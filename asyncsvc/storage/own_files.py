"""The service's own files: what may stand at their names, and who may read them.

Owns the check of a name before a file is opened there, and the rights of what is found. Promises
that a file of ours is a plain file with one name (never a symbolic link, a second hard link, a
pipe, a device or a folder); that it and a folder which holds nothing else are for this user alone,
whatever the umask is. Never changes a file of another user, a folder that holds other things, or
what a link leads to. A folder on the way may be a link: users put data on other disks that way.
"""

import errno
import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from asyncsvc.errors import UnsafeFile

log = logging.getLogger(__name__)

SIDES = ("", "-wal", "-shm", "-journal", ".lock")
"""What SQLite and the service put beside a database, by the end of its name."""
BACKUPS, WORKSPACES = "backups", "workspaces"
OTHERS = 0o077
"""The rights of the group and of all others."""
OTHERS_WRITE = 0o022
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""A pipe without a reader would hold up the opening for ever."""
POSIX = sys.platform != "win32"
"""Windows has no such rights: there the folder's access list decides."""
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def fault(path: Path) -> str | None:
    """Why no file of ours may be opened at that name, in words; None where one may be or is."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None  # the opening says why it cannot be opened
    return _fault_of(path, found)


def _fault_of(path: Path, found: os.stat_result) -> str | None:
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFLNK:
        return f"{path} is a symbolic link; name the file that it leads to"
    if kind != stat.S_IFREG:
        return f"{path} cannot be opened: it is {_KINDS.get(kind, 'no plain file')}"
    if found.st_nlink > 1:
        return (
            f"{path} has {found.st_nlink} names (hard links); remove the others, or put a copy of "
            "the file in its place"
        )
    return None


def check(database: Path) -> None:
    """Raises UnsafeFile where a link or no plain file stands at the name of the database or at one
    that SQLite or the lock uses beside it. Changes nothing."""
    for path in beside(database):
        if why := fault(path):
            raise UnsafeFile(f"storage.path: {why}, or choose another with --db FILE")


def beside(database: Path) -> Iterator[Path]:
    """The database and the names of the files beside it."""
    database = database.absolute()
    return (database.parent / f"{database.name}{side}" for side in SIDES)


def opened(path: Path) -> int:
    """A descriptor of our file at that name, readable and writable, made for this user alone
    where there is none. Raises OSError, also where no plain file of ours stands there."""
    flags = os.O_RDWR | NO_FOLLOW | NO_WAIT
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        try:
            return new(path)
        except FileExistsError:  # another process was faster
            descriptor = os.open(path, flags)
    try:
        if why := _fault_of(path, os.fstat(descriptor)):
            raise OSError(errno.EINVAL, why)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def new(path: Path) -> int:
    """A descriptor of a new file for this user alone. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
    if POSIX:
        os.fchmod(descriptor, 0o600)  # the umask may have taken our own rights
    return descriptor


def is_plain(path: Path) -> bool:
    """Whether a plain file stands there, rather than a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def new_folder(folder: Path) -> None:
    """Make a folder for this user alone, and those above it that are missing. Raises OSError."""
    if folder.exists():
        return
    new_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    if POSIX:
        folder.chmod(0o700)


def close_to_others(database: Path) -> None:
    """Take the rights of other users from the files of a database, and from their folder where it
    holds nothing else; log what was open, and what is not ours to change.

    Opens no file: closing one would give up the locks that SQLite has on it in this process.
    """
    if not POSIX:
        return
    for path in filter(is_plain, _there(database)):
        _close_file(path)
    for folder in _folders(database):
        _close_folder(folder, database)


def _close_file(path: Path) -> None:
    try:
        found = os.lstat(path)
        if note := _open_file(path, found):
            if found.st_uid == os.geteuid():
                path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
                note += "; they no longer may"
            log.warning(note)
    except FileNotFoundError:
        return  # removed meanwhile, as a backup may be


def _close_folder(folder: Path, database: Path) -> None:
    if note := _open_folder(folder, database):
        if _ours_alone(folder, database):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~OTHERS)
            note += "; they no longer may"
        log.warning(note)


def _folders(database: Path) -> tuple[Path, Path]:
    folder = database.absolute().parent
    return folder, folder / BACKUPS


def _there(database: Path) -> list[Path]:
    """The files of a database: itself, those beside it by their names, backups."""
    folder, backups = _folders(database)
    try:
        own = [folder / name for name in sorted(os.listdir(folder)) if _named(name, database)]
    except OSError:
        return []
    return own + (sorted(backups.iterdir()) if backups.is_dir() else [])


def _named(name: str, database: Path) -> bool:
    return name == database.name or name.startswith((f"{database.name}.", f"{database.name}-"))


def open_to_others(database: Path) -> list[str]:
    """What other users of the machine may do with the files of a database, a line each."""
    if not POSIX:
        return []
    files = [_open_file(path, os.lstat(path)) for path in _there(database) if is_plain(path)]
    folders = [_open_folder(folder, database) for folder in _folders(database)]
    return [note for note in (*files, *folders) if note]


def _open_file(path: Path, found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if not mode & OTHERS:
        return None
    verb = "write" if mode & OTHERS_WRITE else "read"
    whose = "" if found.st_uid == os.geteuid() else f"; it belongs to user {found.st_uid}"
    return f"{path}: other users may {verb} it (mode {mode:04o}){whose}"


def _open_folder(folder: Path, database: Path) -> str | None:
    """A folder that others may only read is worth a word where all in it is ours: in others such
    as a home or a project it is usual, and the files themselves are closed."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError:
        return None
    if mode & OTHERS_WRITE:
        return f"{folder}: other users may put files there (mode {mode:04o})"
    if mode & OTHERS and _ours_alone(folder, database):
        return f"{folder}: other users may look into it (mode {mode:04o})"
    return None


def _ours_alone(folder: Path, database: Path) -> bool:
    """Whether the folder belongs to this user and holds only what the service puts there."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX or os.path.ismount(folder):
        return False
    if folder.name == BACKUPS and folder.parent == database.absolute().parent:
        return True
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return all(n in (BACKUPS, WORKSPACES) or _named(n, database) for n in names)
