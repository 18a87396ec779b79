"""What SQLite's errors mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asyncsvc.errors import DatabaseDamaged, ReadRefused
from asyncsvc.storage.entries import loads
from asyncsvc.storage.refusals import Refusals, damage


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        yield connection


def error(database: sqlite3.Connection, sql: str) -> sqlite3.Error:
    with pytest.raises(sqlite3.Error) as caught:
        database.execute(sql).fetchall()
    return caught.value


def test_a_text_that_is_not_utf8_is_damage_and_is_not_quoted(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO t VALUES (CAST(x'7365637265740080ff' AS TEXT))")
    found = damage(error(database, "SELECT x FROM t"))
    assert found is not None
    assert "secret" not in found


@pytest.mark.parametrize(
    "sql", ["SELECT json('{')", "SELECT * FROM nothing", "INSERT INTO t VALUES (1, 2)"]
)
def test_what_is_wrong_with_a_statement_is_no_damage(
    database: sqlite3.Connection, sql: str
) -> None:
    assert damage(error(database, sql)) is None


@pytest.mark.parametrize("text", ["database disk image is malformed", "file is not a database"])
def test_errors_without_a_code_go_by_their_words(text: str) -> None:
    assert damage(sqlite3.OperationalError(text)) == text


def test_the_first_damage_is_remembered_with_its_file(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path / "x.db")
    assert isinstance(refusals.of_read(sqlite3.OperationalError("disk I/O error")), ReadRefused)
    assert refusals.damage is None
    for text in ("database disk image is malformed", "file is not a database"):
        assert isinstance(refusals.of_write(sqlite3.DatabaseError(text)), DatabaseDamaged)
    assert refusals.damage is not None
    assert "malformed" in refusals.damage
    assert str(tmp_path / "x.db") in refusals.damage


@pytest.mark.parametrize("text", [b"", b"\0" * 20, b"{", '{"a": 1'])
def test_stored_json_that_is_none_is_damage(text: str | bytes) -> None:
    with pytest.raises(DatabaseDamaged):
        loads(text)
