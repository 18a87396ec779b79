"""Workspaces as tar archives: to be downloaded, and to be taken along by an export.

An archive that comes in is not trusted: nothing is written outside of the new folder, nor through
a link in it, nothing but files, folders and links is made, and bytes and entries are counted while
they come. All functions block: call them in a thread.
"""

import errno
import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from asyncsvc.tools.trees import (
    DEPTH_MOST,
    ENTRIES_MOST,
    NAME_MOST,
    RIGHTS,
    Check,
    Descent,
    Entry,
    Folder,
    TooLarge,
    entries,
    link,
    split,
    sync_tree,
)

PIECE = 1 << 18
READ_MOST = 1 << 20
"""Bytes that are read at once: a header that says to be larger is refused."""
HEADERS = 2048
"""Bytes of an archive that an entry may take beside its contents."""
GZIP = b"\x1f\x8b"
TIME_MOST = 1 << 33
REFUSED = (
    errno.EEXIST,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
)
"""Errors of the system that an archive causes, and not the disk."""


class ArchiveRefused(Exception):
    """An archive that cannot be unpacked, whole, into a workspace."""


def packed(root: Path, most: int, compressed: bool, check: Check) -> Generator[bytes]:
    """A folder as an archive, piece by piece. Raises TooLarge at once where there are more than
    `most` bytes, holes counted, and OSError."""
    found = entries(root, most, check)
    if sum(entry.size for entry in found) > most:
        raise TooLarge(f"more than {most:,} bytes with the holes of files")
    return _gathered(_compressed(_blocks(root, found)) if compressed else _blocks(root, found))


def _gathered(blocks: Iterator[bytes]) -> Generator[bytes]:
    """Larger pieces of the same."""
    gathered = bytearray()
    for block in blocks:
        gathered += block
        if len(gathered) >= PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=1, wbits=31)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


def _blocks(root: Path, found: list[Entry]) -> Iterator[bytes]:
    with Descent(root) as descent:
        for entry in found:
            yield _header(entry).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if entry.kind == "file":
                yield from _contents(descent, entry)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(entry: Entry) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.path)
    header.mode, header.mtime = entry.mode, entry.mtime // 1_000_000_000
    header.type = _TYPES[entry.kind]
    header.linkname = entry.target
    header.size = entry.size
    return header


_TYPES = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "same": tarfile.LNKTYPE,
}


def _contents(descent: Descent, entry: Entry) -> Iterator[bytes]:
    """As many bytes as the header says, whatever has become of the file since."""
    left = entry.size
    above, name = split(entry.path)
    try:
        fd = descent.at(above).open_file(name)
    except OSError:
        fd = -1
    try:
        while fd >= 0 and left and (piece := os.read(fd, min(left, PIECE))):
            left -= len(piece)
            yield piece
    finally:
        if fd >= 0:
            os.close(fd)
    left += -entry.size % tarfile.BLOCKSIZE
    while left > 0:
        yield bytes(min(left, PIECE))
        left -= PIECE


# Unpacking --------------------------------------------------------------------------------------


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...


class _Bounded(io.RawIOBase):
    """Reads from an archive, at most so many bytes, and never many at once."""

    def __init__(self, file: _Readable, most: int) -> None:
        super().__init__()
        self._file = file
        self._most = most

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= READ_MOST:
            raise ArchiveRefused("a header is too long")
        if self._file.tell() + size > self._most + READ_MOST:
            raise ArchiveRefused("the archive is too large")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if offset > self._most:
            raise ArchiveRefused("the archive is too large")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def unpack(archive: BinaryIO, target: Path, check: Check, most: int) -> None:
    """Make the folder `target`, which is new, what an archive holds, compressed by gzip or not,
    and have it on the disk. Raises ArchiveRefused or OSError."""
    target.mkdir(mode=0o700)
    start = archive.read(2)
    archive.seek(0)
    file: _Readable = gzip.GzipFile(fileobj=archive) if start == GZIP else archive
    bounded = _Bounded(file, most + HEADERS * ENTRIES_MOST)
    try:
        with (
            tarfile.open(fileobj=bounded, mode="r:", errors="surrogateescape") as tar,
            Descent(target) as descent,
        ):
            _Unpacking(tar, descent, target, most, check).run()
        while bounded.read(PIECE):  # to the end, where the checksum of the compression is
            check()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ArchiveRefused(f"it is no archive that can be read: {error}") from None
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise ArchiveRefused(f"an entry cannot be made: {error.strerror}") from None
    sync_tree(target)


class _Unpacking:
    """Makes what an archive holds."""

    def __init__(
        self, tar: tarfile.TarFile, descent: Descent, target: Path, most: int, check: Check
    ) -> None:
        self._tar = tar
        self._descent = descent
        self._target = target
        self._most = self._left = most
        self._check = check
        self._folders: dict[str, tarfile.TarInfo | None] = {"": None}

    def run(self) -> None:
        for number, header in enumerate(self._tar, 1):
            self._check()
            if number > ENTRIES_MOST or len(self._folders) > ENTRIES_MOST:
                raise ArchiveRefused(f"it has more than {ENTRIES_MOST:,} files")
            if path := _path(header.name):
                self._make(header, path)
        for path, found in reversed(self._folders.items()):
            folder = self._descent.at(path)
            if found is not None and folder.fd is not None:
                os.fchmod(folder.fd, found.mode & RIGHTS)
                os.utime(folder.fd, (_time(found), _time(found)))

    def _make(self, header: tarfile.TarInfo, path: str) -> None:
        above, own = split(path)
        if header.isdir():
            self._make_folders(path)
            self._folders[path] = header
            return
        self._make_folders(above)
        folder = self._descent.at(above)
        if header.issym():
            os.symlink(header.linkname, folder.name(own), dir_fd=folder.fd)
        elif header.islnk():
            self._link(_path(header.linkname), folder, own)
        elif header.isreg():
            self._make_file(header, folder.name(own), folder.fd)

    def _link(self, target: str, folder: Folder, own: str) -> None:
        there, other = split(target)
        with Descent(self._target) as others:
            source = others.at(there)
            found = os.stat(source.name(other), dir_fd=source.fd, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise ArchiveRefused(f"a hard link leads to {target[:80]!r}, which is no file")
            link(source, other, folder, own)

    def _make_folders(self, path: str) -> None:
        parts = path.split("/") if path else []
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            if folder not in self._folders:
                above, own = split(folder)
                place = self._descent.at(above)
                os.mkdir(place.name(own), 0o700, dir_fd=place.fd)
                self._folders[folder] = None

    def _make_file(self, header: tarfile.TarInfo, name: str, dir_fd: int | None) -> None:
        source = self._tar.extractfile(header)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
        with open(fd, "wb") as file:
            while source is not None and (piece := source.read(PIECE)):
                self._left -= len(piece)
                if self._left < 0:
                    raise ArchiveRefused(f"it has more than {self._most:,} bytes")
                file.write(piece)
                self._check()
            file.flush()
            if dir_fd is not None:
                os.fchmod(fd, header.mode & RIGHTS)
                os.utime(fd, (_time(header), _time(header)))


def _path(name: str) -> str:
    """The path of an entry; empty for the folder itself. Raises ArchiveRefused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or ("\\" in name and os.name == "nt"):
        raise ArchiveRefused(f"the path {name[:80]!r} leads out of the workspace")
    path = "/".join(parts)
    if len(parts) > DEPTH_MOST or any(len(os.fsencode(part)) > NAME_MOST for part in parts):
        raise ArchiveRefused(f"the path {name[:80]!r} is too long")
    return path


def _time(header: tarfile.TarInfo) -> float:
    return min(max(header.mtime, 0), TIME_MOST)
