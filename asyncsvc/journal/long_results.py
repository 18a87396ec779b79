"""Long results: stored in parts, in commits before the one that ends their task.

Owns where a result is cut. Promises that no part is longer than `PART_CHARS`, so that no commit
keeps others waiting for a long text: for one of 32 MB a submit waited 150 ms, in parts it waits 20.
Never commits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from asyncsvc.journal.transaction import Change, Entry, Known
from asyncsvc.storage.entries import ResultPart

PART_CHARS = 128 * 1024


class LongResult:
    """The entries of an append with a long result: its `parts` are to be stored first, one after
    another, then `entries`."""

    def __init__(self, given: Sequence[Entry], change: Change, task_n: int) -> None:
        self._given = given
        self._change = change
        self._text = change.result or ""
        self._task_n = task_n
        self._rest = 0
        self.parts = self._parts()

    @property
    def entries(self) -> list[Entry]:
        """The entries, where the result is only what precedes the first part."""
        last = replace(self._change, result=self._text[:PART_CHARS], rest=self._rest)
        return [last if entry is self._change else entry for entry in self._given]

    def _parts(self) -> Iterator[ResultPart]:
        begin = _bytes(self._text[:PART_CHARS])
        for start in range(PART_CHARS, len(self._text), PART_CHARS):
            part = self._text[start : start + PART_CHARS]
            yield ResultPart(self._task_n, begin + self._rest, part, start == PART_CHARS)
            self._rest += _bytes(part)


def long_result(entries: Sequence[Entry], known: Known) -> LongResult | None:
    """The result among the entries that is to be stored in parts; None: there is none."""
    for entry in entries:
        if isinstance(entry, Change) and len(entry.result or "") > PART_CHARS:
            task = known(entry.task_id)
            return None if task is None else LongResult(entries, entry, task.n)
    return None


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))  # the store refuses half a character
