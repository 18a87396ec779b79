"""An agent's conversation as its model sees it: turns of the model, with calls and their results.

Reads OpenAI's tool calling, and the text protocol for models without it: there a call is a fenced
block `tool_call` in the model's text, and results are text in the user message that follows.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

_BLOCK = re.compile(r"^```tool_call\s*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_WORDS = re.compile(r"[\w.-]+")
_RESULT = re.compile(r"^Result of (\S+)(?: \(([^)\n]*)\))?:[ \t]*\n?", re.MULTILINE)
_TEXT_PROTOCOL = "```tool_call"


def message_text(content: object) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


@dataclass(slots=True)
class MadeCall:
    """A call of a tool that the model has made; `result` is None before it has one."""

    id: str
    name: str
    arguments: dict[str, Any]
    result: str | None = None


@dataclass(slots=True)
class Turn:
    """One answer of the model."""

    text: str
    calls: list[MadeCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that a request offers: `names` of functions, or `described` in a system message."""

    names: frozenset[str] = frozenset()
    described: str = ""

    @property
    def textual(self) -> bool:
        """Whether calls are to be written as text."""
        return not self.names and bool(self.described)

    def has(self, name: str) -> bool:
        return name in self.names or name in _WORDS.findall(self.described)


def offer_of(messages: Sequence[dict[str, Any]], names: Iterable[str]) -> Offer | None:
    """The tools that the model may call; None where there are none."""
    found = frozenset(names)
    if found:
        return Offer(found)
    for message in messages:
        if message["role"] in ("system", "developer"):
            text = message_text(message.get("content"))
            if _TEXT_PROTOCOL in text:
                return Offer(described=text)
    return None


def is_result(text: str) -> bool:
    """Whether a user message holds results of tools in the text protocol."""
    return _RESULT.match(text) is not None


def turns(messages: Sequence[dict[str, Any]]) -> list[Turn]:
    """The model's answers in a conversation, each call with its result."""
    found: list[Turn] = []
    for message in messages:
        role, text = message["role"], message_text(message.get("content"))
        if role == "assistant":
            found.append(Turn(_BLOCK.sub("", text).strip(), _calls(message, text)))
        elif role == "tool":
            for call in (call for turn in found for call in turn.calls):
                if call.id == message.get("tool_call_id") and call.result is None:
                    call.result = text
        elif role == "user" and found and is_result(text):
            _give_results(found[-1].calls, text)
    return found


def _calls(message: dict[str, Any], text: str) -> list[MadeCall]:
    given = message.get("tool_calls")
    if isinstance(given, list):
        return [
            MadeCall(str(call.get("id")), str(function.get("name")), _object(function["arguments"]))
            for call in given
            if isinstance(call, dict) and "arguments" in (function := call.get("function") or {})
        ]
    blocks = [_object(match[1]) for match in _BLOCK.finditer(text)]
    return [
        MadeCall("", str(block.get("name")), arguments if isinstance(arguments, dict) else {})
        for block in blocks
        for arguments in [block.get("arguments")]
    ]


def _give_results(calls: list[MadeCall], text: str) -> None:
    """Results stand in the order of the calls."""
    heads = list(_RESULT.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    for call, head, end in zip(calls, heads, ends, strict=False):
        call.id, call.result = head[2] or "", text[head.end() : end].strip("\n")


def _object(text: Any) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
