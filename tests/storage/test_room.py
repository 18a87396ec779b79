"""Room on the disk: what is asked for before it is written, and given back when it is free."""

import os
import shutil
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.errors import NoRoom, StorageUnavailable
from asyncsvc.storage import backup, migrations, upkeep
from asyncsvc.storage.backup import Backups
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit, FileAdded, FileRemoved, PieceAdded, PiecesRemoved
from asyncsvc.storage.room import LOG_BYTES, MB, DiskRoom
from asyncsvc.storage.upkeep import SPARE_PAGES
from tests.builders import journal_at, new_task, store_at

Usage = namedtuple("Usage", "total used free")
PIECE = 256 * 1024


@contextmanager
def disk(free_mb: float) -> Iterator[None]:
    """A disk with so many free megabytes."""
    usage = Usage(1000 * MB, 0, round(free_mb * MB))
    with patch.object(shutil, "disk_usage", lambda _: usage):
        yield


def kept(path: Path, megabytes: int) -> DiskRoom:
    made = DiskRoom(path)
    made.least = lambda: megabytes * MB
    return made


async def file_of(store: Database, pieces: int, file_id: str = "file-1") -> None:
    await store.commit(Commit(rows=[FileAdded(file_id, "a", "batch", "open", 1)]))
    for at in range(pieces):
        piece = PieceAdded(file_id, at * PIECE, os.urandom(PIECE), durable=False)
        await store.commit(Commit(rows=[piece]))


async def removed(store: Database, file_id: str = "file-1") -> None:
    await store.commit(Commit(rows=[FileRemoved(file_id)]))
    while gone := await store.files.removed(()):
        await store.commit(Commit(rows=[PiecesRemoved(n) for n in gone]))


def sizes(path: Path) -> tuple[int, int]:
    """(database, log) in bytes."""
    return path.stat().st_size, Path(f"{path}-wal").stat().st_size


async def test_what_is_kept_free_is_not_given_away(tmp_path: Path) -> None:
    one = kept(tmp_path / "x.db", 200)
    with disk(201):
        one.check(MB)
        with pytest.raises(NoRoom, match=r"201 MB are free .*1\.1 MB .*disk_free_mb = 200"):
            one.check(MB + MB // 10)
    with disk(0):
        kept(tmp_path / "x.db", 0).check(1 << 60)


async def test_writes_under_way_count(tmp_path: Path) -> None:
    one = kept(tmp_path / "x.db", 200)
    with disk(203):
        async with one.taking(2 * MB):
            with pytest.raises(NoRoom):
                async with one.taking(2 * MB):
                    pass
        async with one.taking(2 * MB):
            pass


async def test_what_the_log_will_add_to_the_database_counts(tmp_path: Path) -> None:
    one = kept(tmp_path / "x.db", 200)
    (tmp_path / "x.db-wal").write_bytes(bytes(2 * MB))
    with disk(203):
        one.check(MB)
        with pytest.raises(NoRoom):
            one.check(2 * MB)
        one.check(2 * MB, tmp_path)  # a copy beside the database


async def test_free_pages_are_room_while_the_log_can_grow(tmp_path: Path) -> None:
    one = kept(tmp_path / "x.db", 200)
    one.free_pages = 150 * MB
    with disk(100):
        one.check(MB)
        with pytest.raises(NoRoom):
            one.check(MB, tmp_path)  # a copy cannot use them
        async with one.taking(49 * MB):
            pass
        one.check(MB)
        with pytest.raises(NoRoom):  # until the next look they count as used
            one.check(2 * MB)
    assert one.of(LOG_BYTES - 1) == LOG_BYTES - 1


async def test_free_pages_are_given_back_in_small_steps(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with store_at(path) as store:
        await file_of(store, 40)
        await store.upkeep.shorten_log()
        full = sizes(path)[0]
        await removed(store)
        await store.upkeep.look_at_pages()
        assert store.upkeep.room.free_pages > 9 * MB
        steps = 0
        while done := await store.upkeep.shrink():
            assert done <= upkeep.SHRINK_PAGES
            assert store.upkeep.fault() is None
            steps += 1
        assert steps > 20
        await store.upkeep.shorten_log()
        assert store.upkeep.fault() is None
        assert sizes(path)[0] < full - 8 * MB
        await store.upkeep.look_at_pages()
        assert store.upkeep.room.free_pages <= SPARE_PAGES * 4096
        await file_of(store, 4, "file-2")
        assert store.upkeep.fault() is None
        os.truncate(path, sizes(path)[0] // 2)  # by another hand
        assert "was cut" in str(store.upkeep.fault())


async def test_a_file_that_shrank_before_a_crash_is_no_fault_after_it(tmp_path: Path) -> None:
    path, copy = tmp_path / "x.db", tmp_path / "y.db"
    async with store_at(path) as store:
        await file_of(store, 40)
        await removed(store)
        await store.upkeep.shorten_log()
        await store.writer.execute("PRAGMA wal_autocheckpoint=0")
        while await store.upkeep.shrink():
            pass
        killed(path, copy)
    before = copy.stat().st_size
    async with store_at(copy) as store:
        assert store.upkeep.fault() is None
        await store.upkeep.shorten_log()
        assert copy.stat().st_size < before
        assert store.upkeep.fault() is None


def killed(path: Path, copy: Path) -> None:
    """The files as a kill at this moment leaves them."""
    for side in ("", "-wal"):
        Path(f"{copy}{side}").write_bytes(Path(f"{path}{side}").read_bytes())


def older(path: Path) -> None:
    """A database that cannot give pages back, as older versions made it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)


async def test_a_small_older_database_is_written_anew_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with journal_at(path) as journal:
        await journal.append(*(new_task(f"t{n}", b"x" * 5000) for n in range(50)))
    older(path)
    async with store_at(path) as store:
        assert await store.writer.execute("PRAGMA auto_vacuum") == [(2,)]
        assert len(await store.unfinished()) == 50
        assert store.upkeep.fault() is None


async def test_a_large_older_database_is_used_as_it_is_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.db"
    async with store_at(path):
        pass
    older(path)
    monkeypatch.setattr(migrations, "REWRITTEN_MOST", 0)
    async with store_at(path) as store:
        assert await store.writer.execute("PRAGMA auto_vacuum") == [(0,)]
        assert await store.upkeep.shrink() == 0
    assert "never gives room back" in caplog.text


async def test_a_copy_ends_where_the_room_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with journal_at(path) as journal:
        await journal.append(*(new_task(f"t{n}", b"x" * 50_000) for n in range(100)))
        free = iter([1000 * MB] * 4 + [199 * MB] * 1000)
        with (
            patch.object(backup, "STEP_PAGES", 16),
            patch.object(shutil, "disk_usage", lambda _: Usage(0, 0, next(free))),
            pytest.raises(StorageUnavailable, match="disk_free_mb"),
        ):
            await Backups(path, kept(path, 200)).make("a.db")
    assert os.listdir(tmp_path / "backups") == []


async def test_a_copy_does_not_hold_the_log_back_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    monkeypatch.setattr(backup, "LOG_MOST", -(1 << 40))
    async with journal_at(path) as journal:
        await journal.append(new_task("t1", b"x" * 50_000))
        with pytest.raises(StorageUnavailable, match="a quieter time"):
            await Backups(path).make("a.db")
    assert os.listdir(tmp_path / "backups") == []
