"""Checkpoints: what is in a folder, in one file, from which a folder is made that is the same.

A checkpoint holds the contents of the files that have changed since the one before, and refers to
earlier ones for the others. It is on the disk when `take` returns, as what was restored is when
`restore` does. Holes of files stay holes. All functions block: call them in a thread.
"""

import contextlib
import logging
import os
import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from asyncsvc.tools import packs
from asyncsvc.tools.packs import (
    CTIME,
    KIND,
    NAME,
    PATH,
    PIECE,
    SEGMENTS,
    SIGNED,
    CheckpointDamaged,
    Head,
    PackReader,
    PackWriter,
    Row,
    Segment,
    number_of,
    row_of,
    text_of,
)
from asyncsvc.tools.trees import (
    BLOCK,
    RIGHTS,
    Check,
    Descent,
    Entry,
    TooLarge,
    entries,
    link,
    split,
    sync_folder,
    sync_tree,
)

log = logging.getLogger(__name__)

TIMES_OF_LINKS = os.utime in os.supports_follow_symlinks
HALF = ".new"
"""What the name of something half made ends with."""
TICK_NS, COARSE_NS = 20_000_000, 2_000_000_000
"""How far apart two changes may have the same time: on most file systems, and on those that count
whole seconds."""
SYNCED_ONE_BY_ONE = 8
"""Files and folders: each takes a commit of the file system, which takes one for all together."""


# Taking -----------------------------------------------------------------------------------------


def take(
    work: Path, folder: Path, label: str, generation: int, most: int, check: Check
) -> str | None:
    """Make a checkpoint of `work` in `folder`; its name, None where there is more than `most`
    bytes, or something that cannot be read. Raises OSError, and what `check` raises."""
    stored = _stored(folder)
    number = max(map(number_of, stored), default=0) + 1
    before = _newest(folder, stored, generation)
    name = f"{number:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', label)[:64]}"
    half = folder / (name + HALF)
    try:
        with open(half, "xb", buffering=0) as file:
            head = Head(generation, os.fstat(file.fileno()).st_mtime_ns, {number: name})
            found = entries(work, most, check)
            kept = {} if before is None else _kept(*before, found, head, stored, most)
            copier = _Copier(work, file.fileno(), number, most, check)
            rows = copier.rows(found, kept)
            copier.writer.end(head, rows)
            os.replace(half, folder / name)
            os.fsync(file.fileno())
    except (TooLarge, PermissionError) as error:
        log.warning("no checkpoint of %s: %s", work, error)
        _unlink(half)
        return None
    except BaseException:
        _unlink(half, folder / name)
        raise
    sync_folder(folder)
    with contextlib.suppress(OSError):
        prune(folder, most)
    return name


def _kept(
    before: Head,
    rows: Iterable[Row],
    found: list[Entry],
    head: Head,
    stored: Mapping[str, int],
    most: int,
) -> dict[str, Row]:
    """The rows of the files, by path, whose contents need not be copied; their checkpoints are
    added to `head`."""
    known = {row[PATH]: row for row in rows if row[KIND] == "file"}
    kept: dict[str, Row] = {}
    new = 0
    for entry in found:
        if entry.kind != "file":
            continue
        row = known.get(text_of(entry.path))
        if row is not None and row[SIGNED] == entry.signature and settled(row, before.began):
            kept[entry.path] = row
        else:
            new += entry.occupied
    used = {segment[0] for row in kept.values() for segment in row[SEGMENTS]}
    names = {number: before.packs[number] for number in sorted(used)}
    if not stored.keys() >= set(names.values()):
        return {}
    if new + sum(stored[name] for name in names.values()) > most:
        return {}  # copy all of it, so that the earlier ones can go
    head.packs |= names
    return kept


def sync_changes(work: Path, folder: Path, generation: int, check: Check) -> None:
    """Have on the disk what has changed in a folder since its newest checkpoint, which was all on
    the disk then."""
    try:
        before = _newest(folder, _stored(folder), generation)
        found = entries(work, sys.maxsize, check)
    except (FileNotFoundError, TooLarge):
        before = None
    changed = [] if before is None else _changed(*before, found)
    if before is None or len(changed) > SYNCED_ONE_BY_ONE:
        sync_tree(work)
        return
    with Descent(work) as descent:
        for path, is_file in changed:
            check()
            with contextlib.suppress(FileNotFoundError):
                if not is_file:
                    descent.at(path).sync()
                    continue
                above, name = split(path)
                fd = descent.at(above).open_file(name)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


def _changed(before: Head, rows: Iterable[Row], found: list[Entry]) -> list[tuple[str, bool]]:
    """(path, whether it is a file) of what was changed; the folder itself always."""
    known = {row[PATH]: row for row in rows}
    changed: dict[str, bool] = {}
    for entry in found:
        row = known.get(text_of(entry.path))
        if entry.kind == "file":
            if row is None or row[SIGNED] != entry.signature or not settled(row, before.began):
                changed |= {entry.path: True, split(entry.path)[0]: False}
        elif entry.kind == "folder" and (row is None or row[2:4] != [entry.mode, entry.mtime]):
            changed |= {entry.path: False, split(entry.path)[0]: False}
    return [*changed.items(), ("", False)]


def settled(row: Row, began: int) -> bool:
    """Whether a change of a file after it was read must have left it with another time, where
    reading began at that time of the file system."""
    changed: int = row[CTIME]
    return changed < began - (TICK_NS if changed % 1_000_000_000 else COARSE_NS)


class _Copier:
    """Copies the contents of files into a checkpoint."""

    def __init__(self, work: Path, fd: int, number: int, most: int, check: Check) -> None:
        self.writer = PackWriter(fd)
        self._work = work
        self._number = number
        self._most = most
        self._check = check

    def rows(self, found: list[Entry], kept: Mapping[str, Row]) -> list[Row]:
        """The rows of all that was found; the contents of a file without one are copied."""
        rows: list[Row] = []
        gone: set[str] = set()
        with Descent(self._work) as descent:
            for entry in found:
                if entry.kind == "same" and entry.target in gone:
                    continue
                if entry.kind != "file":
                    rows.append(row_of(entry))
                elif (row := kept.get(entry.path)) is not None:
                    rows.append(row)
                else:
                    self._check()
                    try:
                        rows.append(self._copied(descent, entry))
                    except FileNotFoundError:  # removed meanwhile
                        gone.add(entry.path)
        return rows

    def _copied(self, descent: Descent, entry: Entry) -> Row:
        above, name = split(entry.path)
        fd = descent.at(above).open_file(name)
        try:
            at = os.fstat(fd)
            entry.size, entry.mtime, entry.ctime = at.st_size, at.st_mtime_ns, at.st_ctime_ns
            entry.inode = at.st_ino
            sparse = getattr(at, "st_blocks", at.st_size) * BLOCK < at.st_size
            parts = _data(fd, at.st_size) if sparse else [(0, at.st_size)]
            crc, segments = 0, list[Segment]()
            for start, end in parts:
                crc = self._segment(fd, start, end, crc, segments)
            return row_of(entry, crc, segments)
        finally:
            os.close(fd)

    def _segment(self, fd: int, start: int, end: int, crc: int, segments: list[Segment]) -> int:
        """Copy a part of a file; the checksum with it."""
        if start:
            os.lseek(fd, start, os.SEEK_SET)
        offset, left = self.writer.size, end - start
        while left and (piece := os.read(fd, min(left, PIECE))):
            crc = zlib.crc32(piece, crc)
            self.writer.add(piece)
            left -= len(piece)
            if self.writer.size > self._most:
                raise TooLarge(f"more than {self._most:,} bytes")
            self._check()
        if length := end - start - left:
            segments.append([self._number, offset, start, length])
        return crc


def _data(fd: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of what is no hole."""
    if not hasattr(os, "SEEK_DATA"):
        return [(0, size)]
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break  # nothing but a hole
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= at:
            break
        found.append((start, at))
    os.lseek(fd, 0, os.SEEK_SET)
    return found


# Those that are stored --------------------------------------------------------------------------


def _stored(folder: Path) -> dict[str, int]:
    """The sizes of the checkpoints in a folder; removes half made ones."""
    found: dict[str, int] = {}
    with os.scandir(folder) as items:
        for item in items:
            if item.name.endswith(HALF):
                _unlink(Path(item.path))
            elif NAME.fullmatch(item.name):
                found[item.name] = item.stat(follow_symlinks=False).st_size
    return found


def _newest(folder: Path, stored: dict[str, int], generation: int) -> tuple[Head, list[Row]] | None:
    """The newest checkpoint, where it is of the same folder; removes those that a power cut left
    half written."""
    while stored:
        newest = max(stored, key=number_of)
        try:
            head, rows = packs.read(folder / newest)
        except CheckpointDamaged:
            _unlink(folder / newest)
            del stored[newest]
            continue
        return (head, rows) if head.generation == generation else None
    return None


def prune(folder: Path, most: int) -> None:
    """Remove the oldest checkpoints until all together have at most so many bytes; never the
    newest, nor what those that stay refer to."""
    stored = _stored(folder)
    if sum(stored.values()) <= most:
        return
    kept = sorted(stored, key=number_of)
    uses = {name: {name} | packs.packs_of(folder / name) for name in kept}
    needed = set().union(*uses.values())
    while len(kept) > 1 and sum(stored.get(name, 0) for name in needed) > most:
        kept.pop(0)
        needed = set().union(*(uses[name] for name in kept))
    _unlink(*(folder / name for name in stored.keys() - needed))


def _unlink(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


# Restoring --------------------------------------------------------------------------------------


def restore(folder: Path, name: str, target: Path, check: Check) -> None:
    """Make the folder `target`, which is new, what the checkpoint holds, and have it on the disk.
    Raises CheckpointDamaged or OSError, and what `check` raises."""
    if not NAME.fullmatch(name):
        raise CheckpointDamaged(f"{name[:80]!r} names no checkpoint")
    head, rows = packs.read(folder / name)
    target.mkdir(mode=0o700)
    try:
        _make_all(folder, head, rows, target, check)
    except CheckpointDamaged as damage:
        if damage.pack is not None:
            # The next checkpoint is not to refer to it, nor to have its name.
            with contextlib.suppress(OSError):
                os.truncate(folder / damage.pack, 0)
        raise
    sync_tree(target)


def _make_all(folder: Path, head: Head, rows: list[Row], target: Path, check: Check) -> None:
    with Descent(target) as descent, Descent(target) as others:
        with PackReader(folder, head.packs) as reader:
            for row in rows:
                check()
                entry = packs.entry_of(row)
                if entry.kind == "file":
                    _make_file(descent, entry, row, reader, check)
                else:
                    _make(descent, others, entry)
        for row in reversed(rows):
            if row[KIND] == "folder":
                _settle(descent, packs.entry_of(row))


def _make_file(descent: Descent, entry: Entry, row: Row, reader: PackReader, check: Check) -> None:
    above, own = split(entry.path)
    folder = descent.at(above)
    name, at = folder.name(own), (entry.mtime, entry.mtime)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    fd = os.open(name, flags, 0o600, dir_fd=folder.fd)
    try:
        reader.copy(row, fd, check)
        if folder.fd is not None:
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=at)
    finally:
        os.close(fd)
    if folder.fd is None:
        os.utime(name, ns=at)
        os.chmod(name, entry.mode)


def _make(descent: Descent, others: Descent, entry: Entry) -> None:
    """Make what is no file of its own."""
    above, own = split(entry.path)
    folder = descent.at(above)
    name, fd = folder.name(own), folder.fd
    if entry.kind == "folder":
        os.mkdir(name, 0o700, dir_fd=fd)
    elif entry.kind == "link":
        os.symlink(entry.target, name, dir_fd=fd)
        if TIMES_OF_LINKS:
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)
    else:
        there, other = split(entry.target)
        link(others.at(there), other, folder, own)


def _settle(descent: Descent, entry: Entry) -> None:
    """Give a folder its rights and its time, once all is in it."""
    folder = descent.at(entry.path)
    if folder.fd is not None:
        os.fchmod(folder.fd, entry.mode & RIGHTS)
        os.utime(folder.fd, ns=(entry.mtime, entry.mtime))
