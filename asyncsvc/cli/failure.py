"""What a command fails with.

Owns the exit codes, and which belongs to a message. Promises one line for people. Never prints.
"""

from asyncsvc.errors import AsyncsvcError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class Failure(AsyncsvcError):
    """The command cannot do it; the message says what to do about it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
