"""The conversation that an agent's model is sent: within the model's context, and not in circles.

Owns what is shortened and left out of a conversation that has become too long, and the notice of
an agent that repeats itself. Promises that the task's own messages, and others that a person has
written, are never changed, that a call and its result are never torn apart, and that the same
history gives the same conversation: what was shortened once stays so while the history grows, so
that a provider's cache of prefixes keeps its use. Never asks a model.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from asyncsvc.agents.history import ToolCall

Object = dict[str, Any]
Count = Callable[[list[Object]], int]

KEPT = 0.6
"""To which part of the room a conversation is made smaller. Nothing changes again until it has
grown by the rest, so that most requests begin like the one before."""
SHORT = 1000
"""Characters that are kept of an old output."""
LIMITS = (64_000, 32_000, 16_000, 8_000, 4_000, 2_000, SHORT, 500, 200, 0)
"""Characters of an output, from much to none: how far the newest outputs are cut."""
NOTED = 160
"""Characters of the model's own words, and of a call's arguments, in the summary."""
SUMMARY = (
    "[Earlier steps are left out here, to save room. What was done in them is done; "
    "results that are needed once more can be asked for again.]"
)


def fitted(messages: list[Object], own: int, room: int, count: Count) -> list[Object]:
    """The conversation within `room` tokens, as far as that is possible: the first `own` messages
    are the task's. `count` gives the tokens of messages; it is asked a few times a message."""
    if count(messages) <= room:
        return messages
    return _Fitting(messages, own, room, count).conversation()


def shortened(text: str, limit: int) -> str:
    """Head and tail of a text, with a line between that says how much is missing."""
    left_out = len(text) - limit
    note = f"[… {left_out:,} characters left out]"
    if left_out <= len(note):
        return text
    head = limit - limit // 2
    tail = text[len(text) - limit // 2 :]
    return "\n".join(part for part in (text[:head], note, tail) if part)


@dataclass(slots=True)
class _Step:
    """A message of the model with the results of its calls; or any other message alone."""

    messages: list[Object]
    full: int
    """Tokens of the messages as they are."""
    limit: int | None = None
    """Characters of each output; None: all."""
    cost: int = 0
    """Tokens of the messages as they are sent."""

    @property
    def outputs(self) -> list[Object]:
        return [message for message in self.messages if message.get("role") == "tool"]

    def sent(self, limit: int | None) -> list[Object]:
        """The messages with outputs of at most so many characters."""
        if limit is None:
            return self.messages
        return [
            _shorter(message, limit) if message.get("role") == "tool" else message
            for message in self.messages
        ]


def _length(message: Object) -> int:
    """Characters of an output; of one in parts, more than any limit."""
    content = message.get("content")
    return len(content) if isinstance(content, str) else LIMITS[0] + 1


def _shorter(message: Object, limit: int) -> Object:
    content = message.get("content")
    if isinstance(content, list):
        content = [_shorter_part(part, limit) for part in content]
    elif isinstance(content, str):
        content = shortened(content, limit)
    return message | {"content": content}


def _shorter_part(part: Any, limit: int) -> Any:
    """A part of an output; what is no text goes where no more than a little is kept."""
    if not isinstance(part, dict):
        return part
    if isinstance(text := part.get("text"), str):
        return part | {"text": shortened(text, limit)}
    if limit > SHORT:
        return part
    return {"type": "text", "text": f"[{part.get('type') or 'part'} left out]"}


class _Fitting:
    """The steps of one conversation, made smaller in the order in which they came.

    The steps are added one by one, and each time that the room is exceeded the conversation so
    far is made smaller. So what becomes of the first steps is the same with those that follow.
    """

    def __init__(self, messages: list[Object], own: int, room: int, count: Count) -> None:
        self._count = count
        self._framing = count([])
        self._own = messages[:own]
        self._room = room - self._framing - sum(self._tokens(one) for one in self._own)
        self._most = max(self._room, 0) // 2
        """Tokens of one step, once there is no room for all: others are of use as well."""
        self._steps = [_Step(each, sum(map(self._tokens, each))) for each in _steps(messages[own:])]
        self._summary = _Summary(max(self._room, 0) // 8, self._tokens)
        self._gone = 0
        """Steps that are in the summary alone."""
        self._kept: list[Object] = []
        """What people have written between these steps."""
        self._short = 0
        """Steps whose outputs are shortened."""
        self._capped = 0
        """Steps of which none is larger than `_most`."""
        self._total = 0

    def _tokens(self, message: Object) -> int:
        return max(self._count([message]) - self._framing, 0)

    def conversation(self) -> list[Object]:
        """All messages, smaller."""
        for number, step in enumerate(self._steps):
            step.cost = step.full
            self._total += step.full
            if self._total > self._room:
                self._make_room(number)
        kept = self._steps[self._gone :]
        sent = [message for step in kept for message in step.sent(step.limit)]
        return [*self._own, *self._summary.messages(), *self._kept, *sent]

    def _make_room(self, newest: int) -> None:
        """Make the steps up to the newest smaller: one that takes most of the room, old outputs,
        old steps, and at last the newest outputs."""
        for step in self._steps[self._capped : newest + 1]:
            self._cut(step, self._most)
        self._capped = newest + 1
        aim = int(self._room * KEPT)
        while self._short < newest and self._total > aim:
            self._set(self._steps[self._short], SHORT)
            self._short += 1
        while self._total > self._room and self._gone < newest:
            self._summarise(aim, newest)
        if self._total > self._room:
            step = self._steps[newest]
            self._cut(step, self._room - (self._total - step.cost))

    def _summarise(self, aim: int, newest: int) -> None:
        """Let the oldest steps go into the summary until the rest is as small as wanted."""
        self._total -= self._summary.cost
        while self._gone < newest and self._total + self._summary.cost > aim:
            step = self._steps[self._gone]
            if step.messages[0].get("role") in ("assistant", "tool"):
                self._total -= step.cost
                self._summary.add(step.messages)
            else:
                self._kept += step.messages
            self._gone += 1
        self._short = max(self._short, self._gone)
        self._total += self._summary.cost

    def _cut(self, step: _Step, most: int) -> None:
        """Shorten the step's outputs until it has no more tokens than that."""
        longest = max(map(_length, step.outputs), default=0)
        for limit in LIMITS:
            if step.cost > most and longest > limit:
                self._set(step, limit)

    def _set(self, step: _Step, limit: int) -> None:
        if not step.outputs or (step.limit is not None and step.limit <= limit):
            return
        step.limit = limit
        cost = sum(map(self._tokens, step.sent(limit)))
        self._total += cost - step.cost
        step.cost = cost


def _steps(messages: Sequence[Object]) -> list[list[Object]]:
    """The messages, each of the model's with the results that follow it."""
    found: list[list[Object]] = []
    for message in messages:
        if message.get("role") == "tool" and found:
            found[-1].append(message)
        else:
            found.append([message])
    return found


class _Summary:
    """One message in place of the oldest steps: which tools were called, and how it went. Where
    there are too many calls for lines of their own, the oldest are counted by name."""

    def __init__(self, room: int, tokens: Callable[[Object], int]) -> None:
        self._room = room
        self._tokens = tokens
        self._lines: deque[tuple[str, int, str]] = deque()
        """(line, tokens, name of the tool)."""
        self._older: Counter[str] = Counter()
        self._listed = 0
        self._head = 0

    @property
    def cost(self) -> int:
        """Tokens."""
        return self._head + self._listed

    def add(self, messages: list[Object]) -> None:
        """Take the next step."""
        for line, name in _lines(messages):
            cost = self._tokens(_user(f"{line}\n"))
            self._lines.append((line, cost, name))
            self._listed += cost
        while self._listed > self._room and self._lines:
            _, cost, name = self._lines.popleft()
            self._listed -= cost
            self._older[name] += 1
        self._head = self._tokens(_user("\n".join(self._beginning())))

    def messages(self) -> list[Object]:
        lines = [line for line, _, _ in self._lines]
        return [_user("\n".join([*self._beginning(), *lines]))] if lines or self._older else []

    def _beginning(self) -> list[str]:
        calls = [f"{name} {number:,} times" for name, number in self._older.items() if name]
        return [SUMMARY, f"- before that: {', '.join(calls)}"] if calls else [SUMMARY]


def _user(text: str) -> Object:
    return {"role": "user", "content": text}


def _lines(messages: list[Object]) -> list[tuple[str, str]]:
    """(line, name of the tool or nothing) of the summary for one step."""
    first, found = messages[0], []
    if words := _words(first.get("content"), NOTED):
        found.append((f"- you wrote: {words}", ""))
    outcomes = {
        message.get("tool_call_id"): _words(message.get("content"), 80) for message in messages[1:]
    }
    for call in first.get("tool_calls") or []:
        function = call["function"]
        name, arguments = function["name"], _words(function.get("arguments"), NOTED)
        outcome = outcomes.get(call.get("id"), "")
        failed = outcome.startswith("exit code ")
        found.append((f"- {name} {arguments}: {outcome if failed else 'ok'}", name))
    return found


def _words(content: Any, most: int) -> str:
    """The beginning of a text, on one line."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        content = " ".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str):
        return ""
    text = " ".join(content[: 4 * most].split())
    return text if len(text) <= most else f"{text[:most]}…"


class Verdict(StrEnum):
    """What becomes of an agent after a step."""

    GO = "go"
    WARN = "warn"
    """The model is warned that it repeats itself."""
    STOP = "stop"
    """The warning did not help."""


WARNING = (
    "You have made the same calls with the same results several times. Repeating them changes "
    "nothing: try another way, or answer with what you know and say what is missing."
)
STOPPED = "the agent made the same calls with the same results again and again"
LONGEST = 4
"""Steps of the longest circle that is looked for."""
WARNED, ENDED = 3, 5
"""How often the same steps come one after the other before the model is warned, and before the
agent is stopped."""

Step = frozenset[tuple[str, bytes | str, str]]


@dataclass(slots=True)
class Repeats:
    """Notices steps that repeat: the same calls with the same arguments and the same results, one
    step alone or up to `LONGEST` in a circle. A result that changes is no repetition."""

    _last: deque[Step] = field(default_factory=lambda: deque(maxlen=LONGEST))
    _same: list[int] = field(default_factory=lambda: [0] * (LONGEST + 1))
    """By the length of a circle: how many steps were equal to the one that many steps before."""

    def add(self, calls: Sequence[ToolCall]) -> None:
        """Take the calls of the next step, with their results."""
        step = frozenset(_seen(call) for call in calls)
        for length in range(1, LONGEST + 1):
            equal = len(self._last) >= length and self._last[-length] == step
            self._same[length] = self._same[length] + 1 if equal else 0
        self._last.append(step)

    @property
    def verdict(self) -> Verdict:
        """What becomes of the agent."""
        if self._repeated(ENDED):
            return Verdict.STOP
        return Verdict.WARN if self._repeated(WARNED) else Verdict.GO

    def _repeated(self, times: int) -> bool:
        return any(self._same[length] >= length * (times - 1) for length in range(1, LONGEST + 1))


def _seen(call: ToolCall) -> tuple[str, bytes | str, str]:
    """What makes a call the same as another: its name, its arguments and its result, without a
    warning in it."""
    given, result = call.arguments, call.result or {}
    arguments = (
        given if isinstance(given, str) else orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
    )
    output = str(result.get("output") or "").removesuffix(WARNING).rstrip()
    return call.name, arguments, f"{result.get('exit_code')} {output}"
