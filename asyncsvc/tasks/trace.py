"""Trace contexts (W3C Trace Context): what a client sends, what a task keeps, what is passed on.

A task belongs to the trace of the request that made it; where that named none, its trace has the
task's own id. The ids of its spans are made from the task, so each process that runs it names the
same ones, and nothing but the client's context is stored. A context that breaks the rules is
ignored, as the standard asks.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from asyncsvc.tasks.marks import AGAIN, Marks

SAMPLED, KNOWN_FLAGS = 0x01, 0x03
STATE_CHARS, STATE_MEMBERS = 512, 32
"""A longer state is dropped, as the standard allows."""
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_KEY = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_SIGNS = r"\x21-\x2b\x2d-\x3c\x3e-\x7e"
_MEMBER = re.compile(rf"{_KEY}=[\x20{_SIGNS}]{{0,255}}[{_SIGNS}]")


class Trace(NamedTuple):
    """A trace context as it is kept and passed on: both in the form of their headers."""

    traceparent: str
    tracestate: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request that passes it on."""
        state = {} if self.tracestate is None else {"tracestate": self.tracestate}
        return {"traceparent": self.traceparent} | state


def read(parents: Sequence[str], states: Sequence[str] = ()) -> Trace | None:
    """The context of a request by the values of its headers; None where it has none, several, or
    one that breaks the rules."""
    found = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0"):
        return None
    if not span_id.strip("0"):
        return None
    known = int(flags, 16) & KNOWN_FLAGS
    return Trace(f"00-{trace_id}-{span_id}-{known:02x}", _state(states))


def _state(states: Sequence[str]) -> str | None:
    """The state of vendors, joined; None where there is none or it breaks the rules."""
    members = [each.strip(" \t") for state in states for each in state.split(",")]
    members = [each for each in members if each]
    joined = ",".join(members)
    keys = {each.partition("=")[0] for each in members}
    sound = len(keys) == len(members) <= STATE_MEMBERS and len(joined) <= STATE_CHARS
    return joined if members and sound and all(map(_MEMBER.fullmatch, members)) else None


def sampled(parent: str | None) -> bool:
    """Whether the client wants the trace to be recorded; a task without a context is."""
    return parent is None or bool(int(parent[-2:], 16) & SAMPLED)


def parent_span(parent: str | None) -> str | None:
    """The id of the client's span."""
    return None if parent is None else parent[36:52]


def task_span(task_id: str, marks: Marks) -> str:
    """The id of the span of a task; another one after each retry by hand."""
    again = marks[0][1] if marks and marks[0][0] == AGAIN else 0
    return _span(task_id, "task", again)


def attempt_span(task_id: str, number: int) -> str:
    """The id of the span of an attempt; `number` counts all starts of the task."""
    return _span(task_id, "attempt", number)


def tool_span(task_id: str, number: int, call_id: str) -> str:
    """The id of the span of a tool that ran in an attempt."""
    return _span(task_id, "tool", number, call_id)


def _span(*parts: str | int) -> str:
    found = sha256(":".join(map(str, parts)).encode()).hexdigest()[:16]
    return found if found.strip("0") else "1" * 16


def passed_on(
    trace_id: str, parent: str | None, state: str | None, span_id: str | None
) -> dict[str, str] | None:
    """The headers with which a request of a task goes out; None: none. `span_id` is that of our
    own span, where spans are recorded; else the client's context goes on as it came."""
    if span_id is not None:
        flags = parent[-2:] if parent else f"{SAMPLED:02x}"
        return Trace(f"00-{trace_id}-{span_id}-{flags}", state).headers
    return None if parent is None else Trace(parent, state).headers


def of_headers(headers: Mapping[str, object]) -> Trace | None:
    """The context of a request, by starlette's headers, which may hold a name twice, or by the
    fields of a WebSocket message."""
    if "traceparent" not in headers:
        return None
    several = getattr(headers, "getlist", partial(_texts, headers))
    return read(several("traceparent"), several("tracestate"))


def _texts(message: Mapping[str, object], name: str) -> list[str]:
    """The field of a message, as the values of a header."""
    value = message.get(name)
    return [value] if isinstance(value, str) else []
