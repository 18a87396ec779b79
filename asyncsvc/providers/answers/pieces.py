"""One message of an answer, or a piece of one, read into plain values; its further fields merged.

Owns the names of fields and the kinds of content parts: what is text, thinking, refusal or a tool
call, and how the fields are merged that have no meaning here but may have one in the next turn
(signatures, `reasoning_details`, annotations, images). Promises that no shape raises, that nothing
of those fields is changed but by that merge, that a repeated whole counts once, and that all of an
answer's fields together stay within `FIELD_BYTES`. Never gives a field a meaning.
"""

from typing import Any, NamedTuple

import orjson

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.providers.answers import finish_reasons as finish

Object = dict[str, Any]
THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
"""The names of a text of thinking."""
TEXT_FIELDS = frozenset({"content", *THINKING})
READ = frozenset({"role", "content", "refusal", "tool_calls", "function_call", *THINKING})
UNKEPT = frozenset({"token_ids", "prompt_token_ids", "logprobs", "usage", "error", *finish.FIELDS})
"""Diagnostics of each token, which no next turn needs and which are larger than the answer; and
what is read elsewhere."""
OF_FRAME = ("citations", "search_results")
"""Fields of a message that some providers put beside the choices."""

TEXTS = frozenset({"text", "output_text", "input_text", "text_delta", "markdown"})
THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "thinking_delta", "thought"})
IMAGES = frozenset({"image_url", "image", "output_image", "input_image"})
PLAIN_THOUGHT = frozenset({"type", "text", "thinking", "reasoning", "summary", "closed", "index"})
"""What a part of thinking holds beside a signature."""
PLAIN_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})


class Piece(NamedTuple):
    """The values of one message or delta."""

    text: str
    thoughts: list[tuple[str, str]]
    """(field, text), each text once."""
    refusal: str
    calls: list[Any]
    """Tool calls, unread."""
    fields: Object
    """The fields that are kept for the next turn."""


def read(message: Object) -> Piece:
    """The values of a message or of a delta."""
    fields = {
        name: message[name] for name in message.keys() - READ - UNKEPT if message[name] is not None
    }
    thoughts: list[tuple[str, str]] = []
    for name in THINKING:
        value = message.get(name)
        if isinstance(value, str):
            if value and value not in (text for _, text in thoughts):
                thoughts.append((name, value))
        elif inner := _text(value):
            thoughts.append((name, inner))
        elif value and not isinstance(value, bool):
            fields[name] = value
    text, refusal = message.get("content"), message.get("refusal")
    refusal = refusal if isinstance(refusal, str) else ""
    if not isinstance(text, str):
        text, thought, refused, kept = _parts(text)
        refusal = refusal or refused
        fields |= kept
        if thought:
            thoughts.append(("parts", thought))
    if refusal and text == refusal:
        text = ""  # for clients that read the content alone
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else [calls] if calls else []
    if not calls and isinstance(message.get("function_call"), dict):
        calls = [{"function": message["function_call"]}]  # the older kind
    return Piece(text, thoughts, refusal, calls, fields)


LOOSE = 256
"""How many short pieces are kept apart: each costs a hundred bytes beside its characters."""
SHORT_CHARS = 512
"""Longer pieces stay apart: several hold them without a copy, and all of a text joined again and
again would stop the event loop."""


def add(texts: list[str], text: str) -> None:
    """One more piece of a text."""
    texts.append(text)
    if len(texts) % LOOSE == 0:
        start = len(texts)
        while start and len(texts[start - 1]) < SHORT_CHARS:
            start -= 1
        texts[start:] = ["".join(texts[start:])] if start < len(texts) else []


def joined(texts: list[str]) -> str:
    """The texts as one; the list then holds it alone, so that the next time is cheap."""
    if len(texts) > 1:
        texts[:] = ["".join(texts)]
    return texts[0] if texts else ""


BLANK_CHARS = 1024
"""How many blanks around its text a whole message may lack."""


def shorter(text: str, known: list[str], by: int = 0) -> bool:
    """Whether a whole text is too short to begin with the known one, as far as that was joined: to
    join it for each short message would copy all of it each time."""
    return bool(known) and len(text) + by < len(known[0])


def plain(chunk: Any) -> tuple[str, str] | None:
    """(field, text) of a frame that has one text and nothing else, as nearly all have; None for
    any other frame."""
    try:
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        if choice.get("finish_reason") is not None or choice.get("index", 0) != 0:
            return None
        if chunk.get("usage") or chunk.get("error"):
            return None
        found = None
        for name, value in delta.items():
            if value and name != "role":
                if found is not None or name not in TEXT_FIELDS:
                    return None
                found = name, value
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if found is None or type(found[1]) is not str:
        return None
    return found if len(choice) < 4 or choice.keys() <= PLAIN_CHOICE else None


def _parts(content: Any) -> tuple[str, str, str, dict[str, list[Any]]]:
    """(text, thinking, refusal, other parts by the field that keeps them) of content in parts."""
    texts, thoughts, refusals = list[str](), list[str](), list[str]()
    kept: dict[str, list[Any]] = {}
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = part.get("type")
            if kind in TEXTS or (kind is None and "text" in part):
                texts.append(_text(part.get("text")))
            elif kind in THOUGHTS:
                thoughts.append(_thought(part))
                if part.keys() - PLAIN_THOUGHT:
                    kept.setdefault("content_parts", []).append(part)
            elif kind == "refusal":
                refusals.append(_text(part.get("refusal") or part.get("text")))
            elif kind is not None:
                kept.setdefault("images" if kind in IMAGES else "content_parts", []).append(part)
    return "".join(texts), "".join(thoughts), "".join(refusals), kept


def _thought(part: Object) -> str:
    for name in ("thinking", "reasoning", "text", "summary"):
        if found := _text(part.get(name)):
            return found
    return ""


def _text(value: Any) -> str:
    """The text of a part: a string, an object around one, or a list of either."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(each) for each in value if isinstance(each, str | dict))
    if isinstance(value, dict):
        inner = value.get("text", value.get("value"))
        return inner if isinstance(inner, str) else ""
    return ""


FIELD_BYTES = 4 * 1024 * 1024
DEEPEST = 32
KEYS_MOST, ITEMS_MOST = 10_000, 65_536
"""Of one object or list among the fields that is merged from pieces: each value takes a hundred
bytes of memory, be it one digit."""
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

    def __init__(self, most: int = FIELD_BYTES) -> None:
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
        if before is None:
            _bound(len(self.held), KEYS_MOST)
        if closing and _repeats(before, value):
            self.put(name, value)
        elif (own := self._copied(value)) is not None:
            self.held[name] = own if before is None else _merged(name, before, own, DEEPEST)
            self.changed = True

    def put(self, name: str, value: Any) -> None:
        """The whole field, in place of its pieces."""
        if self.held.get(name) == value or _empty(value):
            return
        if (own := self._copied(value, _size(self.held.get(name)))) is not None:
            self.held[name] = own
            self.changed = True

    def given(self, *, again: bool) -> Object:
        """A copy of all, to be given out. `again`: more may follow, so that it takes room: fields
        that grow with each piece are given out with each. Raises UpstreamTooLarge for those."""
        self.changed = False
        if not self.held:
            return {}
        data = orjson.dumps(self.held)
        if again:
            self._room.take(len(data))
        given: Object = orjson.loads(data)
        return given

    def _copied(self, value: Any, before: int = 0) -> Any:
        """A copy of the value, which takes its room: it will grow. None where no JSON holds it."""
        try:
            data = orjson.dumps(value)
        except TypeError:
            return None
        self._room.take(max(len(data) - before, 0))
        return orjson.loads(data)


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
    """Both pieces; `before` grows in its place, as a copy for each piece takes the square of their
    number."""
    if depth == 0 or new is None:
        return before if new is None else new
    if isinstance(before, dict) and isinstance(new, dict):
        for key, value in new.items():
            if not (known := key in before):
                _bound(len(before), KEYS_MOST)
            before[key] = _merged(key, before[key], value, depth - 1) if known else value
        return before
    if isinstance(before, list) and isinstance(new, list):
        return _listed(before, new, depth)
    if name in GROWING and isinstance(before, str) and isinstance(new, str):
        return new if len(new) > len(before) > 8 and new.startswith(before) else before + new
    return new


def _listed(items: list[Any], new: list[Any], depth: int) -> list[Any]:
    """The items with the new ones. Pieces with the same `index` are one item; without an index an
    item that is already there is a repetition."""
    _bound(len(items), ITEMS_MOST)
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


def _bound(count: int, most: int) -> None:
    if count >= most:
        raise UpstreamTooLarge(
            f"the provider sent more than {most} values of one object or list beside the answer's "
            "text"
        )


def _other_type(one: dict[str, Any], other: dict[str, Any]) -> bool:
    types = one.get("type"), other.get("type")
    return None not in types and types[0] != types[1]
