"""The file of a checkpoint: contents of files, then a list of all that there is, then the end.

The list says of each file in which checkpoint its contents are, and where. The end holds a hash of
the list, so that a file which a power cut left half written is known, and a checksum of each
file's contents stands in the list. Knows nothing of folders.
"""

import hashlib
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from asyncsvc.tools.trees import ONE_FILE, Check, Entry

FORMAT = b"asyncsvc-tree-01"
END = struct.Struct(">QQ32s16s")
"""The last bytes: the lengths of the list and of the head, a hash of both, the format."""
NAME = re.compile(r"(\d{6,18})-[A-Za-z0-9._-]{0,64}")
"""The name of a checkpoint: its number, and what it is of."""
PIECE = 1 << 20
PIECES_MOST = 512
"""In one call of the system, which takes 1,024."""
OPEN_MOST = 32
Row = list[Any]
"""[kind, path, mode, mtime], and of a file [size, inode, ctime, checksum, segments], of others
[target]. Names are bytes, as text in Latin-1."""
Segment = list[int]
"""[the number of the checkpoint, the offset in it, the offset in the file, the length]."""
KIND, PATH, SIGNED, CTIME, SEGMENTS = 0, 1, slice(2, 7), 6, 8
"""Places in a row; those in SIGNED differ after any change of a file."""


class CheckpointDamaged(Exception):
    """A checkpoint that cannot be read back whole. `pack` is the name of the one in which the
    contents are wrong."""

    def __init__(self, message: str, pack: str | None = None) -> None:
        super().__init__(message)
        self.pack = pack


@dataclass(slots=True)
class Head:
    """`began` is the file system's time before the first file was read; `packs` the names, by
    number, of the checkpoints that hold contents."""

    generation: int
    began: int
    packs: dict[int, str]


def number_of(name: str) -> int:
    return int(name.partition("-")[0])


def text_of(name: str) -> str:
    """A name of any bytes as text that JSON takes."""
    return os.fsencode(name).decode("latin-1")


def row_of(entry: Entry, crc: int = 0, segments: list[Segment] | None = None) -> Row:
    row: Row = [entry.kind, text_of(entry.path), entry.mode, entry.mtime]
    if segments is None:
        return [*row, text_of(entry.target)]
    return [*row, entry.size, entry.inode, entry.ctime, crc, segments]


def entry_of(row: Row) -> Entry:
    kind, path, mode, mtime, *rest = row
    found = Entry(kind, _name_of(path), mode, mtime)
    if kind == "file":
        found.size, found.inode, found.ctime = rest[:3]
    else:
        found.target = _name_of(rest[0])
    return found


def _name_of(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


class PackWriter:
    """Writes a checkpoint into an open file; `size` is what it has by now."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        self.size += len(piece)
        if self._waiting >= PIECE or len(self._pieces) >= PIECES_MOST:
            self._flush()

    def end(self, head: Head, rows: list[Row]) -> None:
        """Write the list and the end, and have all of it on the disk."""
        packs = list(head.packs.values())
        listed, first = orjson.dumps(rows), orjson.dumps([head.generation, head.began, packs])
        digest = hashlib.sha256(listed + first).digest()
        self.add(listed + first + END.pack(len(listed), len(first), digest, FORMAT))
        self._flush()

    def _flush(self) -> None:
        written = os.writev(self._fd, self._pieces) if hasattr(os, "writev") else 0
        if written < self._waiting:
            write_all(self._fd, b"".join(self._pieces)[written:])
        self._pieces.clear()
        self._waiting = 0


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read(path: Path) -> tuple[Head, list[Row]]:
    """What a checkpoint says of itself. Raises CheckpointDamaged or OSError."""
    try:
        with open(path, "rb") as file:
            listed, first, digest = _blocks(file)
        if hashlib.sha256(listed + first).digest() != digest:
            raise ValueError("its list is not what was written")
        rows: list[Row] = orjson.loads(listed)
        return _head(first), rows
    except FileNotFoundError:
        raise CheckpointDamaged(f"the checkpoint {path.name} is no longer there") from None
    except ValueError as error:
        raise CheckpointDamaged(f"the checkpoint {path.name} is damaged: {error}") from None


def packs_of(path: Path) -> set[str]:
    """The checkpoints that one refers to; none where it is damaged."""
    try:
        with open(path, "rb") as file:
            return set(_head(_blocks(file, only_head=True)[1]).packs.values())
    except (OSError, ValueError):
        return set()


def _head(data: bytes) -> Head:
    generation, began, packs = orjson.loads(data)
    return Head(generation, began, {number_of(name): name for name in packs})


def _blocks(file: BinaryIO, only_head: bool = False) -> tuple[bytes, bytes, bytes]:
    """(list, head, hash). Raises OSError, or ValueError where it is no checkpoint."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - END.size, 0))
    end = file.read(END.size)
    if len(end) < END.size:
        raise ValueError("it is too short")
    listed, head, digest, form = END.unpack(end)
    if form != FORMAT or listed + head + END.size > size:
        raise ValueError("its end is missing")
    file.seek(size - END.size - head - (0 if only_head else listed))
    found = b"" if only_head else file.read(listed)
    return found, file.read(head), digest


class PackReader:
    """Reads contents from the checkpoints in a folder."""

    def __init__(self, folder: Path, packs: dict[int, str]) -> None:
        self._folder = folder
        self._packs = packs
        self._open: dict[int, int] = {}

    def __enter__(self) -> "PackReader":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            os.close(fd)

    def copy(self, row: Row, fd: int, check: Check) -> None:
        """Write the contents of a file into a new one. Raises CheckpointDamaged or OSError."""
        size, _, _, wanted, segments = row[4:]
        crc = end = number = 0
        for number, offset, start, length in segments:
            source, left = self._pack(number), length
            os.lseek(source, offset, os.SEEK_SET)
            if start != end:
                os.lseek(fd, start, os.SEEK_SET)
            while left:
                piece = os.read(source, min(left, PIECE))
                if not piece:
                    break
                crc = zlib.crc32(piece, crc)
                write_all(fd, piece)
                left -= len(piece)
                check()
            end = start + length
        if crc != wanted:
            text = f"the checkpoint holds other contents of {row[PATH]!r} than were written"
            raise CheckpointDamaged(text, self._packs.get(number))
        if size > end:
            os.ftruncate(fd, size)

    def _pack(self, number: int) -> int:
        found = self._open.pop(number, None)
        if found is None:
            if len(self._open) >= OPEN_MOST:
                os.close(self._open.pop(next(iter(self._open))))
            name = self._packs[number]
            try:
                found = os.open(self._folder / name, os.O_RDONLY | ONE_FILE)
            except FileNotFoundError:
                raise CheckpointDamaged(f"the checkpoint {name} is no longer there") from None
        self._open[number] = found
        return found
