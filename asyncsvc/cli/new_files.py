"""Files that a command makes: there wholly or not at all, never in the place of another."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

from asyncsvc.cli.arguments import Argument
from asyncsvc.cli.options import MISUSED, Failure
from asyncsvc.cli.terminal import say
from asyncsvc.storage.backup import new_file

New = Annotated[str, Argument(metavar="FILE|-", help="A new file; - writes to stdout.")]
STD = "-"


@contextmanager
def written(file: str) -> Generator[IO[bytes]]:
    """Open a new file, or stdout."""
    if file == STD:
        if sys.stdout.isatty():
            raise Failure("this is much for a terminal: name a file, or pipe it on", MISUSED)
        yield sys.stdout.buffer
        return
    try:
        with new_file(Path(file)) as passing, passing.open("wb") as out:
            yield out
    except FileExistsError:
        raise Failure(f"{file} exists already; name a new file", MISUSED) from None
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}", MISUSED) from None


def report(line: str) -> None:
    """Print a line for people, apart from the data of a pipe."""
    say(line, sys.stderr if line.startswith(f"{STD}:") else sys.stdout)
