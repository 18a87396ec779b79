"""Offers of an HTTP/1.1 client to go on in another protocol.

Owns the parser of requests. Promises that an offer of any protocol but WebSocket, such as `h2c`, is
ignored as RFC 9110 (7.8) allows, and that the request with its body is read as if there had been
none. Never answers.

llhttp ends a message at its head where another protocol is offered and leaves the rest to the
caller. The head is therefore given to the parser once more, without the offer.
"""

from array import array
from collections.abc import Iterable
from typing import Protocol

import httptools

Headers = Iterable[tuple[bytes, bytes]]
OFFER = frozenset({b"upgrade", b"http2-settings"})
WEBSOCKET = b"websocket"


class Reader(Protocol):
    """What the parser needs of the connection: the head as far as it was read."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class Parser(httptools.HttpRequestParser):
    """uvicorn's parser, but that it goes on after an offer which is ignored."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._reader = reader
        # As uvicorn does: a request that follows `Connection: close` in one packet is no error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def ignores(self) -> bool:
        """Whether the message that has just been read ended because of an offer to ignore."""
        return self.should_upgrade() and _offers_other(self._reader.headers)

    def feed_data(self, data: "bytes | bytearray | memoryview | array[int]") -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not _offers_other(self._reader.headers):
                raise
            rest = bytes(memoryview(data)[offer.args[0] :])
            self.feed_data(self._head() + rest)

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.get_method(), self._reader.url, version)]
        kept = ((name, value) for name, value in self._reader.headers if name not in OFFER)
        lines += [b"%s: %s" % pair for pair in kept]
        return b"\r\n".join([*lines, b"", b""])


def _offers_other(headers: Headers) -> bool:
    """Whether a protocol is offered, but not WebSocket."""
    offers = [value.strip().lower() for name, value in headers if name == b"upgrade"]
    return bool(offers) and WEBSOCKET not in offers
