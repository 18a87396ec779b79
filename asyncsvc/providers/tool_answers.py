"""A provider's tool calls, given back as calls of the tools that the client has declared.

Owns the way back from `tools.py`: a call of a function that stands for a custom tool becomes a
call of that tool, with its input as plain text while it streams; a function of a namespace gets
its own name again. Promises that no character of an input is lost, also where a model does not
keep to the one parameter. Never touches text or thinking.
"""

import json
import re
from typing import Any

import orjson

from asyncsvc.providers.answers.answer import Delta
from asyncsvc.providers.tools import CUSTOM, INPUT, Converted, Origin
from asyncsvc.providers.upstream import Sink

_HEAD = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
_BEGUN = re.compile(r'\s*(\{\s*("(i(n(p(u(t("\s*(:\s*)?)?)?)?)?)?)?)?)?$')
"""A text that may become `_HEAD`."""
_WHOLE = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*')
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")
"""The first half of a character, whose second half has not come."""


class Text:
    """The input of a custom tool, out of the arguments of a function, piece by piece."""

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._closed = False
        self._odd = False
        """The arguments are not the one text that was asked for: they are read at their end."""

    def feed(self, piece: str) -> str:
        """The part of the input that this piece makes certain."""
        if self._closed:
            return ""
        self._held += piece
        if self._odd:
            return ""
        if not self._inside:
            head = _HEAD.match(self._held)
            if head is None:
                self._odd = _BEGUN.match(self._held) is None
                return ""
            self._inside, self._held = True, self._held[head.end() :]
        return self._string()

    def end(self) -> str:
        """What is left when no piece follows."""
        if self._closed:
            return ""
        held, self._held, self._closed = self._held, "", True
        return held if self._inside else _only_text(held)

    def _string(self) -> str:
        match = _WHOLE.match(self._held)
        whole = match[0] if match else ""
        rest = self._held[len(whole) :]
        self._closed = rest.startswith('"')
        if not self._closed and (half := _HALF.search(whole)):
            whole, rest = whole[: half.start()], whole[half.start() :] + rest
        self._held = rest
        return _decoded(whole)


class ToolSink:
    """A sink for one call of a request with converted tools, in front of the call's own."""

    def __init__(self, sink: Sink, tools: Converted) -> None:
        self._sink = sink
        self._origins = tools.origins
        self._alone = _names_alone(tools)
        self._texts: dict[int, Text] = {}
        self._found: dict[int, Origin] = {}

    @property
    def full(self) -> bool:
        return self._sink.full

    @property
    def returns(self) -> bool:
        return self._sink.returns

    def head(self, accepted: bool) -> None:
        self._sink.head(accepted)

    def alive(self) -> None:
        self._sink.alive()

    async def drained(self) -> None:
        await self._sink.drained()

    def write(self, delta: Delta) -> None:
        self._sink.write(delta if delta.call is None else self._call(delta, delta.call))

    def finish(self) -> None:
        """The answer is whole: what was held back of an input is written."""
        for index, text in self._texts.items():
            if rest := text.end():
                self._sink.write(_custom({"index": index}, {}, rest))

    def _call(self, delta: Delta, call: dict[str, Any]) -> Delta:
        index, function = call["index"], call["function"]
        if function.get("name") and (origin := self._origin(function["name"])) is not None:
            self._found[index] = origin
            function = _named(function, origin)
            if origin.custom:
                self._texts.setdefault(index, Text())
        text = self._texts.get(index)
        if text is None:
            return delta._replace(call=call | {"function": function})
        words = text.feed(function.get("arguments") or "")
        return _custom(call, function, words)

    def _origin(self, name: Any) -> Origin | None:
        found = self._origins.get(name)
        return self._alone.get(name) if found is None else found


def _custom(call: dict[str, Any], function: dict[str, Any], words: str) -> Delta:
    """A piece of a custom tool's call. Each piece says that it is one."""
    return Delta("", call=call | {"type": CUSTOM, "function": function | {"arguments": words}})


def _named(function: dict[str, Any], origin: Origin) -> dict[str, Any]:
    space = {} if origin.namespace is None else {"namespace": origin.namespace}
    return function | {"name": origin.name} | space


def _names_alone(tools: Converted) -> dict[str, Origin]:
    """Tools of namespaces by their own name, where it stands for one tool only: a model may
    leave the namespace out."""
    taken = {tool.get("function", {}).get("name") for tool in tools.sent}
    alone: dict[str, Origin | None] = {}
    for origin in tools.origins.values():
        if origin.namespace is not None and origin.name not in taken:
            alone[origin.name] = None if origin.name in alone else origin
    return {name: origin for name, origin in alone.items() if origin is not None}


def _decoded(text: str) -> str:
    """A JSON string's content; as it stands where it is none."""
    if "\\" not in text:
        return text
    try:
        found: str = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _only_text(arguments: str) -> str:
    """The input that a model has put elsewhere: the only text of an object, or the whole."""
    try:
        found = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    if isinstance(found, str):
        return found
    if isinstance(found, dict):
        given = found.get(INPUT, next(iter(found.values()), None) if len(found) == 1 else None)
        if isinstance(given, str):
            return given
    return "" if found == {} else arguments
