"""Text of others on the screen: control characters of prompts, answers and names are made visible.

Owns which characters are unsafe. What a command prints passes through `Screen`, which stands in for
stdout and stderr; what rich lays out passes through `tables.SafeConsole`. Only escape sequences of
rich and of `control` reach the terminal as such. Newlines and tabs stay. Promises that a sequence
split over two writes is caught too: each character is judged alone.
"""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL, C1, line separators, and what turns the direction of writing
(https://trojansource.codes). Marks such as U+200E, which only sort single signs, stay."""
_BREAK = re.compile("\r\n?")


def plain(text: str) -> str:
    """Return the text with unsafe characters made visible; a carriage return becomes a newline."""
    return _UNSAFE.sub(_picture, _BREAK.sub("\n", text))


def one_line(text: str) -> str:
    """Return the text as `plain` does, with spaces for newlines and tabs."""
    return plain(text).replace("\n", " ").replace("\t", " ")


def _picture(found: re.Match[str]) -> str:
    """Return the sign for a control character (␛ for ESC), else �; each is one column wide."""
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def json_text(value: Any, indent: int | None = None) -> str:
    """Return one JSON document; unsafe characters are escaped, which changes no value."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line for people, at once; the default stream is stdout."""
    print(one_line(text), file=stream, flush=True)


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
        self._stream.write(_UNSAFE.sub(_picture, self._newlines.decode(text)))
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


class OneLineFormatter(logging.Formatter):
    """Formatter of log lines: a record is one line, and only a traceback adds more, indented.

    A newline in a message cannot begin a line that looks like another record.
    """

    def format(self, record: logging.LogRecord) -> str:
        shown = logging.makeLogRecord(record.__dict__)
        shown.msg, shown.args = one_line(record.getMessage()), None
        return plain(super().format(shown)).replace("\n", "\n    ")
