"""The terminal: what commands print, with control characters of prompts and answers made visible.

What a command prints passes through `Screen`, which stands in for stdout and stderr; what rich lays
out passes through `tables.SafeConsole`. Only escape sequences of rich and of `control` reach the
terminal as such. Newlines and tabs stay. Promises that a sequence split over two writes is caught
too: each character is judged alone.
"""

import io
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from asyncsvc.logs.safe_text import UNSAFE, picture
from asyncsvc.logs.safe_text import json_text as json_text
from asyncsvc.logs.safe_text import one_line as one_line
from asyncsvc.logs.safe_text import plain as plain


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line for people, at once; the default stream is stdout. A terminal gets a line that
    is too long for it in several, so that no word is broken at its edge."""
    line, out = one_line(text), stream or sys.stdout
    if out.isatty():
        line = wrapped(line, columns())
    print(line, file=out, flush=True)


def columns() -> int:
    """Return how wide the terminal is."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        return 80


def wrapped(line: str, most: int) -> str:
    """Return a line in as many lines as it needs; a word that is wider stays whole."""
    if len(line) <= most:
        return line
    import textwrap  # most commands never need it

    return textwrap.fill(
        line, most, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


class Screen:
    """A stream before another one, which makes unsafe characters of the text written visible.

    All but writing is the other stream's. Its `buffer` too: bytes for a pipe pass as they are.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        # Consoles of rich write to the stream of this name: ours, whose text is safe before the
        # layout, and that of the help, which holds no text of others. Their colours are meant.
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self._stream.write(UNSAFE.sub(picture, self._newlines.decode(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for each in lines:
            self.write(each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def control(stream: TextIO, sequence: str) -> None:
    """Write an escape sequence of our own, which a `Screen` would not let through."""
    getattr(stream, "rich_proxied_file", stream).write(sequence)
    stream.flush()


def has_person() -> bool:
    """Whether a question can be asked: what is read and what is written are a terminal's."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def styled(stream: TextIO) -> bool:
    """Whether colours and redrawing are wanted: at a terminal without NO_COLOR or TERM=dumb."""
    plain_only = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("dumb", "unknown")
    return stream.isatty() and not plain_only
