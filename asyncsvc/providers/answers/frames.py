"""From the bytes of a provider's answer to its frames: JSON, server-sent events or a page.

`Frames` decides by the first byte of a body what it is, whatever the Content-Type says. An event
stream is read as the WHATWG standard says: LF, CR and CR LF end a line, a comment is none, several
lines of data are one text, everything is UTF-8; where providers depart from the standard
(docs/decisions/0031-what-a-connection-brings.md) it reads what was meant. Promises that no body and
no event grows beyond a bound in memory. Never reads from a socket and never decides what a frame
means.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

import orjson

from asyncsvc.net import json_bounds
from asyncsvc.providers.answers.lenient_json import Halves, NotJson, NotUtf8, TooMuch, documents
from asyncsvc.providers.answers.size import DEFAULT_BYTES, too_large

BOM = b"\xef\xbb\xbf"
CLOSING = (b"}", b"]")
PAGE_BYTES = 64 * 1024
"""How much is kept of a page: enough for its words."""


class Frames:
    """One body. `feed` each part as it comes, then `end`; both give what has become whole: JSON
    values, `Mark` and `Odd`. `final`: the body is one document and no stream of pieces. `most`:
    bytes that may be held at once."""

    def __init__(self, *, final: bool = False, most: int = DEFAULT_BYTES) -> None:
        self.empty = True
        """Nothing but white space has come."""
        self.held = 0
        """Bytes of what is not complete yet."""
        self._final = final
        self._most = most
        self._body: _Sniffed | EventStream | _Whole | _Page = _Sniffed()

    def feed(self, part: bytes) -> list[Any]:
        body = self._body
        if isinstance(body, _Sniffed):
            begun = body.feed(part)
            if begun is None:
                return []
            part, self.empty = begun, False
            self._body = body = self._reader(part[:1])
        found = body.feed(part)
        self.held = body.held
        return found

    def completes(self, part: bytes) -> bool:
        """Whether what is held may be complete with this part."""
        whole = isinstance(self._body, _Whole)
        return part.rstrip(BLANKS)[-1:] in CLOSING if whole else b"\n" in part or b"\r" in part

    def forget(self) -> None:
        """Forget what has come: it may still be read in another thread."""
        self._body, self.held = _Sniffed(), 0

    def end(self) -> list[Any]:
        """The frames that the end of the body completes."""
        body = self._body
        return [] if isinstance(body, _Sniffed) else body.end()

    def _reader(self, first: bytes) -> "EventStream | _Whole | _Page":
        if first in (b"{", b"["):
            return _Whole(self._most)
        return _Page() if first == b"<" else EventStream(final=self._final, most=self._most)


class _Sniffed:
    """The body until its first byte beyond white space and one byte order mark."""

    def __init__(self) -> None:
        self._head = b""
        self._marked = False

    def feed(self, part: bytes) -> bytes | None:
        """The body from that byte on, or None where it has not come yet."""
        head = (self._head + part).lstrip(BLANKS)
        if not self._marked and head.startswith(BOM):
            self._marked, head = True, head.removeprefix(BOM).lstrip(BLANKS)
        incomplete = not self._marked and BOM.startswith(head)
        self._head = head if incomplete else b""
        return None if incomplete or not head else head


WHOLE_BYTES = 1 << 20
"""A longer body is only tried where it has as many closing brackets as opening ones."""


class _Whole:
    """JSON: one document, or several one after the other."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._body = bytearray()
        self.held = 0
        self._next_try = 0
        self._given = False
        self._counts = json_bounds.Counts()
        self._next_check = json_bounds.SMALL
        self._open = 0
        """How many more brackets have opened than closed, if none stands in a string."""
        self._beyond = False
        """The body holds more than may be read, and what follows makes it no less."""

    def feed(self, part: bytes) -> list[Any]:
        if self._beyond:
            return []
        self._body += part
        self.held = size = len(self._body)
        if size > self._most:
            raise too_large(self._most)
        try:
            self._count(part, size)
            if not self._tried(part, size):
                return []
            json_bounds.check(self._body)
            value = orjson.loads(self._body)
        except json_bounds.BeyondBounds as error:
            body, self._body, self._beyond = bytes(self._body), bytearray(), True
            self.held = 0
            return [_unread(body, TooMuch(str(error)), whole=True)]
        except orjson.JSONDecodeError:
            return []
        self._body.clear()
        self.held = 0
        self._next_try, self._next_check, self._open = 0, json_bounds.SMALL, 0
        self._counts, self._given = json_bounds.Counts(), True
        return [value]

    def _count(self, part: bytes, size: int) -> None:
        """Look at the bounds as soon as they may be passed. Raises BeyondBounds."""
        more, closed = json_bounds.counted(part), part.count(b"}") + part.count(b"]")
        self._counts = json_bounds.Counts(*map(sum, zip(self._counts, more, strict=True)))
        self._open += part.count(b"{") + part.count(b"[") - closed
        if size >= self._next_check and self._counts.too_many():
            self._next_check = 2 * size
            json_bounds.check(self._body)

    def _tried(self, part: bytes, size: int) -> bool:
        """Whether the body may be whole: the provider may keep the connection open."""
        if size < self._next_try or part.rstrip(BLANKS)[-1:] not in CLOSING:
            return False
        if size > WHOLE_BYTES and self._open:
            return False
        self._next_try = 2 * size
        return True

    def end(self) -> list[Any]:
        data = bytes(self._body).strip(BLANKS)
        if not data:
            return []
        try:
            values, _ = documents(data, Halves(final=True))
        except NotJson as error:
            if self._given:
                return []  # words after a document
            return [_unread(data, error, whole=True)]
        return values


class _Page:
    """HTML, or something like it: its words only."""

    held = 0

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, part: bytes) -> list[Any]:
        self._body += part[: PAGE_BYTES - len(self._body)]
        return []

    def end(self) -> list[Any]:
        return [Odd(bytes(self._body), "the provider sent a page instead of an answer", whole=True)]


BLANKS = b" \t\r\n"
STRAY_BYTES = 4096
"""How much is kept of lines that are no fields: enough for their words."""
DONE_DATA = b"[DONE]"
FIELDS = (b"data:", b"event:", b"id:", b"retry:")
LINE_COST = 64
"""What a line of data costs in memory beside its bytes."""
LF, CR, COLON = 10, 13, 58


class Mark(Enum):
    """A frame that is no document."""

    DONE = "[DONE]"
    PULSE = "a comment, or an event without data"


class Odd(NamedTuple):
    """Data that could not be read."""

    data: bytes
    why: str
    whole: bool = False
    """The data is all there was: the body held nothing of an event stream."""

    @property
    def like_json(self) -> bool:
        return self.data.lstrip(BLANKS)[:1] in (b"{", b"[")

    @property
    def carries(self) -> bool:
        """Whether a piece of the answer may be lost with it."""
        return self.like_json and b'"choices"' in self.data


class EventStream:
    """An event stream. A line of data that is a JSON object by itself is a frame at once: some
    providers send one line end between events, and no frame waits for the line after it.

    `final`: the body is one document, which may stand there without any field.
    """

    def __init__(self, *, final: bool = False, most: int = DEFAULT_BYTES) -> None:
        self._most = most
        self._halves = Halves(final=final)
        self._final = final
        self._tail: list[bytes] = []
        self.held = 0
        """Bytes of the event that is not complete yet."""
        self._after_cr = False
        self._data: list[bytes] = []
        self._beyond: TooMuch | None = None
        """Why the data is not read, where its only line so far holds too much."""
        self._name = b""
        self._stray = bytearray()
        """Lines that are no fields: the words of a proxy, perhaps."""
        self._open = False
        """A field of the event has come."""
        self._seen = False
        """A field has come at all."""

    def feed(self, part: bytes) -> list[Any]:
        if self._after_cr and part:
            self._after_cr = False
            if part[0] == LF:
                part = part[1:]
        if not part:
            return []
        # Of bytes, only these are line ends: CR LF, LF and CR.
        lines = part.splitlines()
        last = part[-1]
        rest = b""
        if last != LF:
            if last == CR:
                self._after_cr = True
            else:
                rest = lines.pop()
        if lines and self._tail:
            lines[0] = b"".join(self._tail) + lines[0]
            self._tail.clear()
            self.held = sum(map(len, self._data)) + LINE_COST * len(self._data)
        found = self._lines(lines)
        if rest:
            self._tail.append(rest)
            self._hold(len(rest))
        return found

    def end(self) -> list[Any]:
        """An event counts without the blank line after it. An object that is cut off is none."""
        found: list[Any] = []
        tail = b"".join(self._tail)
        if not any(field.startswith(tail) for field in FIELDS):
            found = self._lines([tail])
        self._dispatch(found)
        if found and isinstance(found[-1], Odd) and found[-1].like_json and tail:
            found.pop()
        if (rest := self._halves.rest()) is not None:
            found.append(rest)
        return found + self._strays()

    def _lines(self, lines: Iterable[bytes]) -> list[Any]:
        found: list[Any] = []
        for line in lines:
            if line.startswith(b"data:"):
                value = None
                try:
                    json_bounds.check(line)
                    value = None if self._data else orjson.loads(line[5:])
                except json_bounds.BeyondBounds as error:
                    self._beyond = TooMuch(str(error))
                except orjson.JSONDecodeError:
                    pass
                if value.__class__ is not dict:
                    self._datum(line[5:], found)
                    continue
                self._open = False
                if self._name or self._halves.held:
                    found += self._mended(line[5:], value)
                else:
                    found.append(value)
            elif line:
                self._field(line, found)
            elif self._data or self._open:
                self._dispatch(found)
            else:
                self._name = b""
        self._seen = self._seen or bool(found)
        return found

    def _datum(self, data: bytes, found: list[Any]) -> None:
        """A line of data that is no object by itself."""
        if data[:1] == b" ":
            data = data[1:]
        if not self._data and data.strip(BLANKS) == DONE_DATA:
            found += self._done()
            return
        if self._data:
            self._beyond = None  # what stands in a string is known of all lines together
        self._data.append(data)
        self._hold(len(data) + LINE_COST)

    def _hold(self, size: int) -> None:
        self.held += size
        if self.held > self._most:
            raise too_large(self._most)

    def _field(self, line: bytes, found: list[Any]) -> None:
        """A line without data: a comment, another field, or no field at all."""
        if line[0] == COLON:
            if not found or found[-1] is not Mark.PULSE:
                found.append(Mark.PULSE)
            return
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value.strip(BLANKS)
        elif name == b"data":
            self._data.append(b"")
            self._hold(LINE_COST)
        elif name not in (b"id", b"retry"):
            if len(self._stray) < STRAY_BYTES:
                self._stray += line[:STRAY_BYTES] + b"\n"
            return
        self._open = self._seen = True

    def _dispatch(self, found: list[Any]) -> None:
        """A blank line: what was gathered is an event."""
        if self._data:
            data, beyond = b"\n".join(self._data).strip(BLANKS), self._beyond
            self._data, self.held, self._open, self._beyond = [], 0, True, None
            if data:
                found += [_unread(data, beyond)] if beyond else self._documents(data)
                self._open = False
        if self._open:
            found.append(Mark.PULSE)
            self._open = False
        self._name = b""

    def _documents(self, data: bytes) -> list[Any]:
        try:
            values, rest = documents(data, self._halves)
        except NotJson as error:
            plain = data.removeprefix(b"data:").strip(BLANKS)
            return self._done() if plain == DONE_DATA else [_unread(data, error)]
        found = [each for value in values for each in self._closed(value)]
        return found + self._done() if rest.strip() == "[DONE]" else found

    def _mended(self, data: bytes, value: Any) -> list[Any]:
        """The value with the halves of characters that earlier frames have left open."""
        if self._halves.held:
            try:
                value = self._halves.mend(value)
            except NotJson as error:
                return [_unread(data, error)]
        return self._closed(value)

    def _closed(self, value: Any) -> list[Any]:
        """The frame, and before one that finishes the answer what is still open of its text."""
        frame = self._frame(value)
        finishes = self._halves.held and first_choice(frame).get("finish_reason")
        if finishes and (rest := self._halves.rest()) is not None:
            return [rest, frame]
        return [frame]

    def _done(self) -> list[Any]:
        rest = self._halves.rest()
        return [Mark.DONE] if rest is None else [rest, Mark.DONE]

    def _frame(self, value: Any) -> Any:
        """The value; that of an event by the name of error says so itself."""
        if self._name == b"error" and not (isinstance(value, dict) and value.get("error")):
            return {"error": value}
        return value

    def _strays(self) -> list[Any]:
        """The lines that were no fields: objects other than pieces of an answer, or words."""
        stray = bytes(self._stray).strip(BLANKS)
        if not stray:
            return []
        try:
            values, _ = documents(stray, Halves(final=True))
        except NotJson:
            return [Odd(stray, "the provider sent lines that are no event stream", not self._seen)]
        if self._final:
            return values
        return [v for v in values if isinstance(v, dict) and not v.get("choices")]


def _unread(data: bytes, error: NotJson, whole: bool = False) -> Odd:
    fault = "broken JSON"
    if isinstance(error, NotUtf8):
        fault = "text that is not UTF-8"
    elif isinstance(error, TooMuch):
        fault = "JSON that is not read"
    return Odd(data, f"the provider sent {fault}: {error}", whole)


def first_choice(frame: Any) -> dict[str, Any]:
    """The first choice of a chat's frame; empty where the frame has none."""
    choices = frame.get("choices") if isinstance(frame, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
