"""`backup`, `export` and `import`: data between a running service and a file here.

Owns the file on this side. Promises that a new file is there wholly or not at all and never
takes the place of another; that each bad line is named by its number in the file; that what
was told of an import is stored. Never writes into the service's own folder.
"""

import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asyncsvc.cli.client import Api
from asyncsvc.cli.failure import MISUSED, Failure
from asyncsvc.cli.submitting import print_json
from asyncsvc.storage.atomic_file import new_file

STD = "-"
CHUNK_LINES = 500
CHUNK_BYTES = 4 << 20


def backup(api: Api, file: str, as_json: bool) -> int:
    """Have a copy made, fetch it, and let the service forget its own."""
    with _written(file) as out:
        told = api.patiently("/admin/backup")
        digest = hashlib.sha256()
        try:
            for part in api.load(f"/admin/backup/{told['name']}"):
                digest.update(part)
                out.write(part)
        finally:
            api.discard(f"/admin/backup/{told['name']}")
        if digest.hexdigest() != told["sha256"]:
            raise Failure("the copy came damaged: its SHA-256 is another; try again")
    if as_json:
        found = {k: told[k] for k in ("bytes", "sha256", "tasks", "schema")}
        if file != STD:
            print_json({"file": file, **found})
    else:
        _say(f"{file}: {told['tasks']} tasks, {told['bytes']} bytes, sha256 {told['sha256']}")
    return 0


def export(api: Api, file: str, status: str | None) -> int:
    """Write every task as a line."""
    count = 0
    with _written(file) as out:
        for part in api.load("/admin/export", {"status": status} if status else None):
            count += part.count(b"\n")
            out.write(part)
    _say(f"{file}: {count} tasks")
    return 0


def import_(api: Api, file: str, as_json: bool) -> int:
    """Send the lines in pieces, each of which is taken wholly or not at all."""
    total = {"imported": 0, "finished": 0, "queued": 0, "skipped": 0}
    with _read(file) as lines:
        for first, chunk in _chunks(lines):
            try:
                told = api.send("/admin/import", chunk, {"first_line": first})
            except Failure as failure:
                raise Failure(
                    f"{failure}; stopped before line {first}, until then {_counted(total)}. "
                    "What is imported is skipped when the file is imported again"
                ) from None
            total = {name: count + told[name] for name, count in total.items()}
    if as_json:
        print_json(total)
    else:
        print(_counted(total))
    return 0


def _counted(total: dict[str, int]) -> str:
    return (
        f"{total['imported']} imported ({total['finished']} finished, {total['queued']} queued), "
        f"{total['skipped']} skipped as known"
    )


def _chunks(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, lines as they were)."""
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
def _written(file: str) -> Iterator[IO[bytes]]:
    """The new file, or stdout."""
    if file == STD:
        if sys.stdout.isatty():
            raise Failure("this is much for a terminal: name a file, or pipe it on", MISUSED)
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with new_file(Path(file)) as passing, passing.open("wb") as out:
            yield out
    except FileExistsError:
        raise Failure(f"{file} exists already; name a new file", MISUSED) from None
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}", MISUSED) from None


@contextmanager
def _read(file: str) -> Iterator[IO[bytes]]:
    if file == STD:
        yield sys.stdin.buffer
        return
    try:
        source = open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", MISUSED) from None
    with contextlib.closing(source):
        yield source


def _say(line: str) -> None:
    """For people, apart from what a pipe carries."""
    print(line, file=sys.stderr if line.startswith(f"{STD}:") else sys.stdout)
