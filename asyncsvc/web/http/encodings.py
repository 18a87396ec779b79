"""Compressed bodies of requests (`Content-Encoding`, RFC 9110, 8.4).

Owns the choice of the encoding and the inflating. Promises that no more than the limit ever comes
out, however little went in, and that an encoding which is not known is refused with 415. Never
reads a connection.
"""

import zlib
from collections.abc import Iterable

from asyncsvc.errors import InvalidJson, UnsupportedEncoding

GZIP, DEFLATE = "gzip", "deflate"
KNOWN = {"gzip": GZIP, "x-gzip": GZIP, "deflate": DEFLATE}
MEMBERS_MOST = 16
"""A gzip body may be several, one behind the other; each costs a copy of what follows it."""
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


def coding(values: Iterable[str]) -> str | None:
    """How a body with these `Content-Encoding` lines is compressed; None where it is not. Raises
    UnsupportedEncoding."""
    words = [word.strip().lower() for value in values for word in value.split(",")]
    words = [word for word in words if word not in ("", "identity")]
    if not words:
        return None
    if len(words) > 1 or words[0] not in KNOWN:
        raise UnsupportedEncoding(
            f"Content-Encoding {', '.join(words)[:80]!r} is not known; known: gzip, deflate",
            param="Content-Encoding",
        )
    return KNOWN[words[0]]


class Inflater:
    """One compressed body; `more` gives what comes out, piece by piece."""

    def __init__(self, data: bytes, encoding: str) -> None:
        self._encoding = encoding
        self._bits = _bits(data, encoding)
        self._stream = zlib.decompressobj(self._bits)
        self._left = data
        self._participants = 1
        self.ended = False

    def more(self, most: int) -> bytes:
        """Up to so many bytes; `ended` says whether these were the last. Raises InvalidJson for
        what is not compressed in that way, or is cut off."""
        found = bytearray()
        try:
            while len(found) < most and not self.ended:
                self._step(found, most)
        except zlib.error as error:
            raise self._broken(str(error)) from None
        return bytes(found)

    def _step(self, found: bytearray, most: int) -> None:
        stream = self._stream
        part = stream.decompress(self._left, most - len(found))
        found += part
        self._left = stream.unconsumed_tail
        if not stream.eof:
            if not part and not self._left:
                raise self._broken("it is cut off")
            return
        rest = stream.unused_data
        if not rest:
            self.ended = True
        elif self._encoding != GZIP or self._participants == MEMBERS_MOST:
            raise self._broken("something follows its end")
        else:
            self._participants += 1
            self._stream, self._left = zlib.decompressobj(self._bits), rest

    def _broken(self, why: str) -> InvalidJson:
        return InvalidJson(f"the body is not valid {self._encoding}: {why}")


def _bits(data: bytes, encoding: str) -> int:
    """What zlib is told. Under the name deflate some send a bare stream without zlib's head."""
    if encoding == GZIP:
        return _GZIP_BITS
    framed = len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
    return _ZLIB_BITS if framed else _RAW_BITS
