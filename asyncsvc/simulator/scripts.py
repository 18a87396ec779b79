"""Agents that the simulated provider plays: `#agent [STEP, …]` in a user message is a script.

A step is a text, or an object with `text`, `reasoning` and `calls`, a list of `name` and
`arguments`. Each call of the model answers the next step. Which one that is follows from the
conversation alone, so that a script goes on after restarts and in forks. `$RESULT` in a text is the
latest result of a tool. After its last step the model answers as it does without a script.

"Mend the failing test" in a user message is played by `mending`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from asyncsvc.simulator.conversation import Offer, Turn, is_result, message_text, turns
from asyncsvc.simulator.mending import mending_step
from asyncsvc.simulator.steps import PlannedCall, Step

MARK = "#agent"
RESULT = "$RESULT"
RESULT_CHARS = 2000
_SCRIPT = re.compile(rf"(?:^|\s){MARK}\s*(?=\[)")
_MEND = re.compile(r"\bmend the failing test\b", re.IGNORECASE)
_FIELDS = frozenset({"text", "reasoning", "calls"})


class ScriptError(ValueError):
    """A script that cannot be played; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Acting:
    """The step that the model plays now, and the user message that asked for it."""

    prompt: str
    step: Step


def acting(messages: Sequence[dict[str, Any]], offer: Offer | None) -> Acting | None:
    """The next step of the agent that the conversation asks for; None where it asks for none.
    Raises ScriptError."""
    if offer is None:
        return None
    for index in range(len(messages) - 1, -1, -1):
        text = message_text(messages[index].get("content"))
        if messages[index]["role"] != "user" or is_result(text):
            continue
        step = None
        if MARK in text and (match := _SCRIPT.search(text)):
            step = _scripted(text[match.end() :], turns(messages[index + 1 :]))
        elif _MEND.search(text):
            step = mending_step(turns(messages[index + 1 :]), offer)
        else:
            continue
        return None if step is None else Acting(text, step)
    return None


def _scripted(text: str, played: list[Turn]) -> Step | None:
    steps, end = _read(text)
    label = blake2b(text[:end].encode("utf-8", "replace"), digest_size=3).hexdigest()
    number = _next(played, label)
    if number >= len(steps):
        return None
    return _step(steps[number], number, label, played)


def _next(played: list[Turn], label: str) -> int:
    """The number of the next step. The ids of calls hold the number of theirs, which still counts
    where turns before it were left out of the conversation."""
    wanted = re.compile(rf"call_{label}_(\d+)_")
    for back, turn in enumerate(reversed(played)):
        for call in turn.calls:
            if match := wanted.match(call.id):
                return int(match[1]) + 1 + back
    return len(played)


def _read(text: str) -> tuple[list[Any], int]:
    """The steps, and where the script ends. More text may follow."""
    try:
        steps, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ScriptError(f"{MARK}: the script is not JSON: {error}") from None
    return steps, end


def _step(given: Any, number: int, label: str, played: list[Turn]) -> Step:
    where = f"{MARK}: step {number + 1}"
    if isinstance(given, str):
        given = {"text": given}
    if not isinstance(given, dict) or not given:
        raise ScriptError(f"{where} must be a text or an object with {', '.join(sorted(_FIELDS))}")
    if unknown := given.keys() - _FIELDS:
        raise ScriptError(f"{where} has an unknown field {min(unknown)!r}")
    text, thoughts, calls = (given.get(name) for name in ("text", "reasoning", "calls"))
    for name, value in (("text", text), ("reasoning", thoughts)):
        if value is not None and not isinstance(value, str):
            raise ScriptError(f"{where}: {name} must be a text")
    if not isinstance(calls or [], list):
        raise ScriptError(f"{where}: calls must be a list")
    made = [
        _call(call, f"{where}, call {place + 1}", f"call_{label}_{number}_{place}")
        for place, call in enumerate(calls or [])
    ]
    return Step(_filled(text or "", played), tuple(made), thoughts or "")


def _call(given: Any, where: str, call_id: str) -> PlannedCall:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ScriptError(f"{where} must be an object with a name and arguments")
    if unknown := given.keys() - {"name", "arguments"}:
        raise ScriptError(f"{where} has an unknown field {min(unknown)!r}")
    arguments = given.get("arguments", {})
    # A text goes out as it is, so that a script can send arguments that are no JSON.
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return PlannedCall(call_id, given["name"], text)


def _filled(text: str, played: list[Turn]) -> str:
    if RESULT not in text:
        return text
    results = [call.result for turn in played for call in turn.calls if call.result is not None]
    return text.replace(RESULT, results[-1][:RESULT_CHARS] if results else "")
