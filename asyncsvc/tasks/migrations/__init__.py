"""The schema's history: numbered SQL files, applied in order under `PRAGMA user_version`.

Owns how a database is opened for writing. Promises that a file it cannot read, or that a
newer asyncsvc has written, stops the start with a clear line and is left as it was. Never
goes back to an older schema.
"""

import sqlite3
from importlib import resources
from pathlib import Path

import aiosqlite

from asyncsvc.errors import StartError

PRAGMAS = (
    "busy_timeout=5000",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "journal_size_limit=67108864",
)


def scripts() -> list[tuple[int, str]]:
    """(version, SQL) of each migration, in order."""
    files = [f for f in resources.files(__package__).iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.read_text(encoding="utf-8")) for f in files)


async def migrate(path: Path) -> aiosqlite.Connection:
    """The write connection, with the newest schema. Raises StartError."""
    try:
        connection = await aiosqlite.connect(path, isolation_level=None, cached_statements=256)
    except sqlite3.Error as error:
        raise StartError(f"storage.path: {path} cannot be opened: {error}") from None
    try:
        for pragma in PRAGMAS:
            await connection.execute(f"PRAGMA {pragma}")
        await _upgrade(connection, path)
    except sqlite3.DatabaseError as error:
        await connection.close()
        raise StartError(
            f"storage.path: {path} cannot be used: {error}; it was not changed. "
            "Restore a backup or choose another file with --db FILE"
        ) from None
    except StartError:
        await connection.close()
        raise
    return connection


async def _upgrade(connection: aiosqlite.Connection, path: Path) -> None:
    history = scripts()
    newest = history[-1][0]
    rows = list(await connection.execute_fetchall("PRAGMA user_version"))
    current = rows[0][0]
    if current > newest:
        raise StartError(
            f"{path} was written by a newer asyncsvc (schema {current}, this one knows {newest}); "
            "update asyncsvc or choose another file with --db FILE"
        )
    for version, sql in history:
        if version > current:
            await connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={version};\nCOMMIT;"
            )
