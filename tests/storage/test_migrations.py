"""What becomes of the file that is opened: a database of ours, or exactly what it was."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncsvc.errors import StartError
from asyncsvc.storage import schema
from asyncsvc.storage.connection import Writer
from asyncsvc.storage.migrations import connected, look_at
from asyncsvc.storage.schema import scripts
from asyncsvc.tasks.state import Cause, State
from tests.builders import begun, journal_at, moved, streamed


async def migrate(path: Path) -> Writer:
    look_at(path)
    return await connected(path)


async def refusal(path: Path) -> str:
    with pytest.raises(StartError) as caught:
        await migrate(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def asked(path: Path, *pragmas: str) -> list[object]:
    connection = await migrate(path)
    try:
        rows = [await connection.execute(f"PRAGMA {name}") for name in pragmas]
    finally:
        await connection.close()
    return [row[0][0] for row in rows]


def test_the_scripts_are_numbered_from_one_without_a_hole() -> None:
    assert [version for version, _ in scripts()] == list(range(1, len(scripts()) + 1))


async def test_a_new_file_has_the_newest_schema(tmp_path: Path) -> None:
    assert await asked(tmp_path / "x.db", "user_version") == [scripts()[-1][0]]


async def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = await migrate(path)
    await connection.execute("INSERT INTO calls VALUES ('gate', 5, 1)")
    await connection.close()
    connection = await migrate(path)
    rows = await connection.execute("SELECT gate, at FROM calls")
    await connection.close()
    assert [tuple(row) for row in rows] == [("gate", 5)]


async def test_writes_are_synced_logged_ahead_and_checked(tmp_path: Path) -> None:
    full = 2
    found = await asked(tmp_path / "x.db", "journal_mode", "synchronous", "foreign_keys")
    assert found == ["wal", full, 1]


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    assert await asked(tmp_path / "x.db", "user_version") == [scripts()[-1][0]]


async def test_a_newer_schema_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database(path, "CREATE TABLE later (x)", "PRAGMA user_version=99")
    before = path.read_bytes()
    streamed = await refusal(path)
    assert "schema 99" in streamed
    assert f"knows {scripts()[-1][0]}" in streamed
    assert path.read_bytes() == before
    assert not path.with_name("x.db-wal").exists()


@pytest.mark.parametrize("table", ["tasks", "bookmarks"])
async def test_another_program_s_database_is_left_as_it_was(tmp_path: Path, table: str) -> None:
    path = tmp_path / "x.db"
    database(path, f"CREATE TABLE {table} (x)")
    before = path.read_bytes()
    assert "another program's" in await refusal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is a letter, not a database\n" * 200, b"x"])
async def test_a_file_that_is_no_database_is_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    assert "not a database" in await refusal(path)
    assert path.read_bytes() == content


async def test_a_damaged_first_page_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await asked(path, "user_version")
    damaged = path.read_bytes()[:100] + b"\xff" * 3996 + path.read_bytes()[4096:]
    path.write_bytes(damaged)
    assert "it was not changed" in await refusal(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("name", ["", "missing/x.db"])
async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, name: str) -> None:
    assert "cannot be opened" in await refusal(tmp_path / name)


async def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    await asked(path, "user_version")
    before = path.read_bytes()
    newest = scripts()[-1][0]
    broken = (newest + 1, "CREATE TABLE half (x);\nCREATE TABLE tasks (x);")
    monkeypatch.setattr(schema, "scripts", lambda: [*scripts(), broken])
    assert "already exists" in await refusal(path)
    assert path.read_bytes() == before


async def test_only_the_migrations_that_are_missing_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    await asked(path, "user_version")
    newest = scripts()[-1][0]
    more = [*scripts(), (newest + 1, "CREATE TABLE more (x);")]
    monkeypatch.setattr(schema, "scripts", lambda: more)
    assert await asked(path, "user_version") == [newest + 1]
    assert await asked(path, "user_version") == [newest + 1]


async def test_keys_of_an_older_schema_stand_for_all_tasks_of_their_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    older = [sql for version, sql in scripts() if version <= 2]
    with closing(sqlite3.connect(path)) as connection:
        for sql in older:
            connection.executescript(sql)
        rows = [(n, f"t{n}") for n in (4, 5, 6, 9)]
        connection.executemany(
            "INSERT INTO tasks (n, id, state, type, lane, priority, retry_unsafe, preview, need, "
            "created_at, tokens, attempts, forgiven, starts, version, queued_at, updated_at, "
            "cached) VALUES (?, ?, 'completed', 'chat', 'short', 5, 0, '', 0, 0, 0, 0, 0, 0, 1, "
            "0, 0, 0)",
            rows,
        )
        connection.execute("INSERT INTO idempotency VALUES ('many', 'p', 4, '[{},{},{}]')")
        connection.execute("INSERT INTO idempotency VALUES ('one', 'p', 9, '[{}]')")
        connection.execute("PRAGMA user_version=2")
        connection.commit()
    writer = await migrate(path)
    try:
        left = []
        for n in (4, 6, 5, 9):
            await writer.execute("DELETE FROM tasks WHERE n = ?", (n,))
            found = await writer.execute("SELECT key FROM idempotency ORDER BY key")
            left.append([row[0] for row in found])
    finally:
        await writer.close()
    assert left == [["many", "one"], ["many", "one"], ["one"], []]


async def test_answers_stored_in_the_older_form_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "scripts", lambda: scripts()[:2])
        await asked(path, "user_version")
    row = "INSERT INTO kept (kind, key, at, value) VALUES"
    database(path, f"{row} ('answer', 'k', 1, '[]')", f"{row} ('limits', 'k', 1, '[]')")
    await asked(path, "user_version")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT kind FROM kept WHERE key = 'k'").fetchall() == [
            ("limits",)
        ]
        assert connection.execute("SELECT finish_reason_raw FROM tasks").fetchall() == []


async def test_a_task_that_ran_under_an_older_schema_has_no_lease_and_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "scripts", lambda: scripts()[:5])
        await asked(path, "user_version")
    columns = "n, id, state, type, lane, priority, retry_unsafe, preview, need, created_at, tokens"
    columns += ", attempts, forgiven, starts, version, queued_at, updated_at, cached"
    values = "1, 't1', 'running', 'chat', 'short', 5, 0, '', 0, 1, 0, 1, 0, 1, 3, 1, 1, 0"
    database(path, f"INSERT INTO tasks ({columns}) VALUES ({values})")
    async with journal_at(path) as journal:
        task = await journal.task("t1")
        assert (task.node, task.epoch, task.lease_until) == (None, 0, None)
        (again, _) = await journal.append(moved("t1", State.RUNNING, Cause.INTERRUPTED), begun())
        (running,) = await journal.append(streamed("t1", "x"))
        assert again.lease_until is None
        assert (running.node, running.epoch) == (journal.store.node, 1)
