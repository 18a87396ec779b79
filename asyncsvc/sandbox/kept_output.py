"""The output of a program: what is kept of it, and what is passed on while it comes.

Owns head, tail and the count between. Promises that no output, however long, takes more memory
than its limit. Never reads a descriptor.
"""

import codecs
from collections.abc import Callable

LEAST_BYTES = 256
"""Room for the line between head and tail, whatever the limit."""


class KeptOutput:
    """Head and tail of a text, within a number of bytes of UTF-8.

    `emit` gets the text piece by piece until the limit is reached, then one line that says so.
    """

    def __init__(self, limit: int, emit: Callable[[str], None]) -> None:
        self._limit = max(limit, LEAST_BYTES)
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0
        self._emit = emit
        self._emitted = 0
        self._silent = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.read = 0
        """Bytes that came in all."""

    def add(self, data: bytes, *, final: bool = False) -> None:
        """Take a piece of the output."""
        self.read += len(data)
        # What is not UTF-8 grows when it is replaced: counted is what comes out.
        text = self._decoder.decode(data, final)
        if not text:
            return
        encoded = text.encode()
        self._pass_on(text, len(encoded))
        room = max(self._limit - len(self._head), 0) if not self._tail else 0
        self._head += encoded[:room]
        self._tail += encoded[room:]
        spare = len(self._tail) - self._limit
        if spare > 0:
            del self._tail[:spare]
            self._left_out += spare

    def _pass_on(self, text: str, size: int) -> None:
        if self._silent:
            return
        if self._emitted + size > self._limit:
            self._silent = True
            kept = text.encode()[: self._limit - self._emitted].decode(errors="ignore")
            text = f"{kept}\n[more output follows; its end comes with the result]\n"
        self._emitted += size
        self._emit(text)

    @property
    def truncated(self) -> bool:
        return bool(self._tail)

    def text(self, last_line: str = "") -> str:
        """All that is kept, with a line that says how much is not, and one at the end."""
        self.add(b"", final=True)
        if not self._tail and len(self._head) + len(last_line) <= self._limit:
            return self._head.decode() + last_line
        # Half for each end, less the line between; the line is counted as LEAST_BYTES at most.
        whole = self._head + self._tail
        half = max((self._limit - LEAST_BYTES // 2 - len(last_line)) // 2, 1)
        left_out = self._left_out + max(len(whole) - 2 * half, 0)
        head = bytes(self._head[:half]).decode(errors="ignore")
        tail = bytes(whole[-half:]).decode(errors="ignore")
        return f"{head}\n[… {left_out} bytes left out …]\n{tail}{last_line}"
