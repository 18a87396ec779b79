"""The heads of responses to requests of ours, bounded before they are parsed.

Owns the response class of all our aiohttp sessions. Promises that a server whose head does not end
within `HEAD_MOST` bytes, or which sends more than `INTERIM_MOST` interim answers (1xx) before it,
costs its connection and nothing else: aiohttp by itself makes objects of all that one read of the
socket has brought, thousands of answers, before any of them can be counted. Interim answers are
left out, whatever they say. Never looks into the head of the response itself.
"""

import re

from aiohttp import ClientPayloadError, ClientResponse
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

INTERIM_MOST = 256
"""More than the longest wait for a response has at one a second (102 Processing)."""
HEAD_MOST = 64 * 1024
"""Twice as much as one field of a head may have."""
_INTERIM = re.compile(rb"HTTP/1\.\d 1(?!01)\d\d")
"""Switching protocols (101) ends a head: what follows is no response."""
_BEGINNINGS = (b"HTTP/1.1 1", b"HTTP/1.0 1")
_STATUS_BYTES = 12
"""Bytes by which the status is known."""
_END = re.compile(rb"\r?\n\r?\n")
_END_BYTES = 4


class BoundedResponse(ClientResponse):
    """A response that raises ClientPayloadError where its head does not come to its end."""

    async def start(self, connection: Connection) -> ClientResponse:
        protocol = connection.protocol
        assert protocol is not None  # the connection has just been made
        head = _Head(protocol)
        try:
            return await super().start(connection)
        finally:
            head.leave()


class _Head:
    """Stands before a connection's protocol until the head of the response is whole."""

    def __init__(self, protocol: ResponseHandler) -> None:
        self._protocol = protocol
        self._pass_on = protocol.data_received
        self._held = bytearray()
        """What is, or may be, the beginning of an interim answer."""
        self._interim = 0
        self._size = 0
        """Bytes of the head that were passed on."""
        self._end = b""
        """The last of them, which may be a part of the end."""
        self._stands = True
        protocol.data_received = self._take  # type: ignore[method-assign]
        self._look_again()

    def leave(self) -> None:
        """Let the protocol have all that comes from now on."""
        if self._stands:
            self._stands = False
            del self._protocol.data_received
            self._look_again()

    def _look_again(self) -> None:
        """Have the transport look up the protocol's methods, which it keeps."""
        if self._protocol.transport is not None:
            self._protocol.transport.set_protocol(self._protocol)

    def _take(self, data: bytes) -> None:
        """Leave interim answers out, and pass on what follows."""
        held = self._held
        searched = max(len(held) - _END_BYTES, 0)
        held += data
        while not self._size and _may_be_interim(held):
            end = _END.search(held, searched)
            if end is None:
                if len(held) > HEAD_MOST:
                    self._give_up(f"an interim answer has more than {HEAD_MOST} bytes")
                return
            self._interim += 1
            if self._interim > INTERIM_MOST:
                self._give_up(f"more than {INTERIM_MOST} interim answers came before the response")
                return
            del held[: end.end()]
            searched = 0
        if held:
            self._head(bytes(held))
            held.clear()

    def _head(self, data: bytes) -> None:
        """Pass on a part of the response's head, and of its body if it has begun."""
        self._size += len(data)
        if _END.search(self._end + data):
            self.leave()
        elif self._size > HEAD_MOST:
            self._give_up(f"the head of the response has more than {HEAD_MOST} bytes")
            return
        self._end = (self._end + data)[-_END_BYTES:]
        self._pass_on(data)

    def _give_up(self, why: str) -> None:
        self.leave()
        self._protocol.set_exception(ClientPayloadError(why))
        if self._protocol.transport is not None:
            self._protocol.transport.abort()


def _may_be_interim(held: bytearray) -> bool:
    if len(held) < _STATUS_BYTES:
        return any(begin.startswith(held[: len(begin)]) for begin in _BEGINNINGS)
    return _INTERIM.match(held) is not None
