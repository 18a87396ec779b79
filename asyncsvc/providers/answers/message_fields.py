"""Fields of a message or of a tool call that have no meaning here, but may have one in the next
turn: signatures, `reasoning_details`, annotations, images.

Owns how their pieces are merged while an answer is streamed. Promises that nothing of them is
changed but by that merge, that a repeated whole counts once, and that all of an answer's fields
together stay within `MOST_BYTES`. Never gives a field a meaning.
"""

from typing import Any

import orjson

from asyncsvc.errors import UpstreamTooLarge

MOST_BYTES = 4 * 1024 * 1024
DEEPEST = 32
LOOKED_BACK = 64
"""How many items of a list are compared with a new one."""
GROWING = frozenset(
    {
        "text", "summary", "data", "transcript", "thinking", "reasoning", "content", "arguments",
        "input", "partial_json", "refusal",
    }
)  # fmt: skip
"""Names of strings that come in pieces, to be joined. Of any other string the last one counts: an
id, a type, a format, a signature."""


class Room:
    """The bytes that the fields of one answer may still take."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._used = 0

    def take(self, size: int) -> None:
        """Raises UpstreamTooLarge."""
        self._used += size
        if self._used > self._most:
            raise UpstreamTooLarge(
                f"the provider sent more than {self._most >> 20} MiB beside the answer's text"
            )


class Fields:
    """The merged fields of one message or call; `changed` since they were last given out."""

    def __init__(self, room: Room) -> None:
        self.held: dict[str, Any] = {}
        self.changed = False
        self._room = room

    def add(self, name: str, value: Any, closing: bool = False) -> None:
        """One more piece. `closing`: it stands in the last frame, where some providers repeat the
        whole field."""
        before = self.held.get(name)
        if before == value or _empty(value):
            return
        if closing and _repeats(before, value):
            self.put(name, value)
        elif self._fits(value):
            self.held[name] = value if before is None else _merged(name, before, value, DEEPEST)
            self.changed = True

    def put(self, name: str, value: Any) -> None:
        """The whole field, in place of its pieces."""
        if self.held.get(name) == value or _empty(value):
            return
        if self._fits(value, _size(self.held.get(name))):
            self.held[name] = value
            self.changed = True

    def _fits(self, value: Any, before: int = 0) -> bool:
        """Whether the value can be stored; it then takes its room."""
        size = _size(value)
        self._room.take(max(size - before, 0))
        return size > 0


def _repeats(before: Any, value: Any) -> bool:
    """Whether a list begins with all that came before."""
    return isinstance(before, list) and isinstance(value, list) and value[: len(before)] == before


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _size(value: Any) -> int:
    """Bytes of JSON; 0 for what no JSON can hold."""
    try:
        return 0 if value is None else len(orjson.dumps(value))
    except TypeError:
        return 0


def _merged(name: str, before: Any, new: Any, depth: int) -> Any:
    if depth == 0 or new is None:
        return before if new is None else new
    if isinstance(before, dict) and isinstance(new, dict):
        both = {
            key: _merged(key, before[key], value, depth - 1) if key in before else value
            for key, value in new.items()
        }
        return before | both
    if isinstance(before, list) and isinstance(new, list):
        return _listed(before, new, depth)
    if name in GROWING and isinstance(before, str) and isinstance(new, str):
        return new if len(new) > len(before) > 8 and new.startswith(before) else before + new
    return new


def _listed(before: list[Any], new: list[Any], depth: int) -> list[Any]:
    """The items of both. Pieces with the same `index` are one item; without an index an item that
    is already there is a repetition."""
    items = list(before)
    for item in new:
        index = item.get("index") if isinstance(item, dict) else None
        if index is None:
            if not isinstance(item, dict) or item not in items[-LOOKED_BACK:]:
                items.append(item)
            continue
        # The newest first: an index may be used again for an item of another type.
        places = [
            place
            for place in range(len(items) - 1, max(len(items) - LOOKED_BACK, 0) - 1, -1)
            if isinstance(items[place], dict) and items[place].get("index") == index
        ]
        if not places or _other_type(items[places[0]], item):
            items.append(item)
        else:
            items[places[0]] = _merged("", items[places[0]], item, depth - 1)
    return items


def _other_type(one: dict[str, Any], other: dict[str, Any]) -> bool:
    types = one.get("type"), other.get("type")
    return None not in types and types[0] != types[1]
