"""Ends the work of the code under test at one of its system calls, as a kill does.

From that call on every further one fails too: what a dead process would have cleaned up stays.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

CALLS = (
    "chmod", "fchmod", "fsync", "ftruncate", "link", "mkdir", "open", "rename", "replace",
    "rmdir", "symlink", "truncate", "unlink", "utime", "write", "writev",
)  # fmt: skip
"""Those that change a file system, or open something."""


class Killed(BaseException):
    """The process is dead."""


class Countdown:
    """Counts calls; at number `at`, and ever after, they raise Killed."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.made: list[str] = []

    @property
    def ended(self) -> bool:
        return self.at is not None and len(self.made) >= self.at

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any, **named: Any) -> Any:
            if self.ended:
                raise Killed
            self.made.append(name)
            if self.ended:
                raise Killed
            return call(*given, **named)

        return made


@contextmanager
def killed(at: int | None = None) -> Iterator[Countdown]:
    """The system calls of this block, of which the one of that number is the last, not made."""
    countdown = Countdown(at)
    calls: dict[str, Any] = {name: countdown.counted(name, getattr(os, name)) for name in CALLS}
    with patch.multiple(os, **calls):
        yield countdown
