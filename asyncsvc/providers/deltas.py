"""The pieces of a streamed answer.

Owns the reading of chat chunks in the shapes that providers send: empty `choices`, usage
anywhere, `reasoning` or `reasoning_content`, thinking between tags in the text, tool calls in
pieces, a whole answer at once, errors with and without an `error` around them.
Promises that an answer counts as one only if the provider ended it. Never touches a socket.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from asyncsvc.errors import EmptyAnswer, ProviderError, UpstreamDisconnected, UpstreamInvalid
from asyncsvc.providers import faults
from asyncsvc.providers.thinking import ThinkSplitter


class Delta(NamedTuple):
    """A piece of text; `reasoning` tells thinking from answering. `call`: a piece of a tool call
    as OpenAI streams it, always with its index; `text` is empty then."""

    text: str
    reasoning: bool = False
    call: dict[str, Any] | None = None
    event: tuple[str, dict[str, Any]] | None = None
    """In place of text: something that a gateway's agent did, as an event's type and data."""

    @property
    def size(self) -> int:
        """Characters."""
        return len(self.call["function"]["arguments"] if self.call else self.text)


@dataclass(slots=True)
class Answer:
    """What is known of an answer beside its text. `dialect` names the table of its errors."""

    begun: bool = False
    done: bool = False
    text_seen: str = ""
    """The beginning of the text: enough to recognise an answer that is none."""
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    dialect: str = "any"
    now_ms: int | None = None
    thought: bool = False
    spoken: bool = False
    """Whether the text holds anything but white space."""
    _splitter: ThinkSplitter = field(default_factory=ThinkSplitter)

    def take(self, chunk: Any, secrets: Iterable[str]) -> Iterator[Delta]:
        """The text in one chunk. Raises ProviderError for an error in disguise."""
        if not isinstance(chunk, dict):
            raise UpstreamInvalid("the provider sent a chunk that is not an object")
        if chunk.get("error"):
            raise self._fault(chunk["error"], secrets)
        if isinstance(chunk.get("usage"), dict):
            self.usage = _usage(chunk["usage"])
        choices = chunk.get("choices")
        if choices is None and "usage" not in chunk:
            if any(isinstance(chunk.get(name), str) for name in ("message", "detail", "title")):
                raise self._fault(chunk, secrets)
            raise UpstreamInvalid("the provider sent a chunk without choices")
        for choice in choices if isinstance(choices, list) else []:
            yield from self._choice(choice)

    def rest(self) -> Iterator[Delta]:
        """What was held back because it could have become a tag; to be taken at the end."""
        for text, is_thought in self._splitter.end():
            yield self._told(text, is_thought)

    def _fault(self, error: Any, secrets: Iterable[str]) -> ProviderError:
        return faults.of_stream(error, secrets, self.dialect, self.now_ms)

    def _told(self, text: str, is_thought: bool) -> Delta:
        if is_thought:
            self.thought = True
        else:
            self.spoken |= not text.isspace()
            if len(self.text_seen) < 64:
                self.text_seen += text[:64]
        return Delta(text, is_thought)

    def _choice(self, choice: Any) -> Iterator[Delta]:
        if not isinstance(choice, dict):
            raise UpstreamInvalid("the provider sent a choice that is not an object")
        # Moonshot has the usage in here [platform.moonshot.cn, streaming].
        if isinstance(choice.get("usage"), dict):
            self.usage = _usage(choice["usage"])
        # A provider that does not stream sends the whole message at once.
        piece = choice.get("delta") or choice.get("message") or {}
        if not isinstance(piece, dict):
            raise UpstreamInvalid("the provider sent a piece that is not an object")
        reasoning = piece.get("reasoning_content") or piece.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            self.begun = True
            yield self._told(reasoning, True)
        # OpenAI's models refuse in a field beside the text; to a reader it is the answer.
        text = piece.get("content") or piece.get("refusal")
        if isinstance(text, str) and text:
            self.begun = True
            for part, is_thought in self._splitter.feed(text):
                yield self._told(part, is_thought)
        calls = piece.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            self.begun = True
            if piece_of_it := self._tool_call(call):
                yield piece_of_it
        if reason := choice.get("finish_reason"):
            if kind := faults.BY_FINISH.get(str(reason)):
                raise kind(f"the provider ended the answer with {str(reason)!r}")
            self.finish_reason = str(reason)

    def _tool_call(self, call: Any) -> Delta | None:
        """Put together what comes in pieces: id and name once, the arguments bit by bit. Gives
        what is new; some providers repeat id and name with each piece."""
        if not isinstance(call, dict):
            raise UpstreamInvalid("the provider sent a tool call that is not an object")
        call = _as_function(call)
        index, piece = call.get("index"), call.get("function") or {}
        if not isinstance(piece, dict):
            raise UpstreamInvalid("the provider sent a function that is not an object")
        number = index if isinstance(index, int) else len(self.tool_calls)
        held = self.tool_calls.get(number)
        new: dict[str, Any] = {"index": number}
        if call.get("type") == "custom":
            new["type"] = "custom"
        told: dict[str, Any] = {}
        if held is None:
            new = {"id": call.get("id") or f"call_{uuid4().hex}", "type": "function"} | new
            told = {"name": ""}
            held = new | {"function": {"name": "", "arguments": ""}}
            del held["index"]
            self.tool_calls[number] = held
        name = piece.get("name")
        if isinstance(name, str) and name and not held["function"]["name"]:
            held["function"]["name"] = told["name"] = name
        arguments = piece.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()  # whole, as an object
        held["function"]["arguments"] += arguments
        if not told and not arguments:
            return None
        return Delta("", call=new | {"function": told | {"arguments": arguments}})

    @property
    def ended(self) -> bool:
        """Whether the provider said that this is all. Some send no [DONE], some close late."""
        return self.done or self.finish_reason is not None

    def check(self, empty_answers: Iterable[str]) -> None:
        """The stream is over: raises ProviderError unless it was an answer."""
        if not self.ended:
            raise UpstreamDisconnected("the stream ended in the middle of the answer")
        if self.tool_calls:
            return
        if self.thought and not self.spoken:
            raise EmptyAnswer("the provider ended the answer after nothing but thinking")
        if not self.text_seen or self.text_seen in empty_answers:
            raise EmptyAnswer("the provider ended the answer without any text")


def _as_function(call: dict[str, Any]) -> dict[str, Any]:
    """A custom tool's call with name and input where a function's call has name and arguments."""
    held = call.get("custom")
    if not isinstance(held, dict):
        return call
    given = {"name": held.get("name"), "arguments": held.get("input")}
    return call | {"type": "custom", "function": given}


def _usage(given: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    total = _count(given, "total_tokens") or prompt + completion
    return given | {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
    }


def _count(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    return value if isinstance(value, int) else 0
