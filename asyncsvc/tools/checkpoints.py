"""Checkpoints: what is in a folder, in one file, from which a folder is made that is the same.

A checkpoint holds the contents of the files that have changed since the one before, and refers to
earlier ones for the others. It is on the disk, whole, when `take` returns: the contents, the list
of what there is, and a checksum of the list at the end, so that one which a power cut left half
written is known. Holes of files stay holes. All functions block: call them in a thread.
"""

import contextlib
import hashlib
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from asyncsvc.tools.trees import (
    ONE_FILE,
    RIGHTS,
    Check,
    Descent,
    Entry,
    TooLarge,
    entries,
    split,
    sync_folder,
    sync_tree,
)

log = logging.getLogger(__name__)

FORMAT = b"asyncsvc-tree-01"
END = struct.Struct(">QQ32s16s")
"""The last bytes: the lengths of the list of entries and of the head, a hash of both, the
format."""
NAME = re.compile(r"(\d{6,18})-[A-Za-z0-9._-]{0,64}")
HALF = ".new"
"""What the name of something half made ends with."""
PIECE = 1 << 20
TICK_NS, COARSE_NS = 20_000_000, 2_000_000_000
"""How far apart two changes may have the same time: on most file systems, and on those that count
whole seconds."""
OPEN_MOST = 32
Segment = tuple[int, int, int, int]
"""(the checkpoint by its place in `packs`, the offset in it, that in the file, the length)."""


class CheckpointDamaged(Exception):
    """A checkpoint that cannot be read back whole."""


@dataclass(slots=True)
class Contents:
    """Where the contents of a file are."""

    signature: tuple[int, int, int, int]
    crc: int
    segments: list[Segment] = field(default_factory=list)


@dataclass(slots=True)
class Listing:
    """What a checkpoint says of itself. `began` is the file system's time before the first file
    was read; `packs` are the checkpoints that hold the contents, itself first."""

    generation: int
    began: int
    packs: list[str]
    entries: list[Entry]
    contents: dict[str, Contents]

    def unchanged(self, entry: Entry) -> Contents | None:
        """The contents of a file that certainly is as it was."""
        known = self.contents.get(entry.path)
        if known is None or known.signature != entry.signature:
            return None
        # A change right after the file was read may have left it with the same time.
        tick = TICK_NS if entry.ctime % 1_000_000_000 else COARSE_NS
        return known if entry.ctime < self.began - tick else None


# Taking -----------------------------------------------------------------------------------------


def take(
    work: Path, folder: Path, label: str, generation: int, most: int, check: Check
) -> str | None:
    """Make a checkpoint of `work` in `folder`; its name, None where there is more than `most`
    bytes, or something that cannot be read. Raises OSError, and what `check` raises."""
    stored = _stored(folder)
    number = max(map(_order, stored), default=0) + 1
    before = _newest(folder, stored, generation)
    name = f"{number:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', label)[:64]}"
    half = folder / (name + HALF)
    try:
        with open(half, "xb", buffering=PIECE) as file:
            began = os.fstat(file.fileno()).st_mtime_ns
            listed = entries(work, most, check)
            writer = _Writer(work, file, name, Listing(generation, began, [name], listed, {}))
            writer.write(before, stored, most, check)
            os.replace(half, folder / name)
            os.fdatasync(file.fileno())
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


class _Writer:
    """Writes one checkpoint into an open file."""

    def __init__(self, work: Path, file: BinaryIO, name: str, listing: Listing) -> None:
        self._work = work
        self._file = file
        self._name = name
        self._listing = listing

    def write(
        self, before: Listing | None, stored: Mapping[str, int], most: int, check: Check
    ) -> None:
        """Write the contents that are not in earlier ones, the list and the end."""
        kept = self._kept(before, stored, most)
        with Descent(self._work) as descent:
            for entry in self._listing.entries:
                if entry.kind == "file" and entry.path not in kept:
                    check()
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        self._copy(descent, entry, most, check)
        self._listing.contents |= kept
        if len(self._listing.contents) < sum(e.kind == "file" for e in self._listing.entries):
            self._listing.entries = _present(self._listing)
        self._file.write(_end(self._listing))
        self._file.flush()

    def _kept(
        self, before: Listing | None, stored: Mapping[str, int], most: int
    ) -> dict[str, Contents]:
        """The contents that need not be copied, by path."""
        if before is None:
            return {}
        files = [entry for entry in self._listing.entries if entry.kind == "file"]
        found = {e.path: kept for e in files if (kept := before.unchanged(e)) is not None}
        used = sorted({seg[0] for kept in found.values() for seg in kept.segments})
        new = sum(entry.occupied for entry in files if entry.path not in found)
        names = [before.packs[place] for place in used]
        if any(name not in stored for name in names):
            return {}
        if new + sum(stored[name] for name in names) > most:
            return {}  # copy all of it, so that the earlier ones can go
        self._listing.packs += names
        places = {place: now for now, place in enumerate(used, 1)}
        return {
            path: Contents(
                kept.signature, kept.crc, [(places[seg[0]], *seg[1:]) for seg in kept.segments]
            )
            for path, kept in found.items()
        }

    def _copy(self, descent: Descent, entry: Entry, most: int, check: Check) -> None:
        above, name = split(entry.path)
        fd = descent.at(above).open_file(name)
        try:
            at = os.fstat(fd)
            entry.size, entry.mtime, entry.ctime = at.st_size, at.st_mtime_ns, at.st_ctime_ns
            entry.inode = at.st_ino
            contents = Contents(entry.signature, 0)
            sparse = getattr(at, "st_blocks", at.st_size) * 512 < at.st_size
            for start, end in _data(fd, at.st_size) if sparse else [(0, at.st_size)]:
                self._segment(fd, start, end, contents, most, check)
            self._listing.contents[entry.path] = contents
        finally:
            os.close(fd)

    def _segment(
        self, fd: int, start: int, end: int, contents: Contents, most: int, check: Check
    ) -> None:
        os.lseek(fd, start, os.SEEK_SET)
        offset, left = self._file.tell(), end - start
        while left and (piece := os.read(fd, min(left, PIECE))):
            contents.crc = zlib.crc32(piece, contents.crc)
            self._file.write(piece)
            left -= len(piece)
            if self._file.tell() > most:
                raise TooLarge(f"more than {most:,} bytes")
            check()
        if length := end - start - left:
            contents.segments.append((0, offset, start, length))


def _data(fd: int, size: int) -> Iterable[tuple[int, int]]:
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
    return found


def _present(listing: Listing) -> list[Entry]:
    """The entries without the files that were removed while the others were read."""
    return [
        entry
        for entry in listing.entries
        if (entry.kind != "file" or entry.path in listing.contents)
        and (entry.kind != "same" or entry.target in listing.contents)
    ]


# The file ---------------------------------------------------------------------------------------


def _end(listing: Listing) -> bytes:
    """What stands behind the contents."""
    rows = [_row(entry, listing.contents.get(entry.path)) for entry in listing.entries]
    lists = orjson.dumps(rows)
    head = orjson.dumps([listing.generation, listing.began, listing.packs])
    digest = hashlib.sha256(lists + head).digest()
    return lists + head + END.pack(len(lists), len(head), digest, FORMAT)


def _row(entry: Entry, contents: Contents | None) -> list[Any]:
    row: list[Any] = [entry.kind, _text(entry.path), entry.mode, entry.mtime]
    if contents is not None:
        return [*row, entry.size, entry.inode, entry.ctime, contents.crc, contents.segments]
    return [*row, _text(entry.target)]


def _entry(row: list[Any]) -> tuple[Entry, Contents | None]:
    kind, path, mode, mtime, *rest = row
    if kind != "file":
        return Entry(kind, _name(path), mode, mtime, target=_name(rest[0])), None
    size, inode, ctime, crc, segments = rest
    entry = Entry(kind, _name(path), mode, mtime, size, inode, ctime)
    return entry, Contents(entry.signature, crc, segments)


def _text(name: str) -> str:
    """A name of any bytes as text that JSON takes."""
    return os.fsencode(name).decode("latin-1")


def _name(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


def _read(path: Path) -> Listing:
    """What a checkpoint says of itself. Raises CheckpointDamaged."""
    try:
        with open(path, "rb") as file:
            lists, head, digest = _blocks(file)
            if hashlib.sha256(lists + head).digest() != digest:
                raise ValueError("its list is not what was written")
        generation, began, packs = orjson.loads(head)
        pairs = [_entry(row) for row in orjson.loads(lists)]
    except FileNotFoundError:
        raise CheckpointDamaged(f"the checkpoint {path.name} is no longer there") from None
    except ValueError as error:
        raise CheckpointDamaged(f"the checkpoint {path.name} is damaged: {error}") from None
    contents = {entry.path: found for entry, found in pairs if found is not None}
    return Listing(generation, began, packs, [entry for entry, _ in pairs], contents)


def _blocks(file: BinaryIO, only_head: bool = False) -> tuple[bytes, bytes, bytes]:
    """(list, head, hash) of a checkpoint. Raises OSError, or ValueError where it is none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - END.size, 0))
    end = file.read(END.size)
    if len(end) < END.size:
        raise ValueError("it is too short")
    lists, head, digest, form = END.unpack(end)
    if form != FORMAT or lists + head + END.size > size:
        raise ValueError("its end is missing")
    file.seek(size - END.size - head - (0 if only_head else lists))
    found = b"" if only_head else file.read(lists)
    return found, file.read(head), digest


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


def _order(name: str) -> int:
    return int(name.partition("-")[0])


def _newest(folder: Path, stored: dict[str, int], generation: int) -> Listing | None:
    """The newest checkpoint, where it is of the same folder; removes those that a power cut left
    half written."""
    while stored:
        newest = max(stored, key=_order)
        try:
            found = _read(folder / newest)
        except CheckpointDamaged:
            _unlink(folder / newest)
            del stored[newest]
            continue
        return found if found.generation == generation else None
    return None


def prune(folder: Path, most: int) -> None:
    """Remove the oldest checkpoints until all together have at most so many bytes; never the
    newest, nor what those that stay refer to."""
    stored = _stored(folder)
    if sum(stored.values()) <= most:
        return
    kept = sorted(stored, key=_order)
    uses = {name: {name, *_packs(folder / name)} for name in kept}
    needed = set().union(*uses.values())
    while len(kept) > 1 and sum(stored.get(name, 0) for name in needed) > most:
        kept.pop(0)
        needed = set().union(*(uses[name] for name in kept))
    _unlink(*(folder / name for name in stored.keys() - needed))


def _packs(path: Path) -> list[str]:
    try:
        with open(path, "rb") as file:
            packs: list[str] = orjson.loads(_blocks(file, only_head=True)[1])[2]
            return packs
    except (OSError, ValueError):
        return []


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
    listing = _read(folder / name)
    target.mkdir(mode=0o700)
    with Descent(target) as descent, Descent(target) as others, _Packs(folder, listing) as packs:
        for entry in listing.entries:
            check()
            _make(descent, others, entry, packs, listing.contents.get(entry.path), check)
        for entry in reversed(listing.entries):
            if entry.kind == "folder":
                _settle(descent, entry)
    sync_tree(target)


def _make(
    descent: Descent,
    others: Descent,
    entry: Entry,
    packs: "_Packs",
    contents: Contents | None,
    check: Check,
) -> None:
    above, own = split(entry.path)
    folder = descent.at(above)
    name, fd = folder.name(own), folder.fd
    if entry.kind == "folder":
        os.mkdir(name, 0o700, dir_fd=fd)
    elif entry.kind == "link":
        os.symlink(entry.target, name, dir_fd=fd)
        if os.utime in os.supports_follow_symlinks:
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)
    elif entry.kind == "same":
        there, other = split(entry.target)
        source = others.at(there)
        os.link(
            source.name(other), name, src_dir_fd=source.fd, dst_dir_fd=fd, follow_symlinks=False
        )
    elif contents is not None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(name, flags, 0o600, dir_fd=fd), "wb", buffering=0) as file:
            packs.write(file, entry, contents, check)
            if fd is not None:
                os.fchmod(file.fileno(), entry.mode)
                os.utime(file.fileno(), ns=(entry.mtime, entry.mtime))
        if fd is None:
            os.chmod(name, entry.mode)
            os.utime(name, ns=(entry.mtime, entry.mtime))


def _settle(descent: Descent, entry: Entry) -> None:
    """Give a folder its rights and its time, once all is in it."""
    folder = descent.at(entry.path)
    if folder.fd is not None:
        os.fchmod(folder.fd, entry.mode & RIGHTS)
        os.utime(folder.fd, ns=(entry.mtime, entry.mtime))


class _Packs:
    """The files that the contents of one checkpoint are in."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        self._folder = folder
        self._names = listing.packs
        self._open: dict[int, int] = {}

    def __enter__(self) -> "_Packs":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            os.close(fd)

    def write(self, file: Any, entry: Entry, contents: Contents, check: Check) -> None:
        """Write the contents into a new file. Raises CheckpointDamaged or OSError."""
        crc = 0
        for place, offset, start, length in contents.segments:
            source = self._pack(place)
            os.lseek(source, offset, os.SEEK_SET)
            file.seek(start)
            while length:
                piece = os.read(source, min(length, PIECE))
                if not piece:
                    raise CheckpointDamaged(f"{self._names[place]} ends too early")
                crc = zlib.crc32(piece, crc)
                _write_all(file, piece)
                length -= len(piece)
                check()
        if crc != contents.crc:
            raise CheckpointDamaged(f"the contents of {entry.path!r} are damaged")
        file.truncate(entry.size)

    def _pack(self, place: int) -> int:
        found = self._open.pop(place, None)
        if found is None:
            name = self._names[place]
            if len(self._open) >= OPEN_MOST:
                os.close(self._open.pop(next(iter(self._open))))
            try:
                found = os.open(self._folder / name, os.O_RDONLY | ONE_FILE)
            except FileNotFoundError:
                raise CheckpointDamaged(f"the checkpoint {name} is no longer there") from None
        self._open[place] = found
        return found


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
