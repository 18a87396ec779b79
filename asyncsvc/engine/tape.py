"""The tape of one attempt: text as it arrives, events as the disk keeps up.

Owns what has arrived and is not yet in the journal. Promises that at most one append of the
attempt is under way and that text arriving meanwhile becomes the next event: a chunk per
token while there is time, fewer and larger ones under load, and no timer; that what the disk
refuses is offered again in its place with the next piece, so the text never has a hole. Never
holds more than `ROOM` characters without saying that it is full.
"""

import asyncio
from collections.abc import Iterable

from asyncsvc.providers.deltas import Delta
from asyncsvc.tasks.journal import Change, Journal
from asyncsvc.tasks.task import Draft, EventType, Task

ROOM = 1 << 20
PIECE = frozenset({"index", "type", "function"})
"""What a piece of a tool call holds that only goes on with one."""


class Tape:
    """The text of one attempt of one task."""

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
        return self._waiting_chars > ROOM

    def write(self, delta: Delta) -> None:
        """Take a piece; it is appended as soon as the one before is on the disk."""
        self.pieces += 1
        if not delta.reasoning:
            self._parts.append(delta.text)
        self._waiting.append(delta)
        self._waiting_chars += delta.size
        if self._append is None and not self._closed:
            self._flush()

    async def drained(self) -> None:
        """Wait until all is on the disk. Raises what the journal raised."""
        await self._idle.wait()
        if self._error is not None:
            raise self._error

    async def settled(self) -> None:
        """Write nothing more by itself, and wait for the append that is under way."""
        self._closed = True
        await self._idle.wait()

    def rest(self) -> list[Draft]:
        """The events that are still to be written, for whoever writes the closing one."""
        return self._drafts()

    def _flush(self) -> None:
        drafts = self._drafts()
        self._offered, self._waiting, self._waiting_chars = self._waiting, [], 0
        self._idle.clear()
        self._append = self._journal.append(Change(self._task_id, drafts))
        self._append.add_done_callback(self._appended)

    def _drafts(self) -> list[Draft]:
        return drafts(self._waiting)

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


def _draft(delta: Delta) -> Draft:
    if delta.event is not None:
        kind, data = delta.event
        return Draft(EventType(kind), data)
    if delta.call is not None:
        return Draft(EventType.TOOL_CALL, delta.call)
    if delta.refusal:
        return Draft(EventType.CHUNK, {"text": delta.text, "refusal": True})
    return Draft(EventType.REASONING if delta.reasoning else EventType.CHUNK, {"text": delta.text})


def drafts(deltas: Iterable[Delta]) -> list[Draft]:
    """The events of these pieces."""
    return [_draft(delta) for delta in joined(deltas)]


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    """Neighbours of the same kind become one."""
    runs: list[list[Delta]] = []
    for delta in deltas:
        if runs and _continues(runs[-1][0], delta):
            runs[-1].append(delta)
        else:
            runs.append([delta])
    return [_one(run) for run in runs]


def _continues(first: Delta, delta: Delta) -> bool:
    """Whether it goes on with what the first has begun."""
    if first.event is not None or delta.event is not None:
        return False
    if first.call is None or delta.call is None:
        kinds = (first.reasoning, first.refusal), (delta.reasoning, delta.refusal)
        return first.call is delta.call and kinds[0] == kinds[1]
    same = first.call["index"] == delta.call["index"]
    # Only arguments: a name, a late id and further fields are in an event of their own.
    return same and delta.call.keys() <= PIECE and len(delta.call["function"]) == 1


def _one(run: list[Delta]) -> Delta:
    first = run[0]
    if len(run) == 1:
        return first
    if first.call is None:
        return first._replace(text="".join(delta.text for delta in run))
    arguments = [delta.call["function"]["arguments"] for delta in run if delta.call]
    function = first.call["function"] | {"arguments": "".join(arguments)}
    return Delta("", call=first.call | {"function": function})
