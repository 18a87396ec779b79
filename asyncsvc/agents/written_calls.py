"""The calls in a model's text, found while it comes.

Owns where a call begins. A block behind the fence that the model is to use is a call, and so is one
of the tags by which models are trained to call. An object alone, or in a block of JSON or of no
language, is one only where it is nothing but a call of a tool that there is and no text follows: it
may be an example. What stands in quotes or in the code of another language is none. Promises the
same for any cut of the text into pieces, time in proportion to the text, and that only what may
still become a call is held back, with the blanks before it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any

from asyncsvc.agents.call_texts import (
    CALL_WORD,
    Unreadable,
    WrittenCall,
    broken_call,
    calls_in,
    certain_calls,
)
from asyncsvc.agents.written_block import RUN_MOST, Block, Ending, In

Object = dict[str, Any]
Found = str | WrittenCall

RESULT_OF = "Result of "
"""How the result of a call begins, in what the model is sent."""
CALL_WORDS = frozenset({CALL_WORD, "tool_calls", "toolcall", "tool-call", "function_call"})
DATA_WORDS = frozenset({"", "json", "tool", "tool_use", "tool_code", "function"})
RESULT_WORDS = frozenset({"tool_result", "tool_results", "tool_output", "tool_response"})
WORDS = CALL_WORDS | DATA_WORDS | RESULT_WORDS
TAG, FUNCTION = "<tool_call>", "<function="
MARKS: Mapping[str, tuple[str, ...]] = {
    TAG: ("</tool_call>",),
    "<tool_calls>": ("</tool_calls>",),
    "<function_call>": ("</function_call>",),
    "<|tool_call|>": ("<|/tool_call|>", "</tool_call>"),
    "<|python_tag|>": ("<|eom_id|>", "<|eot_id|>"),
    "[TOOL_CALLS]": ("[/TOOL_CALLS]", "</s>"),
    "[TOOL_REQUEST]": ("[END_TOOL_REQUEST]",),
    FUNCTION: ("</function>",),
}
"""What begins a call without a fence, and what ends it."""
_RESULT = re.compile(rf"{RESULT_OF}([\w.:/-]{{1,99}}) \(")
_RESULT_BEGUN = re.compile(rf"{RESULT_OF}(?:[\w.:/-]{{1,99}} ?)?")
RESULT_MARKS = ("<tool_response>", "<|tool_response|>", "[TOOL_RESULTS]")
PORTION = 2048
"""Characters that are looked at together: each step copies the rest of them."""
HEAD = 99
"""Characters at the beginning of data that show whether it may be a call."""
_BLANKS = re.compile(r"\s+")
_PLAIN = re.compile(r"[^`~<\[{\n]+")
_CODE = re.compile(r"[^`~\n]+")
_WORD = re.compile(r"[\w-]*")
KEYS = (
    "name", "tool", "tool_name", "function", "function_name", "action", "tool_call", "tool_calls",
    "function_call", "type", "id", "arguments", "parameters", "args", "params",
)  # fmt: skip
"""The names of the first field of a call."""
_DATA = re.compile(rf"""[\[\s]*\{{\s*["']?(?:{"|".join(KEYS)})["']?\s*:""")
_TAGGED = re.compile(rf"\s*{TAG}")
_DATA_BEGUN = re.compile(r"""[\[\s]*(?:\{\s*(?:["']?([a-z_]*)(["']?\s*))?)?""")


class At(Enum):
    """The place in the text."""

    TEXT = "in text"
    CODE = "in a block of code"
    BLOCK = "in what may be a call"
    BEHIND = "behind a call that began within a line"
    VOID = "behind a result that the model has made up"


@dataclass(slots=True)
class _Line:
    """The line so far, as far as it says what a mark on it means."""

    blank: bool = True
    quoted: bool = False
    """It is a quotation."""
    span: int = 0
    """Backticks that have opened code within the line; 0: none."""

    def blanks(self, text: str) -> None:
        if "\n" in text:
            self.blank, self.quoted, self.span = True, False, 0

    def words(self, text: str) -> None:
        if self.blank:
            self.blank, self.quoted = False, text.startswith(">")


def _may_be_data(text: str) -> bool:
    """Whether a text may be the beginning of a call as an object."""
    found = _DATA_BEGUN.fullmatch(text)
    key = found and found[1]
    if not found or not key:
        return found is not None
    return key in KEYS if found[2] else any(each.startswith(key) for each in KEYS)


class CallReader:
    """`feed` pieces of text, then `end`: both give texts and calls as far as they are certain."""

    def __init__(self, functions: Sequence[Object]) -> None:
        self._functions = {one["name"]: one for one in functions}
        self._at = At.TEXT
        self._held = ""
        self._gap: list[str] = []
        """Blanks that have not been passed on: they go where a call follows."""
        self._line = _Line()
        self._fence = ""
        """That of the block of code."""
        self._in_head = False
        """The line of that fence goes on; a backtick on it makes it code within a line."""
        self._block = Block("")
        self._inline: list[WrittenCall] = []
        """The calls of the block, where it began within a line."""
        self._maybe: list[tuple[str, str, list[WrittenCall]]] = []
        """(blanks, text, calls) of data that is a call unless text follows."""
        self._called: set[str] = set()
        """The tools that this answer calls."""
        self._maybe_called: set[str] = set()
        self._written = False
        """Text was passed on."""
        self._after_call = False
        """No text was passed on since a call."""
        self._simply = False
        """A block has had its end in what seemed to be a string, so the next ones end anywhere."""
        self._out: list[Found] = []

    def feed(self, text: str) -> list[Found]:
        """The texts and calls that this piece makes certain."""
        self._take(text)
        return self._taken()

    def end(self) -> list[Found]:
        """The rest, when no piece follows."""
        self._go(final=True)
        for _, _, calls in self._maybe:
            self._calls(calls)
        self._maybe = []
        if self._gap and not self._after_call and self._at is not At.VOID:
            self._out.append("".join(self._gap))
        self._gap = []
        return self._taken()

    def _take(self, text: str) -> None:
        for start in range(0, len(text), PORTION):
            self._held += text[start : start + PORTION]
            self._go(final=False)

    def _taken(self) -> list[Found]:
        found, self._out = self._out, []
        joined: list[Found] = []
        for is_text, group in groupby(found, lambda each: isinstance(each, str)):
            each = list(group)
            joined += ["".join(map(str, each))] if is_text else each
        return joined

    def _go(self, final: bool) -> None:
        steps = {
            At.TEXT: self._in_text,
            At.CODE: self._in_code,
            At.BLOCK: self._in_block,
            At.BEHIND: self._behind,
            At.VOID: self._in_void,
        }
        while self._held or (final and self._at in (At.BLOCK, At.BEHIND)):
            if not steps[self._at](final):
                break

    # What is passed on ------------------------------------------------------------------------

    def _blanks(self) -> bool:
        """Take the blanks that the held text begins with."""
        if (blanks := _BLANKS.match(self._held)) is None:
            return False
        self._space(blanks[0])
        self._held = self._held[blanks.end() :]
        return True

    def _space(self, blanks: str) -> None:
        if blanks:
            self._gap.append(blanks)
            self._line.blanks(blanks)

    def _text(self, text: str) -> bool:
        """Pass on text that the held one begins with."""
        self._held = self._held[len(text) :]
        self._emit(text)
        return True

    def _emit(self, text: str) -> None:
        """Pass on text. Data before it was an example."""
        gap, self._gap = "".join(self._gap), []
        self._examples()
        self._append(gap, text)
        self._line.words(text)

    def _examples(self) -> None:
        """Pass on as text what may have been calls."""
        for gap, text, _ in self._maybe:
            self._append(gap, text)
        self._maybe, self._maybe_called = [], set()

    def _append(self, gap: str, text: str) -> None:
        if self._after_call:
            gap = "\n\n" if self._written else ""
        self._out.append(gap + text)
        self._written, self._after_call = True, False

    def _calls(self, calls: list[WrittenCall]) -> None:
        self._out += calls
        self._called |= {call.name for call in calls}
        self._gap, self._after_call, self._line = [], True, _Line()

    # Text -------------------------------------------------------------------------------------

    def _in_text(self, final: bool) -> bool:
        """One step; False where more text is needed."""
        if self._blanks():
            return True
        first, line = self._held[0], self._line
        called = self._called or self._maybe_called
        if called and line.blank and (found := self._made_up(final)):
            return found is At.VOID
        if first in "`~":
            return self._ticks(first, final)
        begun = None
        if first in "<[" and not line.quoted and not line.span:
            begun = self._mark(final)
        if begun is None and first in "[{" and line.blank:
            begun = self._data("", "", final)
        if begun is not None:
            return begun
        plain = _PLAIN.match(self._held)
        return self._text(plain[0].rstrip() if plain else first)

    def _made_up(self, final: bool) -> At | None:
        """Leave out a result that the model has made up for its call, with all that follows. None:
        it is none; TEXT: it may become one."""
        held = self._held
        found = _RESULT.match(held)
        of_call = found and (found[1] in self._called or found[1] in self._maybe_called)
        if of_call or held.startswith(RESULT_MARKS):
            self._at = At.VOID
            return At.VOID
        begun = any(mark.startswith(held) for mark in (RESULT_OF, *RESULT_MARKS))
        return At.TEXT if not final and (begun or _RESULT_BEGUN.fullmatch(held)) else None

    def _in_void(self, final: bool) -> bool:
        self._held = ""
        return not final

    def _mark(self, final: bool) -> bool | None:
        """Begin the block of a mark; None where there is no mark, False where more is needed."""
        for mark, closers in MARKS.items():
            if self._held.startswith(mark):
                self._begin(Block("" if mark == FUNCTION else mark, closers=closers))
                return True
        return False if self._begins(self._held, final) else None

    def _begins(self, text: str, final: bool) -> bool:
        """Whether the text may be the beginning of a mark."""
        return not final and any(mark.startswith(text) for mark in MARKS)

    def _data(self, fence: str, head: str, final: bool) -> bool | None:
        """Begin a block of data, which may be a call, behind a fence's line or without one; None
        where it is something else, False where more is needed."""
        if self._simply:
            return None
        rest = self._held[len(head) : len(head) + HEAD]
        if _DATA.match(rest) or (fence and _TAGGED.match(rest)):
            self._begin(Block(head, fence, data=True))
            return True
        begun = _may_be_data(rest) or (fence and TAG.startswith(rest.lstrip()))
        return False if begun and not final and len(rest) < HEAD else None

    def _begin(self, block: Block) -> None:
        self._held = self._held[len(block.head) :]
        block.inline = not self._line.blank
        block.gap, self._gap = "".join(self._gap), []
        if self._simply:
            block.place = In.PLAIN
        self._block, self._at = block, At.BLOCK

    # Fences and code --------------------------------------------------------------------------

    def _run(self, final: bool) -> str:
        """The run of backticks or tildes that the held text begins with; empty where more is
        needed."""
        held, tick = self._held, self._held[0]
        run = held[: len(held) - len(held.lstrip(tick))][:RUN_MOST]
        return "" if run == held and len(run) < RUN_MOST and not final else run

    def _ticks(self, tick: str, final: bool) -> bool:
        """A run of backticks or tildes: a fence, or code within a line."""
        if not (run := self._run(final)):
            return False
        line = self._line
        fence = line.blank and 3 <= len(run) < RUN_MOST  # also within a list
        if fence and (begun := self._fenced(run, final)) is not None:
            return begun
        if tick == "`" and line.span in (0, len(run)):
            line.span = len(run) - line.span
        return self._text(run)

    def _fenced(self, run: str, final: bool) -> bool | None:
        """Begin a block behind a fence; None where it is code within a line, False where more is
        needed."""
        info, feed, _ = self._held[len(run) :].partition("\n")
        lead = len(info) - len(info.lstrip())
        end = found.end() if (found := _WORD.match(info, lead)) else lead
        word, rest = info[lead:end].lower(), info[end:]
        whole = bool(feed) or final
        short = len(info) < RUN_MOST
        if short and not whole and not rest and any(each.startswith(word) for each in WORDS):
            return False
        if short and word in CALL_WORDS:
            self._begin(Block(run + info[:end], run))
            return True
        if short and word in RESULT_WORDS and (self._called or self._maybe_called):
            self._at = At.VOID
            return True
        if short and word in DATA_WORDS and not rest.strip():
            if not whole:
                return False
            if feed and (begun := self._data(run, run + info + feed, final)) is not None:
                return begun
        if run[0] == "`" and "`" in info:
            return None
        self._at, self._fence, self._in_head = At.CODE, run, True
        return self._text(run)

    def _in_code(self, final: bool) -> bool:
        if self._blanks():
            self._in_head = self._in_head and not self._line.blank
            return True
        if self._held[0] not in "`~":
            plain = _CODE.match(self._held)
            return self._text(plain[0].rstrip() if plain else self._held[0])
        if not (run := self._run(final)):
            return False
        if self._in_head and run[0] == self._fence[0] == "`":
            self._at, self._in_head, self._line.span = At.TEXT, False, len(self._fence)
            return True
        if self._line.blank and run.startswith(self._fence):
            rest, feed, _ = self._held[len(run) :].partition("\n")
            if not rest.strip() and len(rest) < RUN_MOST:
                if not feed and not final:
                    return False
                self._at = At.TEXT
        return self._text(run)

    # Calls ------------------------------------------------------------------------------------

    def _in_block(self, final: bool) -> bool:
        block = self._block
        ending, self._held = block.take(self._held, final)
        if ending is Ending.OPEN:
            return False
        only_mark = ending is Ending.LOST and block.closers and block.place is In.LEAD
        if ending is Ending.NONE or only_mark:
            self._no_call(block)
        elif ending is Ending.LOST and not (block.data or self._simply):
            rest, self._simply = block.cut(), True
            self._closed(block, closed=rest is not None)
            self._take(rest or "")
        else:
            self._closed(block, closed=ending is Ending.CLOSED)
        return True

    def _no_call(self, block: Block) -> None:
        """It is text: of a mark, what follows is read as any other; of data, it is code."""
        if block.data:
            self._at, self._fence, self._in_head = At.CODE, block.fence, False
            self._restore(block)
            self._space(block.after)
        else:
            self._at, self._gap = At.TEXT, [block.gap] if block.gap else []
            self._held = block.content + self._held
            self._emit(block.head)

    def _closed(self, block: Block, *, closed: bool) -> None:
        """The block is over; `closed`: by its own end."""
        self._at = At.TEXT
        content = block.content
        if block.data:
            self._data_over(block, content)
        elif not content.strip() and "\n" not in content and block.end:
            self._restore(block)  # only the marks, as in a text about them
        else:
            try:
                calls = calls_in(content, self._functions, closed=closed)
            except Unreadable:
                calls = [broken_call(content)]
            if block.inline:
                self._inline, self._at = calls, At.BEHIND
            else:
                self._accept(calls)
        self._space(block.after)

    def _data_over(self, block: Block, content: str) -> None:
        try:
            calls = certain_calls(content, self._functions)
        except Unreadable:
            self._restore(block)
            return
        self._maybe.append((block.gap, block.text, calls))
        self._maybe_called |= {call.name for call in calls}
        self._line = _Line()

    def _restore(self, block: Block) -> None:
        """The block is text."""
        self._gap = [block.gap] if block.gap else []
        self._emit(block.text)

    def _accept(self, calls: list[WrittenCall]) -> None:
        self._examples()  # the model knows how to mark a call
        self._calls(calls)

    def _behind(self, final: bool) -> bool:
        """Behind a call that began within a line: one after which the line goes on is an
        example."""
        self._blanks()
        held = self._held
        if not self._line.blank and held:
            if self._begins(held, final):
                return False
            if not any(held.startswith(mark) for mark in MARKS):
                after, self._at = self._gap, At.TEXT
                self._restore(self._block)
                self._gap = after
                return True
        elif not held and not self._line.blank and not final:
            return False
        gap = self._gap
        self._at = At.TEXT
        self._accept(self._inline)
        self._gap = gap
        return True
