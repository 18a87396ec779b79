"""From the bytes of a provider's answer to its frames.

`Frames` decides by the first byte of a body what it is: JSON, an event stream or a page, whatever
the Content-Type says. Promises that no body grows beyond a bound in memory. Never reads from a
socket and never decides what a frame means.
"""

from typing import Any

import orjson

from asyncsvc.errors import UpstreamTooLarge
from asyncsvc.providers.answers.event_stream import BLANKS, EventStream, Mark, Odd
from asyncsvc.providers.answers.lenient_json import Halves, NotJson, NotUtf8, documents
from asyncsvc.providers.bounded import MOST_BYTES

__all__ = ["Frames", "Mark", "Odd"]

BOM = b"\xef\xbb\xbf"
PAGE_BYTES = 64 * 1024
"""How much is kept of a page: enough for its words."""


class Frames:
    """One body. `feed` each part as it comes, then `end`; both give what has become whole: JSON
    values, `Mark` and `Odd`. `final`: the body is one document and no stream of pieces."""

    def __init__(self, *, final: bool = False) -> None:
        self.empty = True
        """Nothing but white space has come."""
        self._final = final
        self._body: _Sniffed | EventStream | _Whole | _Page = _Sniffed()

    def feed(self, part: bytes) -> list[Any]:
        body = self._body
        if isinstance(body, _Sniffed):
            begun = body.feed(part)
            if begun is None:
                return []
            part, self.empty = begun, False
            self._body = body = self._reader(part[:1])
        return body.feed(part)

    def end(self) -> list[Any]:
        """What the end of the body completes."""
        body = self._body
        return [] if isinstance(body, _Sniffed) else body.end()

    def _reader(self, first: bytes) -> "EventStream | _Whole | _Page":
        if first in (b"{", b"["):
            return _Whole(Halves(final=True))
        return _Page() if first == b"<" else EventStream(final=self._final)


class _Sniffed:
    """The body until its first byte beyond white space and one byte order mark."""

    def __init__(self) -> None:
        self._head = b""
        self._marked = False

    def feed(self, part: bytes) -> bytes | None:
        """The body from that byte on, or None where it has not come yet."""
        head = (self._head + part).lstrip(BLANKS)
        if not self._marked and BOM.startswith(head):
            self._marked = head == BOM
            self._head = b"" if self._marked else head
            return None
        if not self._marked:
            head = head.removeprefix(BOM).lstrip(BLANKS)
        self._head = b""
        return head or None


class _Whole:
    """JSON: one document, or several one after the other."""

    def __init__(self, halves: Halves) -> None:
        self._halves = halves
        self._body = bytearray()
        self._next_try = 0
        self._given = False

    def feed(self, part: bytes) -> list[Any]:
        self._body += part
        size = len(self._body)
        if size > MOST_BYTES:
            raise UpstreamTooLarge(f"the provider sent a body of more than {MOST_BYTES} bytes")
        if size < self._next_try or part.rstrip(BLANKS)[-1:] not in (b"}", b"]"):
            return []
        # It may be whole, and the provider may keep the connection open.
        self._next_try = 2 * size
        try:
            value = orjson.loads(self._body)
        except orjson.JSONDecodeError:
            return []
        self._body.clear()
        self._next_try = 0
        self._given = True
        return [value]

    def end(self) -> list[Any]:
        data = bytes(self._body).strip(BLANKS)
        if not data:
            return []
        try:
            values, _ = documents(data, self._halves)
        except NotJson as error:
            if self._given:
                return []  # words after a document
            fault = "text that is not UTF-8" if isinstance(error, NotUtf8) else "broken JSON"
            return [Odd(data, f"the provider sent {fault}: {error}", whole=True)]
        return values


class _Page:
    """HTML, or something like it: its words only."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, part: bytes) -> list[Any]:
        self._body += part[: PAGE_BYTES - len(self._body)]
        return []

    def end(self) -> list[Any]:
        return [Odd(bytes(self._body), "the provider sent a page instead of an answer", whole=True)]
