"""Pieces of an answer: where they go, how neighbours are joined, and their events.

Owns `Delta`, the protocol of the sink that takes the deltas, the joining of neighbouring pieces of
one kind, and the event that each piece becomes. Promises that the joined texts of the events equal
the joined texts of the pieces. Never stores anything.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from asyncsvc.providers.answers.pieces import add
from asyncsvc.tasks.state import Draft, EventType

Object = dict[str, Any]
PIECE = frozenset({"index", "type", "function"})


class Delta(NamedTuple):
    """A piece of text; `reasoning` tells thinking from answering. `call`: a piece of a tool call
    as OpenAI streams it, always with its index; `text` is empty then."""

    text: str
    reasoning: bool = False
    call: Object | None = None
    event: tuple[str, Object] | None = None
    """In place of text: something else of an answer, as an event's type and data."""
    refusal: bool = False
    """The text is the model's refusal, which OpenAI's models send in a field of its own."""

    @property
    def written(self) -> str:
        """The characters that the model wrote: text, thinking or arguments."""
        return self.call["function"]["arguments"] if self.call else self.text

    @property
    def size(self) -> int:
        """Characters."""
        return len(self.written)


_PLAIN = Delta("")[1:]
"""All but the text of a piece that is nothing but text."""


class Sink(Protocol):
    """The receiver of an answer's pieces. `head` is called when the provider begins to answer,
    with whether it has accepted the call."""

    @property
    def full(self) -> bool:
        """Whether to wait for `drained` before more is written."""
        ...

    def head(self, accepted: bool) -> None: ...

    def write(self, delta: Delta) -> None: ...

    def alive(self) -> None:
        """Something has come, be it no text."""
        ...

    @property
    def returns(self) -> bool:
        """Whether a run that is left now will be asked for later, so that it may go on."""
        ...

    async def drained(self) -> None: ...


class SinkBefore:
    """A sink in front of another one, which it passes everything on to but the pieces."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def full(self) -> bool:
        return self._sink.full

    @property
    def returns(self) -> bool:
        return self._sink.returns

    def head(self, accepted: bool) -> None:
        self._sink.head(accepted)

    def alive(self) -> None:
        self._sink.alive()

    async def drained(self) -> None:
        await self._sink.drained()


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
    if isinstance(deltas, list) and len(deltas) == 1:
        return [_draft(deltas[0])]
    return [_draft(delta) for delta in joined(deltas)]


def cut(delta: Delta, most: int) -> Iterator[Delta]:
    """A long piece as several of at most so many characters."""
    written, piece = delta.written, delta
    for start in range(0, len(written), most):
        yield _one(piece, written[start : start + most])
        if delta.call is not None:  # its name and the like are in the first one alone
            piece = delta._replace(call={"index": delta.call["index"], "function": {}})


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    """Neighbours of the same kind become one."""
    return list(Deltas(deltas))


class Deltas:
    """Pieces in their order, neighbours of one kind as one: of each only the text is kept."""

    def __init__(self, deltas: Iterable[Delta] = ()) -> None:
        self._runs: list[tuple[Delta, list[str]]] = []
        """The first piece of each run, and the texts of all."""
        for delta in deltas:
            self.add(delta)

    def add(self, delta: Delta) -> None:
        """One more piece."""
        if self._runs and delta[1:] == _PLAIN == self._runs[-1][0][1:]:
            add(self._runs[-1][1], delta.text)  # as nearly all are
        elif self._runs and _continues(self._runs[-1][0], delta):
            add(self._runs[-1][1], delta.written)
        else:
            self._runs.append((delta, [delta.written]))

    def clear(self) -> None:
        """Forget all pieces."""
        self._runs.clear()

    def texts(self, *, reasoning: bool) -> list[str]:
        """What was thought, or what was answered, in pieces. Arguments of tools are neither."""
        return [
            text
            for first, texts in self._runs
            if first.call is None and first.reasoning is reasoning
            for text in texts
        ]

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[Delta]:
        for first, texts in self._runs:
            yield _one(first, "".join(texts))


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


def _one(first: Delta, written: str) -> Delta:
    if first.event is not None:
        return first
    if first.call is None:
        return first._replace(text=written)
    return first._replace(
        call=first.call | {"function": first.call["function"] | {"arguments": written}}
    )
