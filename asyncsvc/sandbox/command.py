"""A command for a sandbox, its outcome, and what every sandbox offers.

Owns the shapes and the limits. Promises that a command which no system could start is refused
with a sentence before anything runs. Never starts a process.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from asyncsvc.errors import InvalidRequest

MOST_STDIN_BYTES = 1 << 20
MOST_ARGUMENT_BYTES = 128 * 1024 - 1
"""Linux refuses a longer one (MAX_ARG_STRLEN)."""
MOST_ARGV_BYTES = 1 << 20
"""Half of what Linux takes for arguments and environment together, with a stack of 8 MB."""
MOST_S = 86_400

Output = Callable[[str], None]


def interpreter() -> Path:
    """The Python that runs the service, by its real path.

    Never a virtual environment's link: following it costs 80 ms where a version manager made it,
    and the environment is not mounted.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = Path(sys.base_prefix, "bin", name)
    return Path(os.path.realpath(found if found.exists() else sys.executable))


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run. `workspace` is the only folder outside that it sees and may write.

    With `python` the words are arguments for the service's own Python, as in `["-c", "pass"]`.
    `environ` is all that the program has beside PATH, HOME, TMPDIR and LANG.
    """

    argv: Sequence[str]
    workspace: Path
    stdin: bytes = b""
    timeout_s: float = 30.0
    max_output_bytes: int = 65_536
    python: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """The argument list. Raises InvalidRequest where no system could start it."""
        words = [str(interpreter()), *self.argv] if self.python else list(self.argv)
        pairs = [f"{name}={value}" for name, value in self.environ.items()]
        if not words or not words[0]:
            raise InvalidRequest("must name a program", param="argv")
        try:
            sizes = [len(os.fsencode(word)) + 1 for word in (*words, *pairs)]
        except UnicodeEncodeError as error:
            raise InvalidRequest("must be valid Unicode", param="argv") from error
        if max(sizes) > MOST_ARGUMENT_BYTES or sum(sizes) > MOST_ARGV_BYTES:
            raise InvalidRequest(
                f"is too long: at most {MOST_ARGUMENT_BYTES} bytes an argument and "
                f"{MOST_ARGV_BYTES} in all",
                param="argv",
            )
        if any("\0" in word for word in (*words, *pairs)):
            raise InvalidRequest("must not hold NUL", param="argv")
        if any(not name or "=" in name for name in self.environ):
            raise InvalidRequest("a variable's name must not be empty nor hold =", param="environ")
        self._check_limits()
        return words

    def _check_limits(self) -> None:
        if len(self.stdin) > MOST_STDIN_BYTES:
            raise InvalidRequest(f"has at most {MOST_STDIN_BYTES} bytes", param="stdin")
        # Not a number is refused as well: it is not less than anything.
        if not 0 < self.timeout_s <= MOST_S:
            raise InvalidRequest(f"must be above 0 and at most {MOST_S}", param="timeout_s")

    def variables(self) -> dict[str, str]:
        """The whole environment of the program."""
        own = f"{interpreter().parent}:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": own, "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"} | dict(
            self.environ
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a command.

    `exit_code` is the program's, 128 + n where signal n ended it, 127 where there is no such
    program, and None where the sandbox killed it: at its time limit (`timed_out`), or because it
    wrote far too much (`truncated`). `output` is stdout and stderr as they came, head and tail
    within the limit. `duration_s` is in seconds.
    """

    exit_code: int | None
    output: str
    truncated: bool
    timed_out: bool
    duration_s: float


class Sandbox(Protocol):
    """Runs commands. `name` is "bubblewrap", "namespaces", or "none" where nothing is held."""

    name: str

    async def run(self, command: Command, output: Output) -> Ended:
        """Run a command to its end; `output` gets the text as it comes, up to the limit.

        Raises InvalidRequest for a command that cannot be started anywhere, and
        SandboxUnavailable where the sandbox cannot be set up.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a command may use. Bytes, but for `processes`, which counts threads as well.

    `memory` is for each process, and for all of them where a control group can be made. `scratch`
    is /tmp. `disk` is what the workspace's file system may lose in all during a call.
    """

    memory: int = 512 << 20
    processes: int = 64
    file: int = 64 << 20
    descriptors: int = 256
    scratch: int = 64 << 20
    disk: int = 2 << 30

    def cpu_s(self, timeout_s: float) -> int:
        """Seconds of processor time for each process, which may use every core until its limit."""
        return (int(timeout_s) + 2) * (os.cpu_count() or 1)
