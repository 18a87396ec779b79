"""Thinking: how it is asked for, and how it is split from the answer that it stands in.

Owns the ways in which providers let thinking be switched, as data, and the splitting of text
that a model writes between <think> and </think>. Promises that a tag is found wherever the
provider cuts its pieces, that nothing is held back longer than it may still become a tag, and
that an answer without a tag is not touched. Never knows a provider.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from asyncsvc.providers.answers.pieces import BLANK_CHARS, add, joined, shorter

SYSTEM = "system"
"""The key of a switch that is no parameter but a line of the system message."""


@dataclass(frozen=True, slots=True)
class Switch:
    """The fields that `params.thinking` becomes. None: no such mode; `auto` adds nothing."""

    on: Mapping[str, Any] | None = None
    off: Mapping[str, Any] | None = None
    lowers: bool = False
    """Off only makes it think less."""
    raw: bool = False
    """The provider has a parameter `thinking` of its own, an object, which is passed on."""
    opens: bool = False
    """Thinking is asked for by the model's chat template, which may write the opening tag."""

    def body(self, mode: str) -> Mapping[str, Any] | None:
        """The fields that the mode adds to a request; None where no mode can be chosen."""
        modes = {"auto": {}, "on": self.on, "off": self.off}
        return modes.get(mode)


SWITCHES: Mapping[str, Switch] = {
    "none": Switch(),
    "unknown": Switch(raw=True),
    "always_on": Switch(on={}, opens=True),
    "glm": Switch({"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}, raw=True),
    "enable_thinking": Switch({"enable_thinking": True}, {"enable_thinking": False}),
    "template_enable": Switch(
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        opens=True,
    ),
    "template_thinking": Switch(
        {"chat_template_kwargs": {"thinking": True}},
        {"chat_template_kwargs": {"thinking": False}},
        opens=True,
    ),
    "effort": Switch({"reasoning_effort": "high"}, {"reasoning_effort": "low"}, lowers=True),
    "effort_absent": Switch({"reasoning_effort": "high"}, {}),
    "openrouter": Switch({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
    "system_line": Switch({SYSTEM: "detailed thinking on"}, {SYSTEM: "detailed thinking off"}),
}
"""The dialects of thinking, by the names that presets use."""

OPEN, CLOSE = "<think>", "</think>"


class At(Enum):
    """The place of a splitter in the text."""

    START = "nothing but spaces so far, or a part of the tag"
    PRESUMED = "before a closing tag whose opening tag is in the prompt"
    THOUGHT = "after the opening tag"
    BETWEEN = "after the closing tag, before the answer"
    ANSWER = "in the answer"


class ThinkSplitter:
    """`feed` pieces of text, then `end`: both give (text, is it thought) as far as it is known.

    `unopened`: the model thinks, and its prompt may have ended with the opening tag, so that the
    text begins as thinking without it. Where no closing tag comes, the text was the answer.
    """

    def __init__(self, unopened: bool = False) -> None:
        self.at = At.START
        self._unopened = unopened
        self._held = ""
        self._blanks: list[str] = []
        """The blanks before all else; joined once, for a model may write them without an end."""
        self._presumed: list[str] = []

    def feed(self, text: str) -> Iterator[tuple[str, bool]]:
        """The piece, as thought or answer."""
        if self.at is At.ANSWER:
            if text:
                yield text, False
            return
        if self.at is At.START and not self._held and text.isspace():
            self._blanks.append(text)
            return
        self._held += text
        if self.at is At.START:
            self._start()
        if self.at in (At.THOUGHT, At.PRESUMED):
            yield from self._thought()
        if self.at is At.BETWEEN:
            # Templates put an empty line after the tag, which belongs to neither.
            self._held = self._held.lstrip("\r\n")
            if self._held:
                self.at = At.ANSWER
        if self.at is At.ANSWER and self._held:
            held, self._held = self._held, ""
            yield held, False

    def end(self, cut: bool = False) -> Iterator[tuple[str, bool]]:
        """The text that was held back. `cut`: the answer ended at its limit of tokens."""
        held, self._held = "".join([*self._blanks, self._held]), ""
        self._blanks = []
        if held:
            yield held, self.at in (At.THOUGHT, At.PRESUMED)
        if self.at is At.PRESUMED and not cut:
            yield "".join([*self._presumed, held]), False
        self.at, self._presumed = At.ANSWER, []

    def no_tags(self) -> None:
        """The thinking comes in a field of its own, so none without a tag is in the text."""
        self._unopened = False

    def _start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self.at, self._held, self._blanks = At.THOUGHT, begun[len(OPEN) :], []
        elif not OPEN.startswith(begun):
            self.at = At.PRESUMED if self._unopened else At.ANSWER
            self._held, self._blanks = "".join([*self._blanks, self._held]), []

    def _thought(self) -> Iterator[tuple[str, bool]]:
        thought, closed, after = self._held.partition(CLOSE)
        if closed:
            self.at, self._held = At.BETWEEN, after
            self._presumed = []
        else:
            sure = len(thought) - _tag_begun(thought)
            thought, self._held = thought[:sure], thought[sure:]
        if thought:
            if self.at is At.PRESUMED:
                self._presumed.append(thought)
            yield thought, True


def closes_unopened(text: str) -> bool:
    """Whether a whole text begins with thinking that has a closing tag alone."""
    thought, closed, after = text.partition(CLOSE)
    return bool(closed) and OPEN not in thought and after.startswith(("\n", "\r"))


def untagged(text: str) -> str:
    """The answer in a whole text that may begin with thinking between tags."""
    splitter = ThinkSplitter()
    parts = [*splitter.feed(text), *splitter.end()]
    return "".join(part for part, is_thought in parts if not is_thought)


BLANKS_MOST = 64 * 1024
"""How many blanks of a repetition are held until something follows them; more are left out."""


class Repetition:
    """Another source of thinking while it repeats what is known, blanks around both aside.

    Each character is compared once: a piece costs the same however long the answer is.
    """

    def __init__(self, known: str) -> None:
        self.repeated = 0
        """How many characters of the known thinking it has repeated, from the first that is no
        blank on."""
        self._left = deque([known])
        """The known thinking that it has not repeated yet, in pieces."""
        self._at = 0
        """Where the first of them is to be compared."""
        self._blanks: list[str] = []
        """Its blanks since then: what follows tells whether they are its end."""
        self._held = 0

    @property
    def complete(self) -> bool:
        """Whether it has repeated all, but for blanks at the end."""
        return all(
            not piece[self._at if n == 0 else 0 :].strip() for n, piece in enumerate(self._left)
        )

    def know(self, text: str) -> None:
        """The known thinking has grown."""
        self._left.append(text)

    def take(self, text: str) -> str | None:
        """None while it repeats; else what has come since `repeated` characters."""
        if not self.repeated:
            text = text.lstrip()
            while self._left and not (first := self._left[0].lstrip()):
                self._left.popleft()
            if self._left:
                self._left[0] = first
        if text.strip():
            text = "".join([*self._blanks, text])
            self._blanks, self._held = [], 0
            same = self._compare(text.rstrip())
            text = text[same:]
            if text.strip():
                return text
        if self._held + len(text) <= BLANKS_MOST:
            self._held += len(text)
            self._blanks.append(text)
        return None

    def _compare(self, text: str) -> int:
        """How many characters at the beginning of a text are repeated."""
        at = 0
        while at < len(text) and self._left:
            piece = self._left[0]
            size = min(len(piece) - self._at, len(text) - at)
            same = _alike(piece[self._at : self._at + size], text[at : at + size])
            at, self._at = at + same, self._at + same
            if same < size:
                break
            if self._at == len(piece):
                self._left.popleft()
                self._at = 0
        self.repeated += at
        return at


def _alike(one: str, other: str) -> int:
    """The length of what two texts of one length begin with alike."""
    if one == other:
        return len(one)
    return next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


class Thoughts:
    """The thinking of one answer, each part once.

    Some providers send the same thinking under two names, or in a field and between tags. The
    source that comes first is taken as it comes; another one is taken from where it differs.
    """

    def __init__(self) -> None:
        self.source: str | None = None
        """The only one so far."""
        self.parts: list[str] = []
        """All thinking so far, in pieces."""
        self._taken: set[str] = set()
        """Sources that are taken as they come."""
        self._others: dict[str, Repetition] = {}
        """The others, which may be repetitions so far."""

    @property
    def text(self) -> str:
        """All thinking so far."""
        return joined(self.parts)

    def take(self, source: str, text: str) -> str:
        """The text that a piece adds to the thinking."""
        if not self._taken:
            self.source = source
            self._taken.add(source)
        elif source != self.source:
            self.source = None
        if source not in self._taken:
            if (other := self._others.get(source)) is None:
                other = self._others[source] = Repetition(self.text)
            if (rest := other.take(text)) is None:
                return ""
            del self._others[source]
            self._taken.add(source)
            text = rest if other.complete else self.text.lstrip()[: other.repeated] + rest
        self._add(text)
        return text

    def whole(self, text: str) -> str:
        """The text that the whole thinking adds to its pieces; nothing where it is another text."""
        if shorter(text, self.parts, BLANK_CHARS) or not continues(self.text, text):
            return ""
        new = beyond(self.text, text)
        self._add(new)
        return new

    def _add(self, text: str) -> None:
        if text:
            add(self.parts, text)
            for other in self._others.values():
                other.know(text)


def continues(text: str, whole: str) -> bool:
    """Whether a whole text begins with one that is known, blanks around them aside."""
    return whole.strip().startswith(text.strip())


def beyond(text: str, whole: str) -> str:
    """The rest of a text that begins with one that is known; all of it where it does not."""
    if whole.startswith(text):
        return whole[len(text) :]
    if not continues(text, whole):
        return whole
    return whole.strip()[len(text.strip()) :]


def _tag_begun(text: str) -> int:
    """The count of characters at the end that may begin the closing tag."""
    for size in range(min(len(CLOSE) - 1, len(text)), 0, -1):
        if CLOSE.startswith(text[-size:]):
            return size
    return 0
