"""A file that is there wholly or not at all.

Owns the way of a new file into its folder: written under a passing name, synced, then given its
own. Promises never to replace what is there, and to leave nothing behind where the writing
fails. Never reads.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PASSING = ".part"


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """The path to write to; after the block it is `target`. Raises FileExistsError, before
    anything is written and also where another process was faster, and OSError."""
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already")
    passing = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}{PASSING}")
    try:
        # Prompts and answers: no other user of the machine may read them.
        os.close(os.open(passing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield passing
        _sync(passing)
        _place(passing, target)
    finally:
        with suppress(OSError):
            passing.unlink()
    sync_folder(target.parent)


def _place(passing: Path, target: Path) -> None:
    try:
        os.link(passing, target)  # unlike a renaming it fails where the name is taken
    except FileExistsError:
        raise FileExistsError(f"{target} exists already") from None
    except OSError:
        # No hard links on this file system: take the name first, then replace what is ours.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        passing.replace(target)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in it durable, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
