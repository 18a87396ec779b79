"""Heads of requests: the rules of RFC 9110 and 9112 that the HTTP parser does not check.

Every field that decides something is there once, the Host names a host and a port and nothing
else, and a target is a path. A head with two readings is refused, since a proxy in front of the
service may have taken the other one.
"""

import re
from collections.abc import Iterable
from itertools import chain

from asyncsvc.errors import HeadTooLarge, InvalidHttp

Field = tuple[bytes, bytes]
"""Name in small letters, and value."""

HEAD_BYTES = 64 * 1024
FIELDS_MOST = 128
"""Header fields of a request; `websockets` takes no more in a handshake."""
VERSIONS = ("1.1", "1.0")
ONCE = frozenset(
    {
        b"host", b"authorization", b"origin", b"x-user", b"content-type", b"content-length",
        b"idempotency-key", b"last-event-id", b"x-session-id", b"x-lane", b"x-priority", b"expect",
        b"sec-websocket-key", b"sec-websocket-version",
    }
)  # fmt: skip
"""Fields that are one value: of two it would be open which one counts."""
OBEYED = frozenset({b"connection", b"proxy-connection", b"upgrade"})
"""Fields by which the parser ends or changes the connection, also where they are trailers."""
_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?"
HOST = re.compile(_HOST)
ORIGIN_FORM = re.compile(rb"/[^#]*")
ABSOLUTE_FORM = re.compile(rb"https?://(?P<host>%b)(?P<rest>[/?][^#]*)?" % _HOST, re.IGNORECASE)


def check(version: str, target: bytes, fields: list[Field]) -> bytes:
    """Return the target as a path with its query. Raises InvalidHttp or HeadTooLarge.

    The authority of an absolute target replaces the Host field (RFC 9112, 3.2.2).
    """
    size = len(target) + 4 * len(fields) + sum(map(len, chain.from_iterable(fields)))
    if size > HEAD_BYTES or len(fields) > FIELDS_MOST:
        raise head_too_large()
    if version not in VERSIONS:
        raise InvalidHttp("the version of HTTP must be 1.1 or 1.0")
    _check_fields(version, fields)
    if ORIGIN_FORM.fullmatch(target):
        return target
    absolute = ABSOLUTE_FORM.fullmatch(target)
    if absolute is None or not absolute["host"]:
        raise InvalidHttp("the request's target must be a path, without a fragment")
    fields[:] = [(b"host", absolute["host"]), *(pair for pair in fields if pair[0] != b"host")]
    rest: bytes = absolute["rest"] or b"/"
    return rest if rest.startswith(b"/") else b"/" + rest


def head_too_large() -> HeadTooLarge:
    """Return the refusal of a head with too many bytes or header fields."""
    return HeadTooLarge(
        f"a request's head may have {HEAD_BYTES} bytes and {FIELDS_MOST} header fields"
    )


def _check_fields(version: str, fields: Iterable[Field]) -> None:
    seen = set()
    for name, value in fields:
        if name in ONCE:
            if name in seen:
                raise InvalidHttp(f"the header {name.decode()} may be sent once only")
            seen.add(name)
            if name == b"host" and not HOST.fullmatch(value):
                raise InvalidHttp("the Host header must be a name or an address, with its port")
        elif name == b"transfer-encoding" and version == "1.0":
            raise InvalidHttp("HTTP/1.0 has no Transfer-Encoding")
    if version == "1.1" and b"host" not in seen:
        raise InvalidHttp("the Host header is missing")


class Framing:
    """Bounds on what surrounds the body of one request: chunk sizes, extensions, trailers.

    Trailers are counted and dropped: they never become headers (RFC 9110, 6.5.1).
    """

    __slots__ = ("_fields", "_open", "_size", "_whole", "body")

    OPEN_BYTES = 8 * 1024
    """Of one chunk's size with its extensions, or of one trailer."""
    TRAILER_BYTES, TRAILER_FIELDS = 8 * 1024, 32
    SURROUNDING_BYTES = 64 * 1024
    """For all of the framing, and one byte more for each byte of the body: so 16,000 chunks may
    have one byte, and beyond that a chunk has six or more on average."""

    def __init__(self) -> None:
        self.body = 0
        """Bytes of the body so far."""
        self._open = 0
        self._whole = True
        self._fields = self._size = 0

    def part(self, size: int = 0) -> None:
        """Count bytes of the body, or the end of a chunk's head with 0."""
        self.body += size
        self._whole = True

    def trailer(self, name: bytes, value: bytes) -> None:
        """Count a trailer. Raises InvalidHttp for one too many, or one that the parser obeys."""
        if name.lower() in OBEYED:
            raise InvalidHttp(f"{name.decode('latin-1')} must stand in the head, not in a trailer")
        self._fields += 1
        self._size += len(name) + len(value)
        if self._fields > self.TRAILER_FIELDS or self._size > self.TRAILER_BYTES:
            raise self._too_much()

    def received(self, size: int, total: int) -> None:
        """Check after each piece from the socket; `total` is the request's bytes so far. Raises
        InvalidHttp."""
        self._open = 0 if self._whole else self._open + size
        self._whole = False
        surrounding = total - self.body
        if self._open > self.OPEN_BYTES or surrounding > self.SURROUNDING_BYTES + self.body:
            raise self._too_much()

    def _too_much(self) -> InvalidHttp:
        return InvalidHttp(
            f"a chunked body may have {self.TRAILER_FIELDS} trailers of {self.TRAILER_BYTES} bytes "
            "together, short chunk extensions, and no more framing than content"
        )
