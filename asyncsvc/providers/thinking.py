"""Thinking: how it is asked for, and how it is told from the answer that it stands in.

Owns the ways in which providers let thinking be switched, as data, and the splitting of text
that a model writes between <think> and </think>. Promises that a tag is found wherever the
provider cuts its pieces, that nothing is held back longer than it may still become a tag, and
that an answer that does not begin with the tag is not touched. Never knows a provider.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

SYSTEM = "system"
"""The key of a switch that is no parameter but a line of the system message."""


@dataclass(frozen=True, slots=True)
class Switch:
    """What `params.thinking` becomes. None: the provider has no such mode; `auto` adds nothing."""

    on: Mapping[str, Any] | None = None
    off: Mapping[str, Any] | None = None
    lowers: bool = False
    """Off only makes it think less."""
    raw: bool = False
    """The provider has a parameter `thinking` of its own, an object, which is passed on."""

    def body(self, mode: str) -> Mapping[str, Any] | None:
        """What the mode adds to a request; None where it cannot be chosen."""
        modes = {"auto": {}, "on": self.on, "off": self.off}
        return modes.get(mode)


SWITCHES: Mapping[str, Switch] = {
    "none": Switch(),
    "unknown": Switch(raw=True),
    "always_on": Switch(on={}),
    "glm": Switch({"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}, raw=True),
    "enable_thinking": Switch({"enable_thinking": True}, {"enable_thinking": False}),
    "template_enable": Switch(
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
    "template_thinking": Switch(
        {"chat_template_kwargs": {"thinking": True}},
        {"chat_template_kwargs": {"thinking": False}},
    ),
    "effort": Switch({"reasoning_effort": "high"}, {"reasoning_effort": "low"}, lowers=True),
    "effort_absent": Switch({"reasoning_effort": "high"}, {}),
    "openrouter": Switch({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
    "system_line": Switch({SYSTEM: "detailed thinking on"}, {SYSTEM: "detailed thinking off"}),
}
"""The dialects of thinking, by the names that presets use."""

OPEN, CLOSE = "<think>", "</think>"


class _At(Enum):
    START = "nothing but spaces so far, or a part of the tag"
    THOUGHT = "after the opening tag"
    BETWEEN = "after the closing tag, before the answer"
    ANSWER = "in the answer"


class ThinkSplitter:
    """`feed` pieces of text, then `end`: both give (text, is it thought) as far as it is known."""

    def __init__(self) -> None:
        self._at = _At.START
        self._held = ""

    def feed(self, text: str) -> Iterator[tuple[str, bool]]:
        """The piece, as thought or answer."""
        self._held += text
        if self._at is _At.START:
            self._start()
        if self._at is _At.THOUGHT:
            yield from self._thought()
        if self._at is _At.BETWEEN:
            # Templates put an empty line after the tag, which belongs to neither.
            self._held = self._held.lstrip("\r\n")
            if self._held:
                self._at = _At.ANSWER
        if self._at is _At.ANSWER:
            yield from self.end()

    def end(self) -> Iterator[tuple[str, bool]]:
        """What was held back until now."""
        held, self._held = self._held, ""
        if held:
            yield held, self._at is _At.THOUGHT

    def _start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._at, self._held = _At.THOUGHT, begun[len(OPEN) :]
        elif not OPEN.startswith(begun):
            self._at = _At.ANSWER

    def _thought(self) -> Iterator[tuple[str, bool]]:
        thought, closed, after = self._held.partition(CLOSE)
        if closed:
            self._at, self._held = _At.BETWEEN, after
        else:
            sure = len(thought) - _tag_begun(thought)
            thought, self._held = thought[:sure], thought[sure:]
        if thought:
            yield thought, True


def _tag_begun(text: str) -> int:
    """How many characters at the end may be the beginning of the closing tag."""
    for size in range(min(len(CLOSE) - 1, len(text)), 0, -1):
        if CLOSE.startswith(text[-size:]):
            return size
    return 0
