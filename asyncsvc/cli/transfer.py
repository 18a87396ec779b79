"""`backup`, `restore`, `export` and `import`: data between the service and a file here.

A new file is there wholly or not at all and never takes the place of another. Bad lines are named
by their number in the file. `restore` changes nothing before the copy was found sound, refuses
while a service runs, and keeps the database before; it never deletes one.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated

from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import LONG_S, reach
from asyncsvc.cli.new_files import STD, New, report, written
from asyncsvc.cli.options import (
    HERE,
    MISUSED,
    THERE,
    Database,
    Failure,
    Json,
    SettingsFile,
    States,
    Url,
    environment,
    print_json,
    program,
    settings_file,
)
from asyncsvc.cli.serve import overrides
from asyncsvc.cli.terminal import say
from asyncsvc.clock import now_ms
from asyncsvc.config.load import load
from asyncsvc.storage import own_files
from asyncsvc.storage.backup import (
    CopyFailed,
    NotACopy,
    compact,
    exchange,
    inspect,
    keep_calls,
)
from asyncsvc.storage.lock import DatabaseLock, FileLock

app = Commands()

Old = Annotated[str, Argument(metavar="FILE|-", help="The file; - reads stdin.")]
PIECE = b'{"workspace_of"'
"""How a line of an export begins that is no task."""
CHUNK_LINES = 500
CHUNK_BYTES = 4 << 20


@app.command(group=THERE)
def backup(file: New, as_json: Json = False, url: Url = None) -> int:
    """Copy the database of the running service into a new file, whole and checked."""
    with reach(url) as api, written(file) as out:
        made = api.post("/admin/backup", timeout_s=LONG_S)
        digest = hashlib.sha256()
        try:
            for part in api.download(f"/admin/backup/{made['name']}"):
                digest.update(part)
                out.write(part)
        finally:
            api.discard(f"/admin/backup/{made['name']}")
        if digest.hexdigest() != made["sha256"]:
            raise Failure("the copy came damaged: its SHA-256 is another; try again")
    if as_json:
        found = {k: made[k] for k in ("bytes", "sha256", "tasks", "schema")}
        if file != STD:
            print_json({"file": file, **found})
    else:
        report(f"{file}: {made['tasks']} tasks, {made['bytes']} bytes, sha256 {made['sha256']}")
    return 0


@app.command(group=THERE)
def export(
    file: New,
    status: Annotated[States | None, Option(help="Only those in this state.")] = None,
    url: Url = None,
) -> int:
    """Write all tasks with their texts into a new file, one JSON line each; the workspaces of
    agents in lines before them."""
    tasks = TaskCount()
    with reach(url) as api, written(file) as out:
        for part in api.download("/tasks/export", {"status": status} if status else None):
            tasks.look(part)
            out.write(part)
    report(f"{file}: {tasks.count} tasks")
    return 0


class TaskCount:
    """Counts the tasks of an export, which comes in parts of any size. The other lines are pieces
    of workspaces."""

    def __init__(self) -> None:
        self.count = 0
        self._line = b""
        """The beginning of the line that is not at its end."""

    def look(self, part: bytes) -> None:
        *ended, rest = part.split(b"\n")
        for line in ended:
            self.count += not (self._line + line[: len(PIECE)]).startswith(PIECE)
            self._line = b""
        self._line = (self._line + rest[: len(PIECE)])[: len(PIECE)]


@app.command("import", group=THERE)
def import_(file: Old, as_json: Json = False, url: Url = None) -> int:
    """Take tasks back: finished ones as they were, unfinished ones into the queue."""
    total = {"imported": 0, "finished": 0, "queued": 0, "skipped": 0}
    with reach(url) as api, _read(file) as lines:
        for first, chunk in _chunks(lines):
            try:
                answer = api.send("/admin/import", chunk, {"first_line": first})
            except Failure as failure:
                raise Failure(
                    f"{failure}; stopped before line {first}, until then {_counted(total)}. "
                    "What is imported is skipped when the file is imported again"
                ) from None
            total = {name: count + answer[name] for name, count in total.items()}
    if as_json:
        print_json(total)
    else:
        say(_counted(total))
    return 0


def _counted(total: dict[str, int]) -> str:
    return (
        f"{total['imported']} imported ({total['finished']} finished, {total['queued']} queued), "
        f"{total['skipped']} skipped as known"
    )


def _chunks(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, lines as they were)."""
    held: list[bytes] = []
    size, first, number = 0, 1, 0
    for number, line in enumerate(lines, start=1):
        if held and (len(held) == CHUNK_LINES or size + len(line) > CHUNK_BYTES):
            yield first, b"".join(held)
            held, size, first = [], 0, number
        held.append(line)
        size += len(line)
    if held:
        yield first, b"".join(held)


@contextmanager
def _read(file: str) -> Generator[IO[bytes]]:
    if file == STD:
        yield sys.stdin.buffer
        return
    try:
        source = open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", MISUSED) from None
    with closing(source):
        yield source


@app.command(group=HERE)
def restore(file: Old, settings: SettingsFile = None, db: Database = None) -> int:
    """Put a backup in the place of the database; the service must be stopped."""
    named = settings_file(settings)
    found = load(named, environment(named), overrides(None, None, db))
    database = Path(found.storage.path)
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
        tasks, schema = _inspected(source, coming)
        held = database.exists()
        if held:
            keep_calls(database, coming)
        exchange(coming, database, aside)
        own_files.close_to_others(database)
    except NotACopy as error:
        raise Failure(f"{_named(file)}: {error}; nothing was changed") from None
    except (OSError, CopyFailed) as error:
        raise Failure(f"{database} cannot be restored: {error}") from None
    finally:
        for rest in ("", "-journal", "-raw"):
            with suppress(OSError):
                coming.with_name(coming.name + rest).unlink()
    say(f"restored  {database.absolute()}: {tasks} tasks, schema {schema}, of {_named(file)}")
    say(f"before    {aside.absolute()}" if held else "before    there was none")
    say(f"`{program()} serve` starts with it; unfinished tasks of the backup will run again")
    return 0


def _inspected(source: Path | None, coming: Path) -> tuple[int, int]:
    """Copy the backup beside the database and check the copy: what is checked is what is used."""
    if source is None:
        source = coming.with_name(f"{coming.name}-raw")
        with open(own_files.new(source), "wb") as raw:
            shutil.copyfileobj(sys.stdin.buffer, raw)
    inspect(source)
    need = source.stat().st_size
    if shutil.disk_usage(coming.parent).free < need:
        raise NotACopy(f"the disk of {coming.parent} has no room for its {need} bytes")
    os.close(own_files.new(coming))
    compact(source, coming)
    with coming.open("rb+") as file:
        os.fsync(file.fileno())
    return inspect(coming)


def _named(file: str) -> str:
    return "stdin" if file == STD else file
