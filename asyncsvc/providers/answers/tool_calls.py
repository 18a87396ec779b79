"""The tool calls of an answer, put together from the pieces that providers send.

Owns the spellings of an index, an id and arguments, and which piece belongs to which call. Promises
that no shape raises, that a new id or a new name begins a call, that a piece with neither goes on
with the call of its index or else with the last, that calls are numbered from 0 in the order in
which they begin, and that ids are strings, each of one call. Never guesses what a call's arguments
should be.

A call is given out with its first arguments, not before: by then its name is whole, and its id is
the provider's, where that comes at all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.providers.answers.pieces import Fields, Room, add, joined

Object = dict[str, Any]
KNOWN = frozenset({"index", "id", "type", "function"})
KNOWN_OF_FUNCTION = frozenset({"name", "arguments"})
CUSTOM = "custom"
"""The type of a custom tool's call. Each of its pieces says it; the input stands as arguments."""


@dataclass(slots=True)
class Piece:
    """One piece, with values of the right types."""

    index: int | None
    id: str | None
    type: str | None
    name: str
    arguments: str
    fields: Object
    function: Object

    @property
    def empty(self) -> bool:
        return not any((self.id, self.name, self.arguments, self.fields, self.function))


def _piece(given: Any) -> Piece | None:
    """The piece; None where it is no object."""
    if not isinstance(given, dict):
        return None
    given = _as_function(given)
    function = given.get("function")
    if not isinstance(function, dict):
        function = {}
    id_, kind, name = given.get("id"), given.get("type"), function.get("name")
    if isinstance(id_, int | float) and not isinstance(id_, bool):
        id_ = str(id_)
    arguments = function.get("arguments")
    return Piece(
        _index(given.get("index")),
        id_ if isinstance(id_, str) and id_ else None,
        kind if isinstance(kind, str) and kind else None,
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, str) else _json(arguments),
        {key: value for key, value in given.items() if key not in KNOWN and value is not None},
        {
            key: value
            for key, value in function.items()
            if key not in KNOWN_OF_FUNCTION and value is not None
        },
    )


def _as_function(given: Object) -> Object:
    """A custom tool's call with name and arguments, where it has name and input."""
    held = given.get(CUSTOM)
    if not isinstance(held, dict):
        return given
    rest = {name: value for name, value in given.items() if name != CUSTOM}
    function = {"name": held.get("name"), "arguments": held.get("input")}
    return rest | {"type": CUSTOM, "function": function}


def _index(value: Any) -> int | None:
    """A place in the provider's list, in any spelling; None where it is none."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.removeprefix("-").isdecimal() and len(value) < 10 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) < 1 << 31 else None


def _json(value: Any) -> str:
    """Arguments that came as an object."""
    try:
        return "" if value is None else orjson.dumps(value).decode()
    except TypeError:  # too deep for JSON
        return ""


LATE_ID = "late_id"
"""In a piece: the provider's id of a call that was given out under another."""
CALLS_MOST = 512
"""Tool calls in one answer. Each takes a kilobyte beside its arguments: calls without end took
200 MB before the bound of an answer's characters was reached."""
PARSED_MOST = 32 << 20
"""Characters of one call's arguments that are parsed to see whether they are whole. Arguments that
end with a brace in each of many pieces would be parsed from the beginning with each."""


def put_together(pieces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tool calls of an answer, whole, from the data of its events."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        call = calls.setdefault(
            piece["index"], {"id": None, "type": "function", "function": {"arguments": ""}}
        )
        function, before = piece["function"], call["function"]["arguments"]
        call["function"] |= function | {"arguments": before + function.get("arguments", "")}
        call |= {k: v for k, v in piece.items() if k not in ("index", "function", LATE_ID)}
        call["id"] = piece.get(LATE_ID, call["id"])
    return [calls[index] for index in sorted(calls)]


@dataclass(slots=True, eq=False)
class _Call:
    number: int
    index: int | None
    fields: Fields
    function: Fields
    id: str | None = None
    given: str | None = None
    """The id under which it was given out."""
    type: str = "function"
    name: str = ""
    parts: list[str] = field(default_factory=list)
    """The arguments in pieces: to join them with each piece would copy all that came before."""
    pending: list[str] = field(default_factory=list)
    """Of these, what was not given out yet."""
    shown_name: str = ""
    size: int = 0
    """Characters of the arguments."""
    parsed: int = 0

    @property
    def arguments(self) -> str:
        """The arguments so far."""
        return joined(self.parts)

    @property
    def whole(self) -> bool:
        """Whether the arguments so far are a whole object; False beyond `PARSED_MOST`."""
        if not self.parts or self.parts[-1].rstrip()[-1:] not in ("", "}"):
            return False
        self.parsed += self.size
        return self.parsed <= PARSED_MOST and _whole(self.arguments)

    def accepts(self, piece: Piece) -> bool:
        """Whether a piece without another id may belong to this call, by its name."""
        if not piece.name or not self.name:
            return True
        if piece.name == self.name:
            # Some repeat the name with each piece; a second call comes when the first is whole.
            return not piece.arguments or not self.whole or self.repeats(piece)
        # A name in pieces: before any argument, and where the index says that it is this call.
        same = piece.index is not None and piece.index == self.index
        return same and not self.parts and not _whole(piece.arguments)

    def repeats(self, piece: Piece) -> bool:
        """Whether the piece is the whole call once more."""
        return (
            piece.id is not None
            and piece.id == self.id
            and len(piece.arguments) == self.size
            and piece.arguments == self.arguments
            and self.whole
        )

    def take(self, piece: Piece) -> Iterator[Object]:
        """Add what the piece has, and give out what is new."""
        self.type = piece.type or self.type
        if piece.name and piece.name != self.name:
            grown = not self.name or piece.name.startswith(self.name)
            self.name = piece.name if grown else self.name + piece.name
        if piece.arguments and not self.repeats(piece):
            add(self.parts, piece.arguments)
            add(self.pending, piece.arguments)
            self.size += len(piece.arguments)
        for name, value in piece.fields.items():
            self.fields.add(name, value)
        for name, value in piece.function.items():
            self.function.add(name, value)
        if (new := self.shown()) is not None:
            yield new

    def shown(self, last: bool = False) -> Object | None:
        """The new part, as OpenAI streams it; None where nothing is new, or not enough yet. `last`:
        no more pieces follow."""
        if self.given is None:
            if not last and not (self.pending and self.name):
                return None
            self.given = self.id or f"call_{uuid4().hex}"
            head = {"index": self.number, "id": self.given, "type": self.type}
            self.shown_name = self.name
            function = self._function({"name": self.name}, last)
            return head | self.fields.given(again=not last) | {"function": function}
        late = {LATE_ID: self.id} if last and self.id and self.id != self.given else {}
        changed = last and (self.fields.changed or self.function.changed)
        named = {} if self.name == self.shown_name else {"name": self.name}
        if not (self.pending or named or late or changed):
            return None
        self.shown_name = self.name
        more = self.fields.given(again=not last) if changed else {}
        custom = {"type": CUSTOM} if self.type == CUSTOM else {}
        return (
            {"index": self.number}
            | custom
            | late
            | more
            | {"function": self._function(named, last)}
        )

    def _function(self, named: Object, last: bool) -> Object:
        more = self.function.given(again=not last) if self.function.changed else {}
        arguments, self.pending = joined(self.pending), []
        return named | {"arguments": arguments} | more


@dataclass(slots=True)
class ToolCalls:
    """`take` pieces, or `repeat` whole calls; both give out what is new. `rest` at the end."""

    room: Room = field(default_factory=Room)
    _calls: list[_Call] = field(default_factory=list)
    _by_id: dict[str, _Call] = field(default_factory=dict)
    _by_index: dict[int, _Call] = field(default_factory=dict)
    _held: list[_Call] = field(default_factory=list)  # the newest: maybe not given out yet

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, given: Any) -> Iterator[Object]:
        """One piece as a provider sends it; what is no object is left out."""
        piece = _piece(given)
        if piece is None or piece.empty:
            return
        found = self._find(piece)
        if found is None:
            yield from self._begin(piece)
        else:
            self._name_it(found, piece.id)
            yield from found.take(piece)

    def repeat(self, given: list[Any]) -> Iterator[Object]:
        """The calls of a whole message, of which some or all came before."""
        free = list(self._calls)
        for place, each in enumerate(given):
            piece = _piece(each)
            if piece is None or piece.empty:
                continue
            found = self._same(piece, free, place)
            if found is None:
                yield from self._begin(piece) if piece.name or not self._calls else self.take(each)
                continue
            if found in free:
                free.remove(found)
            self._name_it(found, piece.id)
            piece.arguments = _beyond(found.arguments, piece.arguments)
            for name, value in piece.fields.items():
                found.fields.put(name, value)
            piece.fields = {}
            yield from found.take(piece)

    def rest(self) -> Iterator[Object]:
        """The parts that were held back; to be taken at the end."""
        for call in self._calls:
            if (piece := call.shown(last=True)) is not None:
                yield piece

    def _find(self, piece: Piece) -> _Call | None:
        """The call that the piece goes on with; None where it begins one."""
        last = self._calls[-1] if self._calls else None
        current = last if piece.index is None else self._by_index.get(piece.index)
        if piece.id is not None and (known := self._by_id.get(piece.id)) is not None:
            other = piece.name and piece.index is not None and piece.index != known.index
            return known if known.accepts(piece) and not other else None
        if piece.id is not None:
            # An id that comes late, for a call that has none.
            return current if current and current.id is None and current.accepts(piece) else None
        if piece.name:
            return current if current and current.accepts(piece) else None
        return current or last

    def _same(self, piece: Piece, free: list[_Call], place: int) -> _Call | None:
        """The call that a whole one repeats."""
        if piece.id is not None and (known := self._by_id.get(piece.id)) is not None:
            return known
        at = [self._calls[place]] if place < len(self._calls) else []
        for call in [*(c for c in at if c in free), *free]:
            if piece.id is not None and call.id is not None:
                continue
            if call.name in ("", piece.name) and _continued(call.arguments, piece.arguments):
                return call
        return None

    def _begin(self, piece: Piece) -> Iterator[Object]:
        if len(self._calls) == CALLS_MOST:
            raise UpstreamTooLarge(
                f"the provider sent more than {CALLS_MOST} tool calls in one answer"
            )
        for earlier in self._held:
            if earlier.given is None and (held := earlier.shown(last=True)) is not None:
                yield held
        call = _Call(len(self._calls), piece.index, Fields(self.room), Fields(self.room))
        self._calls.append(call)
        self._held = [call]
        if piece.index is not None:
            self._by_index[piece.index] = call
        self._name_it(call, piece.id)
        yield from call.take(piece)

    def _name_it(self, call: _Call, id_: str | None) -> None:
        """The provider's id, unless another call has it."""
        if id_ is not None and call.id is None and id_ not in self._by_id:
            call.id = id_
            self._by_id[id_] = call


def _whole(arguments: str) -> bool:
    """Whether the arguments are a whole object."""
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        return isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        return False


def _continued(arguments: str, whole: str) -> bool:
    """Whether the whole arguments may be those that came so far."""
    return whole.startswith(arguments) or not whole or _equal(arguments, whole)


def _beyond(arguments: str, whole: str) -> str:
    """The rest of the whole arguments beyond those that came so far. A call that is not whole yet
    and not repeated goes on."""
    if whole.startswith(arguments):
        return whole[len(arguments) :]
    return "" if _whole(arguments) or _equal(arguments, whole) else whole


def _equal(one: str, other: str) -> bool:
    try:
        return bool(orjson.loads(one) == orjson.loads(other))
    except orjson.JSONDecodeError:
        return False
