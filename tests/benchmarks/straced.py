"""The system calls of the service: where to kill it, and what it did in which order.

Owns the command lines of strace and the reading of its log. Promises that a send counts as
covered only by a sync which began after the log of the database held the task and had ended,
with success, before the send began. Never starts anything.
"""

import ast
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WRITES, SYNCS = "pwrite64", "fdatasync"
SENDS = ("write", "writev", "sendto", "sendmsg")
SHOWN_BYTES = 6000
"""Of each buffer: a page of the database and an answer with its head are smaller."""
FRAME_HEAD = 24
"""Bytes before each page in the log; bytes 4 to 7 are not zero in the last frame of a commit
(https://www.sqlite.org/fileformat2.html#the_write_ahead_log)."""
_CALL = re.compile(r"^(\d+) +(?:([a-z0-9_]+)\((.*)|<\.\.\. ([a-z0-9_]+) resumed>(.*))$")
_WRITE = re.compile(r'^\d+<[^>]*-wal>, ("(?:[^"\\]|\\.)*")(?:\.\.\.)?, (\d+), \d+')
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_ENDED = re.compile(r"\) += (-?\d+)")


def missing() -> str | None:
    """Why there is no strace here; None where there is."""
    return None if shutil.which("strace") else "strace is not installed"


def injecting(call: str, what: str) -> list[str]:
    """Start something whose `call` gets the fault `what`, such as `signal=KILL:when=7`."""
    # Not with --seccomp-bpf: strace 6.1 then forgets to inject signals.
    quiet = ["strace", "-f", "-qq", "-o", "/dev/null"]
    return [*quiet, "-e", f"trace={call}", "-e", f"inject={call}:{what}"]


def recording(log: Path) -> list[str]:
    """Start something whose writes, syncs and sends are written into `log`."""
    calls = ",".join((WRITES, SYNCS, *SENDS))
    shown = ["-s", str(SHOWN_BYTES), "-y"]
    return ["strace", "-f", "-qq", "--seccomp-bpf", *shown, "-e", f"trace={calls}", "-o", str(log)]


@dataclass
class Order:
    """What a log tells of acknowledged submits."""

    acknowledged: int = 0
    commits: int = 0
    syncs: int = 0
    exceptions: list[str] = field(default_factory=list)


class _Reader:
    """Goes through a log line by line; `order` is what it has found."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.order = Order()
        self._wanted = set(ids)
        self._open: set[str] = set()
        """Tasks in the transaction that is being written."""
        self._last_frame = False
        self._committed: set[str] = set()
        """Tasks in the log that no sync has covered yet."""
        self._covered: set[str] = set()
        self._syncing: dict[str, set[str]] = {}
        """By thread: what a sync covers once it has succeeded."""
        self._sent: set[str] = set()

    def take(self, thread: str, name: str, arguments: str, resumed: bool) -> None:
        if name == WRITES and not resumed:
            self._write(arguments)
        elif name == SYNCS:
            self._sync(thread, arguments, resumed)
        elif name in SENDS and not resumed and "HTTP/1.1 202" in arguments:
            self._send(arguments)

    def _write(self, arguments: str) -> None:
        if (match := _WRITE.match(arguments)) is None:
            return  # not the log
        if int(match.group(2)) == FRAME_HEAD:
            head = ast.literal_eval(f"b{match.group(1)}")
            self._last_frame = any(head[4:8])
            return
        self._open |= self._wanted.intersection(_ID.findall(match.group(1))) - self._covered
        if self._last_frame:
            self.order.commits += 1
            self._committed |= self._open
            self._open, self._last_frame = set(), False

    def _sync(self, thread: str, arguments: str, resumed: bool) -> None:
        if not resumed:
            if "-wal>" not in arguments:
                return
            self._syncing[thread] = set(self._committed)
        ended = _ENDED.search(arguments)
        if ended is None or thread not in self._syncing:
            return
        covered = self._syncing.pop(thread)
        if ended.group(1) == "0":
            self.order.syncs += 1
            self._covered |= covered
            self._committed -= covered

    def _send(self, arguments: str) -> None:
        for task_id in self._wanted.intersection(_ID.findall(arguments)) - self._sent:
            self._sent.add(task_id)
            self.order.acknowledged += 1
            if task_id not in self._covered:
                why = "synced" if task_id in self._committed else "committed"
                self.order.exceptions.append(f"{task_id} was acknowledged before it was {why}")


def order(lines: Iterable[str], ids: Sequence[str]) -> Order:
    """Hold each acknowledgement of `ids` against what was written and synced before it.

    Calls stand in the order in which they were entered; one that was overtaken has a second
    line, with its result, where it ended.
    """
    reader = _Reader(ids)
    for line in lines:
        if match := _CALL.match(line):
            thread, name, arguments, overtaken, tail = match.groups()
            reader.take(thread, name or overtaken, arguments or tail or "", name is None)
    return reader.order
