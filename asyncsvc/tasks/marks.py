"""Marks: from when on a task did what, for the trace that a page draws of it.

A mark is a kind and the moment (ms) from which it holds; the kind of a new task's first span
follows from its request and has no mark. A task has so few marks that a list of tasks can show
them: beyond that, the shortest span becomes a part of the one before it. Pure.
"""

from typing import Literal, get_args

Kind = Literal[
    "scheduled",  # waits for its time
    "pending",  # waits for its turn
    "first_token",  # waits for the provider
    "thinking",
    "answering",
    "tool",  # an agent's tool runs
    "retry",  # waits for the next try
    "paused",
    "approval",  # waits for a person
    "cut",  # an attempt ended without an answer; has no length
]
KINDS: tuple[Kind, ...] = get_args(Kind)
Mark = tuple[str, int]
Marks = tuple[Mark, ...]
Spans = list[tuple[str, int]]
"""Kind and length in ms, in order."""
SPANS_MOST = 12
_MARKS_MOST = SPANS_MOST - 1
"""One less, for the span that has no mark."""
CUT = "cut"
AGAIN = "again"
"""The kind of a first mark that says: the trace begins anew, with the mark that follows."""


def marked(marks: Marks, kind: str, at: int) -> Marks:
    """The marks with one more."""
    if marks and marks[-1][0] == kind:
        return marks
    found = [*marks, (kind, at)]
    while len(found) > _MARKS_MOST:
        _join(found)
    return tuple(found)


def _join(marks: list[Mark]) -> None:
    """Let the shortest span but the first and the last go into the one before it."""
    lengths = [
        (marks[i + 1][1] - at, i) for i, (kind, at) in enumerate(marks[:-1]) if i and kind != CUT
    ]
    _, shortest = min(lengths)
    del marks[shortest]
    if marks[shortest - 1][0] == marks[shortest][0]:
        del marks[shortest]


def spans(marks: Marks, first: Mark, end: int) -> Spans:
    """The spans until `end`, those without length left out; `first` is the mark that a new task
    has without being noted."""
    course = marks[1:] if marks and marks[0][0] == AGAIN else (first, *marks)
    ends = [*(at for _, at in course[1:]), end]
    lengths = [(kind, max(to - at, 0)) for (kind, at), to in zip(course, ends, strict=True)]
    return [span for span in lengths if span[1] or span[0] == CUT]


def trace(
    marks: Marks, created_at: int, run_at: int | None, started_at: int | None, end: int
) -> Spans:
    """The spans of a task from its beginning to `end`; empty where they were not noted."""
    if started_at is not None and not marks:
        return []
    waits = run_at is not None and run_at > created_at
    return spans(marks, ("scheduled" if waits else "pending", created_at), end)


def began_at(marks: Marks, created_at: int) -> int:
    """When the first span of a task begins."""
    return marks[1][1] if len(marks) > 1 and marks[0][0] == AGAIN else created_at
