"""The schema that a database of ours has, and the check that a file has it and nothing else.

Owns the list of tables, indexes and triggers of each version, which the migrations give. Promises
that a file with any other trigger, view, table (virtual ones too), column or index is refused
before a statement touches its tables: each of them is SQL of another that would run as ours. The
text of each is compared word by word, without comments. Never changes a file.
"""

import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib import resources
from typing import NamedTuple

MIGRATIONS = "asyncsvc.storage.migrations"
STATISTICS = re.compile(r"sqlite_stat[134]")
"""What ANALYZE adds: numbers that only SQLite's planner reads."""
UNTRUSTED = (
    "trusted_schema=OFF",  # functions with effects do not run out of a schema
    "cell_size_check=ON",  # damage is found where it is read
)
"""Pragmas of every connection."""
SQL_MOST = 1 << 20
"""Characters of a schema's texts that are read at all; ours has about ten thousand."""
WORDS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|[^\s\w]""")
COMMENTS = re.compile(r"('(?:[^']|'')*')|--[^\n]*|/\*.*?\*/", re.DOTALL)


class Object(NamedTuple):
    """A table, an index, a trigger or a view, as sqlite_schema names it."""

    type: str
    name: str
    table: str
    words: tuple[str, ...]


def scripts() -> list[tuple[int, str]]:
    """(version, SQL) of each migration, in order."""
    files = [f for f in resources.files(MIGRATIONS).iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.read_text(encoding="utf-8")) for f in files)


@cache
def made_by(statements: tuple[str, ...]) -> frozenset[Object]:
    """What an empty database holds after these scripts."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for sql in statements:
            connection.executescript(sql)
        return _objects(connection)


def fault(connection: sqlite3.Connection) -> str | None:
    """Why an open database is not ours as it should be, in words that follow its name; None where
    it is, or is empty. Reads its schema only. Raises sqlite3.Error."""
    version = _number(connection, "user_version")
    made = scripts()
    newest = made[-1][0]
    if version > newest:
        return (
            f"was written by a newer asyncsvc (schema {version}, this one knows {newest}); "
            "update asyncsvc"
        )
    size, pages, roots = connection.execute(
        "SELECT COALESCE(SUM(LENGTH(sql)), 0), COUNT(NULLIF(rootpage, 0)), "
        "COUNT(DISTINCT NULLIF(rootpage, 0)) FROM sqlite_schema"
    ).fetchone()
    found = frozenset[Object]() if size > SQL_MOST else _objects(connection)
    if version < 0 or _number(connection, "application_id") or (not version and (found or size)):
        return "is another program's database"
    if not version:
        return None
    if size > SQL_MOST or not {o.name for o in found} >= {"tasks", "events"}:
        return "is another program's database"
    if connection.execute("PRAGMA encoding").fetchone()[0] != "UTF-8":
        return "is not in UTF-8, as a database of asyncsvc is"
    if roots != pages:
        return "has a schema in which two tables are in one place"
    return _difference(found, made_by(tuple(sql for n, sql in made if n <= version)))


def _difference(found: frozenset[Object], wanted: frozenset[Object]) -> str | None:
    names = {(o.type, o.name) for o in wanted}
    for one in sorted(found - wanted):
        same = "has another {} {!r} than asyncsvc makes"
        more = "has the {} {!r}, which asyncsvc has not made"
        return (same if (one.type, one.name) in names else more).format(one.type, one.name[:80])
    for one in sorted(wanted - found):
        return f"lacks the {one.type} {one.name!r}"
    return None


def _objects(connection: sqlite3.Connection) -> frozenset[Object]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    return frozenset(
        Object(str(kind), str(name), str(table), _words(sql))
        for kind, name, table, sql in rows
        if not STATISTICS.fullmatch(str(name))
    )


def _words(sql: object) -> tuple[str, ...]:
    """The words of a statement. SQLite stores it as it was written, so that comments and the form
    of what a migration has changed (quotes of names) may differ between its versions."""
    if sql is None:
        return ()
    text = COMMENTS.sub(lambda match: match[1] or " ", str(sql))
    return tuple(word.strip('"').casefold() if word[0] != "'" else word
                 for word in WORDS.findall(text))  # fmt: skip


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
