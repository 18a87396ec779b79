"""Exit codes, the error of a command that cannot be done, and the program's name in hints.

Imports no library, so that `--version`, `--help` and completion pay for none.
"""

import os
import sys

from asyncsvc.errors import AsyncsvcError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: the command failed, it was called wrongly, it was ended by Ctrl-C (128 + SIGINT)."""


class Failure(AsyncsvcError):
    """A command that cannot be done; the message says what to do about it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def program() -> str:
    """Return how the command line was called, for hints that can be copied."""
    called = os.path.basename(sys.argv[0])
    return {"main.py": "python main.py", "__main__.py": "python -m asyncsvc"}.get(
        called, "asyncsvc"
    )
