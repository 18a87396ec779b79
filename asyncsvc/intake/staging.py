"""Workspaces that come with an import, piece by piece, until the task that they belong to comes.

Owns a folder with one file for each, which grows by pieces in their order; the first piece begins
it anew. Promises that what is handed out is whole, by its length and hash. What no task came for
within a day is removed.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from asyncsvc.clock import now_ms
from asyncsvc.errors import InvalidRequest
from asyncsvc.storage import own_files
from asyncsvc.storage.export import Packed, WorkspacePiece
from asyncsvc.storage.room import DiskRoom

KEPT_MS = 86_400_000
BLOCK = 1 << 20


class Staging:
    """`add` pieces, `whole` for all of them, `discard` them."""

    def __init__(self, folder: Path, room: DiskRoom) -> None:
        self._folder = folder
        self._room = room

    async def add(self, piece: WorkspacePiece) -> None:
        """Write a piece behind those before it. Raises InvalidRequest, NoRoom or OSError."""
        await asyncio.to_thread(self._add, piece)

    async def whole(self, task_id: str, packed: Packed) -> BinaryIO:
        """The archive, to be closed by the caller. Raises InvalidRequest where it is not whole."""
        return await asyncio.to_thread(self._whole, task_id, packed)

    async def discard(self, task_ids: Iterable[str]) -> None:
        """Remove what has come for those tasks."""
        await asyncio.to_thread(self._discard, [self._path(task_id) for task_id in task_ids])

    def _path(self, task_id: str) -> Path:
        return self._folder / f"{task_id}.tar.gz"

    def _add(self, piece: WorkspacePiece) -> None:
        path = self._path(piece.workspace_of)
        if piece.offset == 0:
            own_files.new_folder(self._folder)
            old = now_ms() - KEPT_MS
            stale = [p for p in self._folder.iterdir() if p.lstat().st_mtime * 1000 < old]
            self._discard([path, *stale])
            fd = own_files.new(path)
        elif own_files.is_plain(path):
            fd = own_files.opened(path)
        else:
            raise _misplaced(piece, 0)
        with open(fd, "r+b") as file:
            if (size := file.seek(0, os.SEEK_END)) != piece.offset:
                raise _misplaced(piece, size)
            self._room.check(len(piece.data), self._folder)
            file.write(piece.data)

    def _whole(self, task_id: str, packed: Packed) -> BinaryIO:
        path = self._path(task_id)
        if not own_files.is_plain(path):
            raise InvalidRequest(
                f"the workspace of task {task_id} is missing: its lines stand before the task's",
                param="workspace",
            )
        file = open(own_files.opened(path), "rb")  # noqa: SIM115
        digest, size = hashlib.sha256(), 0
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
        file.seek(0)
        if (size, digest.hexdigest()) != (packed.bytes, packed.sha256):
            file.close()
            raise InvalidRequest(
                f"the workspace of task {task_id} is not whole: {size} of {packed.bytes} bytes "
                "came, or they are damaged",
                param="workspace",
            )
        return file

    @staticmethod
    def _discard(paths: Iterable[Path]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()


def _misplaced(piece: WorkspacePiece, size: int) -> InvalidRequest:
    return InvalidRequest(
        f"a piece of the workspace of task {piece.workspace_of} begins at {piece.offset}, and "
        f"{size} bytes have come: import the file from its beginning",
        param="offset",
    )
