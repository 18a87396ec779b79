"""Tags that a user writes into a message to steer the simulator: ``[[sim:...]]``, ``[[id:...]]``.

Owns their grammar and the count of calls that a tag with ``xN`` still has. Promises that an
unknown tag is an error, never ignored. It never looks at anything but the text it is given.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from asyncsvc.simulator.faults import Fault, FaultSyntaxError, number, parse_fault

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
    """Counts, per exact message, how often each tag with ``xN`` was used up.

    The tags of a message are a script: the first that is not used up gives the fault, so
    ``[[sim:500 x1]][[sim:429 x2]]`` is one 500, then two 429, then a normal answer.
    Remembers the last 100,000 messages.
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
