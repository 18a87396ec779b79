"""Faults: their names and parameters, the tags that ask for them, and which fault a call gets.

A call gets a fault by a tag in its message (`[[sim:429-after=3 x1]]`), else by the shares of the
profile. An unknown fault or tag is an error, never ignored. What a fault does on the wire is in
fault_effects.py.
"""

import random
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

# Name and effect of each fault.
KINDS: Mapping[str, str] = {
    "429": "rate limited, without Retry-After",
    "429-after": "rate limited, Retry-After in seconds (429-after=SECONDS)",
    "429-date": "rate limited, Retry-After as an HTTP date (429-date=SECONDS from now)",
    "429-garbage": "rate limited, Retry-After: soon",
    "500": "server error",
    "503": "overloaded",
    "400": "bad request",
    "401": "wrong key",
    "410": "model gone, in the form of RFC 9457",
    "hang": "no answer at all until the client leaves",
    "hang-stream": "silence after at= tokens until the client leaves",
    "slow-bytes": "one byte every every= seconds (default 1)",
    "reset": "TCP reset after at= tokens",
    "reset-head": "TCP reset before any answer",
    "malformed": "broken JSON after at= tokens",
    "bad-sse": "lines that are no fields of an event stream after at= tokens, then a clean end",
    "error-in-stream": "an error object in a 200 stream after at= tokens, then [DONE]",
    "error-200": "status 200 with an error object as JSON",
    "bad-utf8": "bytes that are not UTF-8 after at= tokens",
    "split-utf8": "right, but characters are split across writes",
    "wrong-type": "a text/html page with status 200",
    "no-done": "right, but without [DONE]",
    "cut": "a clean end after at= tokens, without finish_reason and [DONE]",
    "empty": "an answer without content and usage",
    "huge-line": "one line of size= bytes (default 100 MB) after at= tokens",
    "redirect": "307 to another path",
    "keepalive": "right, with comments and blank lines in between",
    "no-choices": "right, with chunks in between whose choices are empty",
    "think": "right, the content starting with <think>...</think>",
}

NEEDS_SECONDS = frozenset({"429-after", "429-date"})

DEFAULT_AT = 3
DEFAULT_HUGE_BYTES = 100 * 1024 * 1024


class FaultSyntaxError(ValueError):
    """An unknown fault or tag; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its parameters; ``times`` None means every call."""

    kind: str
    seconds: float = 0.0
    at: int = DEFAULT_AT
    size: int = DEFAULT_HUGE_BYTES
    every_s: float = 1.0
    times: int | None = None


_TIMES = re.compile(r"x(\d+)")


def parse_fault(text: str) -> Fault:
    """Read ``KIND``, ``KIND=SECONDS``, with ``at=K``, ``size=N``, ``every=S``, ``xN`` after it."""
    words = text.split()
    kind, _, seconds = words[0].partition("=") if words else ("", "", "")
    if kind not in KINDS:
        raise FaultSyntaxError(f"unknown fault {kind!r}; known are {', '.join(KINDS)}")
    if (kind in NEEDS_SECONDS) != bool(seconds):
        need = f"{kind}=SECONDS" if kind in NEEDS_SECONDS else f"{kind} without a value"
        raise FaultSyntaxError(f"write {need}, not {words[0]!r}")
    fields: dict[str, float | int | None] = {"seconds": number(kind, seconds) if seconds else 0.0}
    for word in words[1:]:
        times = _TIMES.fullmatch(word)
        key, equals, value = word.partition("=")
        if times:
            fields["times"] = int(times[1])
        elif equals and key in ("at", "size"):
            fields[key] = int(number(key, value))
        elif equals and key == "every":
            fields["every_s"] = number(key, value)
        else:
            raise FaultSyntaxError(f"unknown parameter {word!r} of fault {kind!r}")
    return Fault(kind, **fields)  # type: ignore[arg-type]


def number(name: str, text: str) -> float:
    """A finite number that is not negative; raises FaultSyntaxError naming the key."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise FaultSyntaxError(f"{name}={text} is not a number from 0 up")
    return value


class FaultSampler:
    """Random choice of a fault by share, the same for the same seed and order of calls."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def draw(self, shares: Mapping[str, float]) -> Fault | None:
        """Return the fault of the next call; `shares` are from 0 to 1 by fault as written."""
        if not shares:
            return None
        left = self._random.random()
        for text, share in shares.items():
            left -= share
            if left < 0:
                return parse_fault(text)
        return None


_TAG = re.compile(r"[ \t]?\[\[(sim|id):([^\[\]]*)\]\]")
_SETTINGS = frozenset({"tokens", "first", "rate", "reasoning", "calls"})
MOST_REMEMBERED = 100_000


@dataclass(slots=True)
class Tags:
    """What the tags of one message ask for; ``text`` is the message without them."""

    text: str
    faults: list[Fault] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    marker: str | None = None


def read_tags(message: str) -> Tags:
    """Take the tags out of a message; raises FaultSyntaxError for one that is not understood."""
    if "[[" not in message:
        return Tags(message)
    tags = Tags(_TAG.sub("", message).strip())
    for match in _TAG.finditer(message):
        name, content = match[1], match[2].strip()
        if name == "id":
            tags.marker = content
        else:
            _read_sim(content, tags)
    return tags


def _read_sim(content: str, tags: Tags) -> None:
    words = content.split()
    if words and words[0].partition("=")[0] in _SETTINGS:
        for word in words:
            key, equals, value = word.partition("=")
            if key not in _SETTINGS or not equals:
                raise FaultSyntaxError(f"unknown setting {word!r} in [[sim:{content}]]")
            tags.settings[key] = number(key, value)
    else:
        tags.faults.append(parse_fault(content))


class TagCounter:
    """Counts of how often each tag with ``xN`` was used, by exact message.

    The tags of a message are a script: the first that is not used up gives the fault, so
    ``[[sim:500 x1]][[sim:429 x2]]`` is one 500, then two 429, then a normal answer.
    The last 100,000 messages are remembered.
    """

    def __init__(self) -> None:
        self._used: OrderedDict[str, list[int]] = OrderedDict()

    def next_fault(self, message: str, faults: list[Fault]) -> Fault | None:
        if not faults:
            return None
        used = self._used.setdefault(message, [0] * len(faults))
        self._used.move_to_end(message)
        while len(self._used) > MOST_REMEMBERED:
            self._used.popitem(last=False)
        for index, fault in enumerate(faults):
            if fault.times is None:
                return fault
            if used[index] < fault.times:
                used[index] += 1
                return fault
        return None

    def clear(self) -> None:
        self._used.clear()
