"""Long texts: stored in parts, in commits before the one that needs them.

Owns where the body of a new task and the result of a task that ends are cut. Promises that no part
is longer than `PART_CHARS` or `PART_BYTES`, so that no commit keeps others waiting for a long text:
for a result of 32 MB a submit waited 150 ms, in parts it waits 20. Never commits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

from asyncsvc.journal.transaction import Change, Entry, Known, NewTask
from asyncsvc.storage.entries import BodyPart, BodyPartsRemoved, ResultPart, Row

PART_CHARS = 128 * 1024
"""Of a result."""
PART_BYTES = 128 * 1024
"""Of a body."""


class Cut(Protocol):
    """An entry with a long text: its `parts` are to be stored first."""

    @property
    def parts(self) -> Iterator[Row]: ...

    def entry(self) -> Entry:
        """The entry with the beginning of its text, when all parts are stored."""


class LongTexts:
    """The entries of an append with long texts: the `parts` are to be stored first, one after
    another, then `entries`."""

    def __init__(self, given: Sequence[Entry], cuts: dict[int, Cut]) -> None:
        self._given = given
        self._cuts = cuts
        """By the place of the entry."""
        self.parts = chain.from_iterable(cut.parts for cut in cuts.values())

    @property
    def entries(self) -> list[Entry]:
        """All entries, the long texts shortened to what precedes their first part."""
        cuts = self._cuts
        return [cuts[at].entry() if at in cuts else one for at, one in enumerate(self._given)]


class LongResult:
    """A change with a long result."""

    def __init__(self, change: Change, task_n: int) -> None:
        self._change = change
        self._text = change.result or ""
        self._task_n = task_n
        self._rest = 0
        self.parts = self._parts()

    def entry(self) -> Entry:
        return replace(self._change, result=self._text[:PART_CHARS], rest=self._rest)

    def _parts(self) -> Iterator[Row]:
        begin = _bytes(self._text[:PART_CHARS])
        for start in range(PART_CHARS, len(self._text), PART_CHARS):
            part = self._text[start : start + PART_CHARS]
            yield ResultPart(self._task_n, begin + self._rest, part, start == PART_CHARS)
            self._rest += _bytes(part)


class LongBody:
    """A new task with a long body."""

    def __init__(self, new: NewTask) -> None:
        self._new = new
        self.parts = self._parts()

    def entry(self) -> Entry:
        body = self._new.body
        return replace(self._new, body=body[:PART_BYTES], rest=len(body) - PART_BYTES)

    def _parts(self) -> Iterator[Row]:
        body, task_id = self._new.body, self._new.request.id
        for start in range(PART_BYTES, len(body), PART_BYTES):
            yield BodyPart(task_id, start, body[start : start + PART_BYTES])


def is_long(entry: Entry) -> bool:
    """Whether the entry has a text that is stored in parts."""
    if isinstance(entry, NewTask):
        return len(entry.body) > PART_BYTES
    return isinstance(entry, Change) and len(entry.result or "") > PART_CHARS


def long_texts(entries: Sequence[Entry], known: Known) -> LongTexts | None:
    """The entries whose texts are to be stored in parts; None: there are none."""
    cuts: dict[int, Cut] = {}
    for at, entry in enumerate(entries):
        if not is_long(entry):
            continue
        if isinstance(entry, NewTask):
            cuts[at] = LongBody(entry)
        elif isinstance(entry, Change) and (task := known(entry.task_id)) is not None:
            cuts[at] = LongResult(entry, task.n)
    return LongTexts(entries, cuts) if cuts else None


def abandoned(entries: Sequence[Entry]) -> list[Row]:
    """What removes the parts of new tasks that were refused. Those of results are voided by the
    next result of their task."""
    news = [
        entry for entry in entries if isinstance(entry, NewTask) and len(entry.body) >= PART_BYTES
    ]
    return [BodyPartsRemoved(new.request.id) for new in news]


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))  # the store refuses half a character
