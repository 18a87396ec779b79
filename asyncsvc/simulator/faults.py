"""The vocabulary of faults: which there are, how one is written, which one a call gets.

Owns the names, their parameters and the choice (by tag in the message or by share). It never
touches a connection: what a fault does on the wire is in heads.py, bodies.py and breaks.py.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

# name -> what it does; the text is for people (`describe`) and for the error of a wrong name.
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


class FaultDice:
    """Chooses a fault by share, the same for the same seed and order of calls."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def roll(self, shares: Mapping[str, float]) -> Fault | None:
        if not shares:
            return None
        left = self._random.random()
        for text, share in shares.items():
            left -= share
            if left < 0:
                return parse_fault(text)
        return None
