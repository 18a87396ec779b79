"""One block of a model's text that may be a call, up to its end.

Owns where a block ends: at its mark, but not where that stands in a string of its JSON, or at the
end of its JSON where something else follows. Looks at each character once.
"""

import re
from dataclasses import dataclass, field
from enum import Enum

RUN_MOST = 200
"""Characters of a run of backticks, of a fence's line: a longer one is cut, or no fence."""


class Ending(Enum):
    """What has become of a block."""

    OPEN = "more text is needed"
    CLOSED = "it is over"
    NONE = "it is no call: what follows its beginning is none"
    LOST = "the text is over before the block is"


class In(Enum):
    """The place within a block."""

    LEAD = "before the first bracket"
    JSON = "in JSON, outside of strings"
    STRING = "in a string of JSON"
    PLAIN = "in something else, whose quotes mean nothing"
    DONE = "behind a value"


_BLANKS = re.compile(r"\s+")
_NAME = re.compile(r"[\w.:/-]+")
_JSON = re.compile(r"""[^\[\]{}<`~"']+""")
_PLAIN = re.compile(r"[^<\[`~\n]+")
_STRINGS = {'"': re.compile(r'[^"\\]+'), "'": re.compile(r"[^'\\]+")}
BETWEEN = ",;)]}"
"""What may stand behind a value: too much, or before the next one."""


@dataclass(slots=True)
class Block:
    """A block. `fence` or `closers` end it; data without either ends with its value."""

    head: str
    """The text that opens it."""
    fence: str = ""
    closers: tuple[str, ...] = ()
    data: bool = False
    """It has no mark of a call."""
    inline: bool = False
    """It begins within a line."""
    gap: str = ""
    """The blanks before it."""
    place: In = In.LEAD
    end: str = ""
    """The text that closes it."""
    _parts: list[str] = field(default_factory=list)
    _after: list[str] = field(default_factory=list)
    """The blanks behind a value."""
    _quote: str = ""
    _depth: int = 0
    _blank: bool = False
    """Nothing but blanks stands before on this line."""
    _named: int = 0
    """Before the first bracket: no name yet, within a name, behind a name."""

    @property
    def content(self) -> str:
        """What stands within."""
        return "".join(self._parts)

    @property
    def text(self) -> str:
        """All of it, as the model wrote it."""
        return self.head + self.content + self.end

    @property
    def after(self) -> str:
        """The blanks behind it."""
        return "".join(self._after)

    def take(self, text: str, final: bool) -> tuple[Ending, str]:
        """Look at more text; the rest of it that is not the block's, or cannot be judged yet.
        `final`: no more follows."""
        at, ending = 0, Ending.OPEN
        while at < len(text) and ending is Ending.OPEN:
            before = at
            if self.place is In.STRING:
                at = self._string(text, at, final)
            else:
                at, ending = self._outside(text, at, final)
            if at == before:
                break
        if ending is Ending.CLOSED:
            at += len(self.end)
        elif ending is Ending.OPEN and final:
            self._add(text[at:])
            return Ending.LOST, ""
        return ending, text[at:]

    def cut(self) -> str | None:
        """Let the block end at its first end, be it in a string; the text behind it, or None where
        it has no end."""
        content = self.content
        found = [
            (at, closer) for closer in self.closers if (at := content.find(closer)) >= 0
        ] or _fences(content, self.fence)
        if self.place not in (In.STRING, In.JSON) or not found:
            return None
        at, self.end = min(found)
        self._parts = [content[:at]]
        return content[at + len(self.end) :]

    def _add(self, text: str) -> int:
        """Keep text, with the blanks before it; its length."""
        if self._after:
            self._parts += self._after
            self._after = []
        self._parts.append(text)
        return len(text)

    def _string(self, text: str, at: int, final: bool) -> int:
        """A part of a string; the same place where more is needed."""
        if found := _STRINGS[self._quote[0]].match(text, at):
            return at + self._add(found[0])
        size = 2 if text[at] == "\\" else len(self._quote)
        if len(text) - at < size and not final:
            return at
        if text[at] != "\\":
            if text.startswith(self._quote, at):
                self.place = In.JSON
            else:
                size = 1
        return at + self._add(text[at : at + size])

    def _outside(self, text: str, at: int, final: bool) -> tuple[int, Ending]:
        """A part that is in no string."""
        size = self._closer(text, at, final)
        if size is None:
            return at, Ending.OPEN
        if size:
            self._add("")
            self.end = text[at : at + size]
            return at, Ending.CLOSED
        if found := _BLANKS.match(text, at):
            self._blanks(found[0])
            return found.end(), Ending.OPEN
        if self.place is In.LEAD:
            return self._lead(text, at)
        if self.place is In.DONE:
            return self._done(text, at, final)
        if self.place is In.JSON:
            return self._json(text, at, final)
        found = _PLAIN.match(text, at)
        self._blank = False
        return at + self._add(found[0] if found else text[at]), Ending.OPEN

    def _closer(self, text: str, at: int, final: bool) -> int | None:
        """The length of the block's end where it stands there, else 0; None where more text is
        needed to know."""
        if self.fence:
            tick = self.fence[0]
            if text[at] != tick:
                return 0
            size = 1
            while size < RUN_MOST and text.startswith(tick, at + size):
                size += 1
            if at + size == len(text) and size < RUN_MOST and not final:
                return None
            alone = self._blank or self.place is not In.PLAIN
            return size if size >= len(self.fence) and alone else 0
        for closer in self.closers:
            if text.startswith(closer, at):
                return len(closer)
            if not final and len(text) - at < len(closer) and closer.startswith(text[at:]):
                return None
        return 0

    def _blanks(self, blanks: str) -> None:
        self._blank = "\n" in blanks or self._blank
        self._named = 2 if self._named else 0
        if self.place is In.DONE:
            self._after.append(blanks)
        else:
            self._add(blanks)

    def _lead(self, text: str, at: int) -> tuple[int, Ending]:
        """Before the first bracket, where a name may stand; behind a fence anything."""
        first = text[at]
        if first in "[{":
            self.place, self._depth = In.JSON, 1
            return at + self._add(first), Ending.OPEN
        if first == "<":
            self.place = In.PLAIN
            return at + self._add(first), Ending.OPEN
        name = _NAME.match(text, at)
        if not self.fence and (name is None or self._named == 2):
            return at, Ending.NONE
        self._named = 1
        return at + self._add(name[0] if name else first), Ending.OPEN

    def _json(self, text: str, at: int, final: bool) -> tuple[int, Ending]:
        first = text[at]
        if first in "\"'":
            triple = first * 3
            if not final and len(text) - at < 3 and triple.startswith(text[at:]):
                return at, Ending.OPEN
            self._quote = triple if text.startswith(triple, at) else first
            self.place = In.STRING
            return at + self._add(self._quote), Ending.OPEN
        if first in "[{":
            self._depth += 1
        elif first in "]}":
            self._depth -= 1
        else:
            found = _JSON.match(text, at)
            return at + self._add(found[0] if found else first), Ending.OPEN
        self._add(first)
        if self._depth == 0:
            self.place = In.DONE
            if self.data and not self.fence:
                return at + 1, Ending.CLOSED
        return at + 1, Ending.OPEN

    def _done(self, text: str, at: int, final: bool) -> tuple[int, Ending]:
        """Behind a value: another one may follow, or the block is over."""
        first = text[at]
        if first in BETWEEN:
            return at + self._add(first), Ending.OPEN
        if first == "[" and len(text) - at < 2 and not final:
            return at, Ending.OPEN
        if first == "{" or (first == "[" and not text[at + 1 : at + 2].isalpha()):
            self.place, self._depth = In.JSON, 1
            return at + self._add(first), Ending.OPEN
        return at, Ending.NONE if self.data else Ending.CLOSED


def _fences(content: str, fence: str) -> list[tuple[int, str]]:
    """The first line that is a fence of that kind, with its place."""
    at = 0
    for line in content.splitlines(keepends=True) if fence else ():
        run = line.strip()
        if run.startswith(fence) and not run.strip(fence[0]):
            return [(at + line.index(run), run)]
        at += len(line)
    return []
