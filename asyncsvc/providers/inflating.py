"""Decompressing an answer in pieces of bounded size.

Owns the encodings that are asked for. Promises that no call gives more than one piece at a time,
however much a few bytes stand for. What is called compressed and is not passes as it is.
"""

import zlib
from collections.abc import Iterator

from asyncsvc.errors import UpstreamInvalid

ACCEPTED = "gzip, deflate"
"""Both can be decompressed with a bound on what comes out."""
PIECE_BYTES = 64 * 1024
_GZIP = b"\x1f\x8b"
_WITH_HEADER = zlib.MAX_WBITS | 16


class Inflater:
    """One layer of compression."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._head = b""
        self._begun = False
        self._plain = False
        self._ended = False
        self._engine = zlib.decompressobj(_WITH_HEADER)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the data stands for. Raises UpstreamInvalid."""
        if not self._begun:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            self._begin(data)
        if self._plain:
            yield data
            return
        try:
            yield from self._inflate(data)
        except zlib.error as error:
            raise UpstreamInvalid(
                f"the provider's answer is not the {self._encoding} that it is called: {error}"
            ) from None

    def end(self) -> bytes:
        """A body too short to tell what it is."""
        return b"" if self._begun else self._head

    def _begin(self, data: bytes) -> None:
        self._begun = True
        if self._encoding == "gzip":
            self._plain = data[:2] != _GZIP
        elif data[0] & 0xF != 8 or int.from_bytes(data[:2], "big") % 31:
            self._engine = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without its wrapping
        else:
            self._engine = zlib.decompressobj()

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while not self._ended:
            if self._engine.eof:
                if not data:
                    return
                # gzip may consist of several participants; anything else after one is padding.
                if self._encoding != "gzip" or data[:1] != _GZIP[:1]:
                    self._ended = True
                    return
                self._engine = zlib.decompressobj(_WITH_HEADER)
            piece = self._engine.decompress(data, PIECE_BYTES)
            if piece:
                yield piece
            data = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            if not data and len(piece) < PIECE_BYTES:
                return


def inflaters(header: str) -> list[Inflater]:
    """The layers that Content-Encoding names, in the order in which they come off. Raises
    UpstreamInvalid for what was not asked for."""
    layers = []
    for name in header.lower().split(","):
        encoding = name.strip().removeprefix("x-")
        if encoding in ("gzip", "deflate"):
            layers.append(Inflater(encoding))
        elif encoding not in ("", "identity", "none", "utf-8"):
            raise UpstreamInvalid(
                f"the provider compressed its answer as {encoding[:20]!r}, which was not asked for"
            )
    return layers[::-1]
