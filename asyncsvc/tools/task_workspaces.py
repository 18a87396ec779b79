"""The workspaces of agent tasks: a folder for each, with checkpoints to which it can be put back.

A task has one folder after the other, numbered by generations: work is only ever done in one, and
a task is put back to a checkpoint by making the next one. Which of them counts is decided outside,
so that the change is one event. What is made appears under its name when it is whole and on
the disk: a process that ends at any moment leaves the old state or the new one. Two changes of the
workspaces of a task never run at once; one that is cancelled ends before the cancellation does.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from weakref import WeakValueDictionary

from asyncsvc.tools import archives, checkpoints
from asyncsvc.tools.archives import ArchiveRefused
from asyncsvc.tools.checkpoints import HALF
from asyncsvc.tools.packs import CheckpointDamaged
from asyncsvc.tools.trees import Check, TooLarge, remove, sync_folder, sync_tree
from asyncsvc.tools.workspace import Workspace

__all__ = ["ArchiveRefused", "CheckpointDamaged", "TaskWorkspaces", "TooLarge"]

T = TypeVar("T")
TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
WORK, CHECKPOINTS = "work-", "checkpoints"
ARCHIVE_MOST = 4 << 30
UNPACKED_LEAST = 256 << 20
"""Bytes that an archive may unpack to though no checkpoint may be as large."""
OWNER = "owner-"
GONE = ".gone-"
"""What the name of a folder that is being removed begins with."""


class _Unwanted(Exception):
    """The work was cancelled."""


class TaskWorkspaces:
    """The workspaces below `root`. `most` says how many bytes a checkpoint may hold, and all of a
    task together, except that the newest stays; 0 for none. `owner` names the list of tasks that
    they belong to: others may have theirs in the same folder. Work with the disk raises OSError."""

    def __init__(self, root: Path, most: Callable[[], int], owner: str = "") -> None:
        self._root = root / "tasks"
        self._most = most
        self._mark = f"{OWNER}{hashlib.sha256(owner.encode()).hexdigest()[:16]}"
        """The name of a file in the folder of each task of this owner."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._early: set[str] = set()
        """Tasks whose workspace was made before the task may have been there."""

    @asynccontextmanager
    async def use(self, task_id: str, generation: int) -> AsyncGenerator[Workspace]:
        """The workspace of a task, made where it is missing; closed at the end."""
        folder = self._work(task_id, generation)
        found = await _ended(partial(self._open, task_id, folder), Workspace.close)
        try:
            yield found
        finally:
            found.close()

    @asynccontextmanager
    async def look(self, task_id: str, generation: int) -> AsyncGenerator[Workspace]:
        """The workspace of a task to be read; closed at the end. Raises FileNotFoundError where
        there is none: one that was made by a reader would never get the files of its task."""
        found = await _ended(partial(Workspace, self._work(task_id, generation)), Workspace.close)
        try:
            yield found
        finally:
            found.close()

    async def begin(self, task_id: str, generation: int, files: Mapping[str, str]) -> None:
        """Make the workspace with these files, texts by path, unless it is there. Raises
        PathRefused."""

        def fill(folder: Path, check: Check) -> None:
            folder.mkdir(mode=0o700)
            with Workspace(folder) as workspace:
                for path, text in files.items():
                    check()
                    workspace.write(path, text.encode())
            if files:
                sync_tree(folder)

        await self._make(task_id, generation, fill)

    async def take(self, task_id: str, generation: int, name: str) -> str | None:
        """Make a checkpoint, which is on the disk; its name, with `name` in it. None where the
        workspace is larger than allowed, or cannot be read."""
        most = self._most()
        if most <= 0:
            return None

        def work(check: Check) -> str | None:
            source = self._work(task_id, generation)
            self._open(task_id, source).close()
            folder = self._task(task_id) / CHECKPOINTS
            _make_folders(folder)
            return checkpoints.take(source, folder, name, generation, most, check)

        return await self._alone(task_id, work)

    async def restore(self, task_id: str, generation: int, checkpoint: str) -> None:
        """Make the workspace of the next generation what the checkpoint holds, unless it is there.
        Raises CheckpointDamaged."""
        folder = self._task(task_id) / CHECKPOINTS
        await self._make(task_id, generation + 1, partial(_restored, folder, checkpoint))

    async def sync(self, task_id: str, generation: int) -> None:
        """Have all that was written to the workspace on the disk. Only then does a call whose
        result is on the disk survive a power cut."""

        def work(check: Check) -> None:
            source = self._work(task_id, generation)
            if source.is_dir():
                folder = self._task(task_id) / CHECKPOINTS
                checkpoints.sync_changes(source, folder, generation, check)

        await self._alone(task_id, work)

    async def settle(self, task_id: str, generation: int) -> None:
        """Remove the workspaces of all other generations, and what is half made."""
        kept = {f"{WORK}{generation}", CHECKPOINTS, self._mark}

        def work(check: Check) -> None:
            for path in _within(self._task(task_id)):
                if path.name not in kept:
                    check()
                    remove(path)

        await self._alone(task_id, work)

    async def copy(
        self, source_id: str, generation: int, checkpoint: str | None, target_id: str
    ) -> None:
        """Make the first workspace of another task what a checkpoint holds, or what the workspace
        holds now. Raises CheckpointDamaged."""
        self._early.add(target_id)
        source = self._task(source_id)

        def fill(folder: Path, check: Check) -> None:
            if checkpoint is not None:
                checkpoints.restore(source / CHECKPOINTS, checkpoint, folder, check)
                return
            between = folder.with_name(f"between{HALF}")
            remove(between)
            between.mkdir(mode=0o700)
            try:
                work = self._work(source_id, generation)
                self._open(source_id, work).close()
                name = checkpoints.take(work, between, "copy", generation, sys.maxsize, check)
                if name is None:
                    raise CheckpointDamaged("the workspace cannot be read")
                checkpoints.restore(between, name, folder, check)
            finally:
                remove(between)

        async with self._lock(source_id):
            await self._make(target_id, 0, fill)

    async def pack(
        self, task_id: str, generation: int, compressed: bool = True
    ) -> AsyncGenerator[bytes]:
        """The workspace as a tar archive, in pieces as they are asked for. Raises TooLarge at
        once where it, with the holes of its files, is larger than an archive may be."""

        def begin() -> Generator[bytes]:
            folder = self._work(task_id, generation)
            self._open(task_id, folder).close()
            return archives.packed(folder, ARCHIVE_MOST, compressed, lambda: None)

        return _pieces(await _ended(begin, Generator.close))

    async def unpack(self, task_id: str, archive: BinaryIO) -> None:
        """Make the first workspace of a task what a tar archive holds, compressed by gzip or not,
        unless it is there. Raises ArchiveRefused."""
        self._early.add(task_id)
        most = max(self._most(), UNPACKED_LEAST)
        await self._make(task_id, 0, partial(archives.unpack, archive, most=most))

    async def remove(self, task_id: str) -> None:
        """Remove everything of a task."""

        def work(_: Check) -> None:
            gone = self._root / f"{GONE}{secrets.token_hex(8)}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._task(task_id), gone)
                remove(gone)

        await self._alone(task_id, work)

    async def sweep(self, keep: Callable[[str], Awaitable[bool]]) -> int:
        """Remove the folders of this owner's tasks that are gone, for which `keep` says no; their
        number."""
        removed = 0
        for name in await asyncio.to_thread(self._own):
            if name in self._early:
                self._early.discard(name)  # its task may be on its way
            elif not await keep(name):
                await self.remove(name)
                removed += 1
        return removed

    def _own(self) -> list[str]:
        """The tasks with a folder; what a removal has left is removed."""
        names: list[str] = []
        for path in _within(self._root):
            if path.name.startswith(GONE):
                remove(path)
            elif TASK.fullmatch(path.name) and (path / self._mark).exists():
                names.append(path.name)
        return names

    # The folders --------------------------------------------------------------------------------

    def _task(self, task_id: str) -> Path:
        if not TASK.fullmatch(task_id):
            raise ValueError(f"{task_id[:80]!r} names no task")
        return self._root / task_id

    def _work(self, task_id: str, generation: int) -> Path:
        return self._task(task_id) / f"{WORK}{generation}"

    def _open(self, task_id: str, folder: Path) -> Workspace:
        """Open a workspace of a task, made where it is missing."""
        if not folder.is_dir():
            self._mark_own(task_id)
            _make_folders(folder)
        if folder.stat().st_mode & 0o700 != 0o700:
            folder.chmod(0o700)  # a program has shut its own folder
        return Workspace(folder)

    def _mark_own(self, task_id: str) -> None:
        """Make the folder of a task, with the mark of its owner."""
        folder = self._task(task_id)
        _make_folders(folder)
        (folder / self._mark).touch(mode=0o600)

    async def _make(
        self, task_id: str, generation: int, fill: Callable[[Path, Check], None]
    ) -> None:
        """Let `fill` make a folder and have it on the disk, which then gets its name."""
        folder = self._work(task_id, generation)
        half = folder.with_name(folder.name + HALF)

        def work(check: Check) -> None:
            if folder.is_dir():
                return
            self._mark_own(task_id)
            remove(half)
            try:
                fill(half, check)
                os.rename(half, folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove(half)
                raise
            sync_folder(folder.parent)

        await self._alone(task_id, work)

    # Threads ------------------------------------------------------------------------------------

    def _lock(self, task_id: str) -> asyncio.Lock:
        lock = self._locks.get(task_id)
        if lock is None:
            lock = self._locks[task_id] = asyncio.Lock()
        return lock

    async def _alone(self, task_id: str, work: Callable[[Check], T]) -> T:
        """Do work in a thread while no other is done for the task."""
        unwanted = threading.Event()

        def check() -> None:
            if unwanted.is_set():
                raise _Unwanted

        async with self._lock(task_id):
            return await _ended(partial(work, check), cancel=unwanted.set)


async def _ended(
    work: Callable[[], T],
    undo: Callable[[T], object] = lambda _: None,
    cancel: Callable[[], object] = lambda: None,
) -> T:
    """Do work in a thread. Where the caller is cancelled, `cancel` is called, the thread is waited
    for, and what it has brought is given to `undo`."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancel()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled() and running.exception() is None:
            undo(running.result())
        raise


async def _pieces(pieces: Generator[bytes]) -> AsyncGenerator[bytes]:
    try:
        while (piece := await _ended(partial(next, pieces, None))) is not None:
            yield piece
    finally:
        pieces.close()


def _restored(folder: Path, checkpoint: str, target: Path, check: Check) -> None:
    checkpoints.restore(folder, checkpoint, target, check)


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, each on the disk."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def _within(folder: Path) -> list[Path]:
    """What is in a folder; nothing where there is none."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
