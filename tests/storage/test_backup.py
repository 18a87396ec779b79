import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.errors import StartError, StorageUnavailable, UnsafeFile
from asyncsvc.journal.journal import Journal
from asyncsvc.storage import backup
from asyncsvc.storage.backup import Backups, NotACopy, exchange, inspect, keep_calls
from asyncsvc.storage.room import DiskRoom
from asyncsvc.storage.schema import scripts
from tests.builders import begun, ended, journal_at, live_through, new_task, store_at


async def filled(path: Path, count: int = 3) -> None:
    async with journal_at(path) as journal:
        for number in range(count):
            await live_through(journal, f"t{number}", "some text")


def ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM tasks")}


async def test_a_copy_of_a_database_in_use_is_whole_and_one_file(tmp_path: Path) -> None:
    path = tmp_path / "asyncsvc.db"
    async with journal_at(path) as journal:
        await live_through(journal, "t0", "text")
        copy = await Backups(path).make("a.db")
        await journal.append(new_task("later"))
    assert copy.path == tmp_path / "backups" / "a.db"
    assert [found.name for found in copy.path.parent.iterdir()] == ["a.db"]
    assert (copy.tasks, copy.bytes) == (1, copy.path.stat().st_size)
    assert ids(copy.path) == {"t0"}
    with closing(sqlite3.connect(copy.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT result FROM results").fetchone() == ("text",)


async def test_the_writer_goes_on_while_it_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "asyncsvc.db"
    async with journal_at(path) as journal:
        await journal.append(*(new_task(f"t{n}", b"x" * 50_000) for n in range(100)))
        with patch.object(backup, "STEP_PAGES", 16):
            copying = asyncio.create_task(Backups(path).make("a.db"))
            written = 0
            while not copying.done():
                await journal.append(new_task(f"w{written}"))
                written += 1
        copy = await copying
    assert written > 1
    found = ids(copy.path)
    # One moment: of what was written meanwhile it has a beginning without holes.
    assert found == {f"t{n}" for n in range(100)} | {f"w{n}" for n in range(len(found) - 100)}


async def test_no_file_is_replaced(tmp_path: Path) -> None:
    await filled(path := tmp_path / "asyncsvc.db")
    backups = Backups(path)
    first = (await backups.make("a.db")).sha256
    with pytest.raises(FileExistsError):
        await backups.make("a.db")
    assert backup.sha256(backups.folder / "a.db") == first
    assert not backups.busy


async def test_without_room_nothing_is_begun(tmp_path: Path) -> None:
    await filled(path := tmp_path / "asyncsvc.db")
    room = DiskRoom(path)
    room.least = lambda: 1 << 60
    backups = Backups(path, room)
    with pytest.raises(StorageUnavailable, match="disk_free_mb"):
        await backups.make("a.db")
    assert list(backups.folder.iterdir()) == []


async def test_a_disk_that_fails_leaves_nothing(tmp_path: Path) -> None:
    await filled(path := tmp_path / "asyncsvc.db")
    backups = Backups(path)
    with (
        patch.object(os, "fsync", side_effect=OSError(5, "Input/output error")),
        pytest.raises(StorageUnavailable, match="Input/output"),
    ):
        await backups.make("a.db")
    assert list(backups.folder.iterdir()) == []


async def test_a_client_that_leaves_ends_the_copying(tmp_path: Path) -> None:
    path = tmp_path / "asyncsvc.db"
    async with journal_at(path) as journal:
        await journal.append(*(new_task(f"t{n}", b"x" * 50_000) for n in range(100)))
        backups = Backups(path)
        with patch.object(backup, "STEP_PAGES", 1):
            copying = asyncio.create_task(backups.make("a.db"))
            async with asyncio.timeout(20):
                while not backups.folder.exists() or not list(backups.folder.iterdir()):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copying
        assert list(backups.folder.iterdir()) == []
        assert not backups.busy


def _text(path: Path) -> None:
    path.write_text("this is no database, and long enough to be taken for one" * 9)


def _other(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=999")
        connection.execute("CREATE TABLE tasks (x)")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8192])


def _scratched(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(data)


def _orphaned(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM tasks WHERE id = 't0'")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_text, "not a SQLite"),
        (_other, "another program"),
        (_newer, "newer asyncsvc"),
        (_cut, "damaged|cannot be read"),
        (_scratched, "damaged|cannot be read"),
        (_orphaned, "rows refer"),
    ],
)
async def test_what_is_no_sound_copy_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "a.db"
    if spoil in (_cut, _scratched, _orphaned):
        await filled(path)
        assert inspect(path) == (3, len(scripts()))
    spoil(path)
    with pytest.raises(NotACopy, match=why):
        inspect(path)


async def test_an_exchange_keeps_the_old_one(tmp_path: Path) -> None:
    path, coming, aside = (tmp_path / name for name in ("a.db", "coming", "aside"))
    await filled(path, 2)
    await filled(coming, 1)
    exchange(coming, path, aside)
    assert (ids(path), ids(aside)) == ({"t0"}, {"t0", "t1"})
    assert not coming.exists()
    async with store_at(path) as store:
        assert len(await store.counts(None)) == 1


async def test_what_a_killed_service_has_left_in_its_log_is_kept_too(tmp_path: Path) -> None:
    path, coming, aside = (tmp_path / name for name in ("a.db", "coming", "aside"))
    source = tmp_path / "source"
    async with journal_at(source) as journal:
        await live_through(journal, "t0")
        for side in ("", "-wal"):  # as a kill leaves them
            path.with_name(f"a.db{side}").write_bytes(
                source.with_name(f"source{side}").read_bytes()
            )
    await filled(coming, 2)
    exchange(coming, path, aside)
    assert (ids(path), ids(aside)) == ({"t0", "t1"}, {"t0"})


async def test_a_damaged_one_is_kept_as_it_is(tmp_path: Path) -> None:
    path, coming, aside = (tmp_path / name for name in ("a.db", "coming", "aside"))
    _text(path)
    path.with_name("a.db-wal").write_text("its log")
    await filled(coming, 1)
    with patch.object(os, "link", side_effect=OSError("no links here")):
        exchange(coming, path, aside)
    assert ids(path) == {"t0"}
    assert aside.read_text().startswith("this is no database")
    assert aside.with_name("aside-wal").read_text() == "its log"


async def test_newer_calls_upstream_are_kept(tmp_path: Path) -> None:
    old, copy = tmp_path / "old", tmp_path / "copy"

    async def called(journal: Journal, task_id: str, gate: str) -> None:
        start = begun(task_id)
        await journal.append(new_task(task_id))
        await journal.append(type(start)(task_id, start.drafts, call=gate))
        await journal.append(ended(task_id))

    async with journal_at(old) as journal:
        await called(journal, "t1", "before")
        made = await Backups(old).make("a.db")
        await called(journal, "t2", "after")
    copy.write_bytes(made.path.read_bytes())
    keep_calls(old, copy)
    keep_calls(old, copy)
    with closing(sqlite3.connect(copy)) as connection:
        found = [row[0] for row in connection.execute("SELECT gate FROM calls ORDER BY at")]
    assert found == ["before", "after"]
    keep_calls(tmp_path / "nothing", copy)
    assert inspect(copy)[0] == 1


async def test_the_log_of_a_database_that_is_replaced_is_not_read_into_the_new_one(
    tmp_path: Path,
) -> None:
    path, coming, aside = (tmp_path / name for name in ("a.db", "coming", "aside"))
    source = tmp_path / "source"
    async with journal_at(source) as journal:
        await live_through(journal, "old")
        frames = source.with_name("source-wal").read_bytes()  # as a kill leaves them
    assert len(frames) > 4096
    _text(path)  # damaged, so that its log cannot be written into it before
    path.with_name("a.db-wal").write_bytes(frames)
    await filled(coming, 2)
    exchange(coming, path, aside)
    assert ids(path) == {"t0", "t1"}
    assert inspect(path)[0] == 2
    assert aside.with_name("aside-wal").read_bytes() == frames


def changed_schema(path: Path, *statements: str) -> None:
    """Write to the schema's own table, which SQLite forbids by itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=1")
        for sql in statements:
            connection.execute(sql)


async def test_the_verdict_of_the_integrity_check_counts(tmp_path: Path) -> None:
    await filled(path := tmp_path / "a.db")
    one = "name = 'tasks_by_state'"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"CREATE TEMP TABLE held AS SELECT * FROM sqlite_schema WHERE {one}")
        held = connection.execute("SELECT * FROM held").fetchone()
    changed_schema(path, f"DELETE FROM sqlite_schema WHERE {one}")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE tasks SET state = 'failed'")  # the index does not see it
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=1")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", held)
    assert len(ids(path)) == 3  # every table can be read
    with pytest.raises(NotACopy, match=r"it is damaged: (?s:.)*missing from index"):
        inspect(path)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (
            "CREATE TRIGGER evil AFTER INSERT ON tasks BEGIN DELETE FROM tasks; END",
            "trigger 'evil'",
        ),
        ("CREATE VIEW evil AS SELECT * FROM tasks", "view 'evil'"),
        ("CREATE TABLE evil (x)", "table 'evil'"),
        ("CREATE VIRTUAL TABLE evil USING fts5 (x)", "table 'evil"),
        ("CREATE INDEX evil ON tasks (abs(n))", "index 'evil'"),
        ("ALTER TABLE tasks ADD COLUMN evil INT AS (n * 2)", "another table 'tasks'"),
        ("ALTER TABLE tasks ADD COLUMN evil TEXT CHECK (n)", "another table 'tasks'"),
        ("DROP INDEX tasks_by_state", "lacks the index 'tasks_by_state'"),
        ("DROP TRIGGER task_leaves_key", "lacks the trigger 'task_leaves_key'"),
        ("PRAGMA application_id=7", "another program"),
        ("PRAGMA user_version=-1", "another program"),
        ("PRAGMA user_version=0", "another program"),
        ("PRAGMA user_version=3", "'files_by_owner'"),
    ],
)
async def test_what_is_not_our_schema_is_refused_for_a_restore_and_at_a_start(
    tmp_path: Path, sql: str, why: str
) -> None:
    await filled(path := tmp_path / "a.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)
    before = path.read_bytes()
    with pytest.raises(NotACopy, match=why):
        inspect(path)
    with pytest.raises(NotACopy, match=why):
        backup.look(path)
    with pytest.raises(UnsafeFile, match=why) as refused:
        async with store_at(path):
            pass
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema "
            "WHERE name = 'tasks') WHERE name = 'bodies'",
            "in one place",
        ),
        (
            "UPDATE sqlite_schema SET sql = replace(sql, 'NEW.id', 'hex(NEW.id)') "
            "WHERE name = 'file_leaves_key'",
            "another trigger 'file_leaves_key'",
        ),
        (
            "UPDATE sqlite_schema SET sql = sql || hex(zeroblob(1000000)) WHERE name = 'tasks'",
            "another program|cannot be read",
        ),
        (
            "UPDATE sqlite_schema SET sql = replace(sql, 's ', 's /*') WHERE name = 'calls'",
            "cannot be read|another table 'calls'|malformed",
        ),
    ],
)
async def test_what_was_written_into_the_schema_table_is_refused(
    tmp_path: Path, sql: str, why: str
) -> None:
    await filled(path := tmp_path / "a.db")
    changed_schema(path, sql)
    with pytest.raises(NotACopy, match=why):
        inspect(path)
    with pytest.raises(StartError):
        async with store_at(path):
            pass


async def test_what_analyze_and_old_versions_leave_is_ours(tmp_path: Path) -> None:
    await filled(path := tmp_path / "a.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ANALYZE")
    assert inspect(path) == (3, len(scripts()))
    for version, _ in scripts():
        older = tmp_path / f"{version}.db"
        with closing(sqlite3.connect(older, isolation_level=None)) as connection:
            for number, sql in scripts():
                if number <= version:
                    connection.executescript(f"-- as an older version wrote it\n{sql}")
            connection.execute(f"PRAGMA user_version={version}")
        assert inspect(older) == (0, version)
        async with store_at(older) as store:
            assert await store.counters() == (0, 0)


async def test_a_restored_copy_can_give_its_free_pages_back(tmp_path: Path) -> None:
    await filled(path := tmp_path / "a.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
    target = tmp_path / "b.db"
    target.touch()
    backup.compact(path, target)
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert inspect(target) == inspect(path)


@pytest.mark.parametrize(
    ("at", "data", "why"),
    [
        (28, b"\x7f\xff\xff\xff", "cannot be read|damaged"),  # pages: more than the file has
        (16, b"\x00\x03", "cannot be read|not a database"),  # page size: no power of two
        (18, b"\x09\x09", "cannot be read|damaged|readonly"),  # a format of the future
        (44, b"\x00\x00\x00\x09", "cannot be read|damaged"),
        (60, b"\xff\xff\xff\xff", "another program"),  # user_version: below nothing
        (68, b"\x00\x00\x00\x07", "another program"),  # application_id
    ],
)
async def test_what_a_header_claims_is_not_believed(
    tmp_path: Path, at: int, data: bytes, why: str
) -> None:
    await filled(path := tmp_path / "a.db")
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    with pytest.raises(NotACopy, match=why):
        inspect(path)
    with pytest.raises(StartError):
        async with store_at(path):
            pass
    assert path.read_bytes() == content


async def test_a_database_in_another_encoding_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA encoding='UTF-16'")
        for version, sql in scripts():
            connection.executescript(f"{sql}\nPRAGMA user_version={version};")
    with pytest.raises(NotACopy, match="not in UTF-8"):
        inspect(path)
