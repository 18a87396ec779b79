"""`restore`: a backup in the place of the database, while no service runs.

Owns the order of steps: lock, copy, look, set the old one aside, exchange. Promises that a
running service is left alone and named, that nothing is changed before the copy was found
sound, and that the database before is kept. Never deletes a database.
"""

import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from asyncsvc.cli.failure import MISUSED, Failure
from asyncsvc.cli.files import settings_file
from asyncsvc.cli.serving import overrides, program
from asyncsvc.clock import now_ms
from asyncsvc.config.load import load
from asyncsvc.storage.backup import NotACopy, duplicate, exchange, inspect, keep_calls
from asyncsvc.storage.lock import DatabaseLock, FileLock

STD = "-"


def restore(file: str, named: Path | None, db: Path | None, environ: Mapping[str, str]) -> int:
    """Raises SettingsError, StartError where the database is in use, or Failure."""
    settings = load(settings_file(named), environ, overrides(None, None, db))
    database = Path(settings.storage.path)
    source = None if file == STD else Path(file)
    if source is not None:
        if not source.is_file():
            raise Failure(f"{file}: there is no such file", MISUSED)
        if database.exists() and source.samefile(database):
            raise Failure(f"{file} is the database itself", MISUSED)
    with FileLock(database), DatabaseLock(database):
        return _exchanged(source, file, database)


def _exchanged(source: Path | None, file: str, database: Path) -> int:
    stamp = datetime.fromtimestamp(now_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    coming = database.with_name(f"{database.name}.coming-{stamp}")
    aside = database.with_name(f"{database.name}.before-{stamp}")
    try:
        tasks, schema = _checked(source, coming)
        held = database.exists()
        if held:
            keep_calls(database, coming)
        exchange(coming, database, aside)
    except NotACopy as error:
        raise Failure(f"{_named(file)}: {error}; nothing was changed") from None
    except (OSError, sqlite3.Error) as error:
        raise Failure(f"{database} cannot be restored: {error}") from None
    finally:
        for rest in ("", "-journal", "-raw"):
            with suppress(OSError):
                coming.with_name(coming.name + rest).unlink()
    print(f"restored  {database.absolute()}: {tasks} tasks, schema {schema}, of {_named(file)}")
    print(f"before    {aside.absolute()}" if held else "before    there was none")
    print(f"`{program()} serve` starts with it; unfinished tasks of the backup will run again")
    return 0


def _checked(source: Path | None, coming: Path) -> tuple[int, int]:
    """Bring the copy beside the database and look at it there: what was looked at is what will
    be used."""
    if source is None:
        source = coming.with_name(f"{coming.name}-raw")
        with source.open("xb") as raw:
            shutil.copyfileobj(sys.stdin.buffer, raw)
    inspect(source)
    coming.touch(mode=0o600, exist_ok=False)
    duplicate(source, coming)
    with coming.open("rb+") as file:
        os.fsync(file.fileno())
    return inspect(coming)


def _named(file: str) -> str:
    return "stdin" if file == STD else file
