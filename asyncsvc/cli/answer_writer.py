"""How the text of an answer is written as it comes: as it is, by words at a terminal, or rendered.

At a terminal a word that does not fit into the rest of a line goes to the next one as a whole, also
if its first half has been written. Chinese, Japanese and Korean text may break between any two
signs. Lines of code blocks and words longer than a line are left to the terminal, so that they can
be copied. `writer_for` chooses.
"""

import os
import unicodedata
from collections.abc import Callable
from typing import TextIO

from asyncsvc.cli.terminal import control, styled

FENCES = ("```", "~~~")
TAB, SPACES = 8, " \t"


class Writer:
    """Writes text as it is; `mid_line`: the line has a beginning and no end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.mid_line = False

    def write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self.mid_line = not text.endswith("\n")

    def end_line(self) -> None:
        """End the line that has begun; the text so far is whole."""
        if self.mid_line:
            self._out.write("\n")
            self._out.flush()
            self.mid_line = False


class WordWriter(Writer):
    """Writes words whole into the lines of a terminal."""

    def __init__(self, out: TextIO, width: Callable[[], int] | None = None) -> None:
        super().__init__(out)
        self._width = width or self._columns_of_terminal
        self._pending: list[str] = []
        """What is laid out and not yet written."""
        self._column = 0
        self._word: list[str] = []
        """What is written of the word at the end of the line."""
        self._word_columns = 0
        self._head = ""
        """The first signs of the line, which tell a fence."""
        self._code = False

    def write(self, text: str) -> None:
        limit = self._width() - 1
        for char in text:
            self._take(char, limit)
        self._flush()
        self.mid_line = self._column > 0

    def end_line(self) -> None:
        super().end_line()
        self._new_line()
        self._code = False

    def _flush(self) -> None:
        self._out.write("".join(self._pending))
        self._out.flush()
        self._pending.clear()

    def _columns_of_terminal(self) -> int:
        try:
            return max(os.get_terminal_size(self._out.fileno()).columns, 20)
        except (OSError, ValueError):
            return 80

    def _take(self, char: str, limit: int) -> None:
        if char in "\r\n":
            self._code ^= self._head.lstrip().startswith(FENCES)
            self._pending.append(char)
            self._new_line()
            return
        if len(self._head) < TAB:
            self._head += char
        taken = TAB - self._column % TAB if char == "\t" else columns(char)
        fits = self._code or self._column + taken <= limit
        if char in SPACES:
            self._end_word()
            if not fits:
                self._break()  # the break stands for the space
                return
        elif taken == 2:
            self._end_word()
            if not fits:
                self._break()
        elif not fits and self._word_columns < self._column:
            self._move_word()
        self._pending.append(char)
        self._column += taken
        if char not in SPACES and taken < 2:
            self._word.append(char)
            self._word_columns += taken

    def _move_word(self) -> None:
        """Move what is written of a word to a line of its own."""
        if self._word_columns:
            self._flush()
            control(self._out, f"\x1b[{self._word_columns}D\x1b[K")
        self._break()
        self._pending += self._word
        self._column = self._word_columns

    def _break(self) -> None:
        self._pending.append("\n")
        self._column = 0

    def _end_word(self) -> None:
        self._word.clear()
        self._word_columns = 0

    def _new_line(self) -> None:
        self._end_word()
        self._column, self._head = 0, ""


class MarkdownWriter(Writer):
    """Renders the text as Markdown, one paragraph, list, table or code block at a time."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._waiting: list[str] = []
        """Whole lines of a block that is not at its end."""
        self._line = ""
        self._fence = ""

    def write(self, text: str) -> None:
        *ended, self._line = (self._line + text).replace("\r\n", "\n").split("\n")
        for line in ended:
            self._take(line)

    def end_line(self) -> None:
        if self._line:
            self._take(self._line)
        self._line = self._fence = ""
        self._render()

    def _take(self, line: str) -> None:
        self._waiting.append(line)
        mark = line.strip()[:3]
        if self._fence:
            closes = mark == self._fence
            self._fence = "" if closes else self._fence
        elif mark in FENCES:
            self._fence = mark
        elif not line.strip():
            self._render()

    def _render(self) -> None:
        text, self._waiting = "\n".join(self._waiting).strip("\n"), []
        if not text:
            return
        from rich.markdown import Markdown

        from asyncsvc.cli.tables import console

        # Addresses are shown and no links: what a model wrote is no escape sequence.
        console().print(Markdown(text, hyperlinks=False))
        self._out.write("\n")
        self._out.flush()


def writer_for(out: TextIO, *, markdown: bool = False) -> Writer:
    """Return the writer for a stream; only a terminal gets text that is laid out."""
    if not styled(out):
        return Writer(out)
    return MarkdownWriter(out) if markdown else WordWriter(out)


def columns(char: str) -> int:
    """Return how many columns of a terminal a sign takes: 0, 1 or 2."""
    if char.isascii():
        return 1
    if unicodedata.east_asian_width(char) in "WF":
        return 2
    return 0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1
