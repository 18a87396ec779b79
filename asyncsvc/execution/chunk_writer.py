"""The chunk writer: turns the text of one attempt into events as fast as the disk takes them.

Owns the text that has arrived and is not yet in the journal. Promises that at most one append of
the attempt is under way and that text arriving meanwhile becomes the next event: a chunk per
token while there is time, fewer and larger ones under load, and no timer; that what the disk
refuses is offered again in its place with the next piece, so the text never has a hole; that it
reports being full above `ROOM` characters.
"""

import asyncio

from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.answers.delta import Delta, drafts
from asyncsvc.tasks.state import Draft, Task

ROOM = 1 << 20
"""How many characters may wait for the disk before the client is to pause."""


class ChunkWriter:
    """Writes the text of one attempt of one task: `write` pieces, then `settled` and `rest`."""

    def __init__(self, journal: Journal, task_id: str) -> None:
        self._journal = journal
        self._task_id = task_id
        self._waiting: list[Delta] = []
        self._waiting_chars = 0
        self._offered: list[Delta] = []
        self._parts: list[str] = []
        self._append: asyncio.Future[list[Task]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._error: BaseException | None = None
        self._closed = False
        self.pieces = 0
        """Deltas so far; providers send about one a token."""

    @property
    def text(self) -> str:
        """All answer text so far, on the disk or not."""
        return "".join(self._parts)

    @property
    def full(self) -> bool:
        """Whether more than `ROOM` characters wait for the disk."""
        return self._waiting_chars > ROOM

    def write(self, delta: Delta) -> None:
        """Take a piece; it is appended as soon as the piece before is on the disk."""
        self.pieces += 1
        if not delta.reasoning:
            self._parts.append(delta.text)
        self._waiting.append(delta)
        self._waiting_chars += delta.size
        if self._append is None and not self._closed:
            self._flush()

    async def drained(self) -> None:
        """Wait until all text is on the disk. Raises what the journal raised."""
        await self._idle.wait()
        if self._error is not None:
            raise self._error

    async def settled(self) -> None:
        """Append nothing more, and wait for the append that is under way."""
        self._closed = True
        await self._idle.wait()

    def rest(self) -> list[Draft]:
        """The events that are still to be written, to go into one append with the closing one."""
        return drafts(self._waiting)

    def _flush(self) -> None:
        change = Change(self._task_id, drafts(self._waiting))
        self._offered, self._waiting, self._waiting_chars = self._waiting, [], 0
        self._idle.clear()
        self._append = self._journal.append(change)
        self._append.add_done_callback(self._appended)

    def _appended(self, append: "asyncio.Future[list[Task]]") -> None:
        self._append = None
        self._error = None if append.cancelled() else append.exception()
        if self._error is not None:
            self._waiting = self._offered + self._waiting
            self._waiting_chars += sum(delta.size for delta in self._offered)
        self._offered = []
        if self._waiting and self._error is None and not self._closed:
            self._flush()
        else:
            self._idle.set()
