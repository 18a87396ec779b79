"""The history of an agent: its steps and its calls of tools, read from the events of its task.

The journal is the ledger: there is no other record of what an agent has done. A step counts from
the event that ends it, a call from the event before it begins; what came before a retry by hand
counts no more. So an execution that ends, be it by a crash, a pause or a fault, is followed by one
that goes on where the events end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from asyncsvc.journal.journal import Journal
from asyncsvc.providers.tokens import summed
from asyncsvc.storage.entries import EventRow, loads
from asyncsvc.tasks.state import Cause, EventType, Task

Object = dict[str, Any]
KINDS = (
    EventType.STATUS,
    EventType.STEP,
    EventType.CHUNK,
    EventType.REASONING,
    EventType.MESSAGE,
    EventType.TOOL_CALL,
    EventType.TOOL_STARTED,
    EventType.TOOL_RESULT,
    EventType.ROLLBACK,
    EventType.APPROVAL,
)
OWN_FIELDS = frozenset({"step", "usage", "finish_reason", "finish_reason_raw"})
"""Of a `message` event: what is no field of the model's message."""
SHOWN = 2000
"""Characters of arguments that are no JSON object, as the model sees them again."""
GENERATIONS = 1000
"""Generations of a workspace between two retries by hand."""


class CallState(StrEnum):
    """How far a call of a tool has come."""

    ASKED = "asked"
    """The model has asked for it."""
    NEEDS_APPROVAL = "needs_approval"
    STARTED = "started"
    """It runs, or was cut off while it ran."""
    FINISHED = "finished"
    ROLLED_BACK = "rolled_back"
    """It was cut off, and the workspace is what it was before."""
    NEEDS_REVIEW = "needs_review"
    """It was cut off, and it is not known what it has done: a person decides."""
    DENIED = "denied"


@dataclass(slots=True)
class ToolCall:
    """A call of a tool. `arguments` is an object, or the model's text where that is none; `seq`
    the number of its event; times are ms since the epoch."""

    id: str
    name: str
    arguments: Object | str
    step: int
    seq: int
    extra: Object = field(default_factory=dict)
    """Further fields of the call, which the provider needs back."""
    state: CallState = CallState.ASKED
    checkpoint: str | None = None
    result: Object | None = None
    decision: str | None = None
    reason: str | None = None
    started_at: int | None = None
    ended_at: int | None = None

    def message(self) -> Object:
        """The call as a part of the model's message."""
        given = self.arguments
        if isinstance(given, str):  # providers refuse a conversation with arguments that are none
            given = {"not_json": given[:SHOWN]}
        text = orjson.dumps(given).decode()
        head = {"id": self.id, "type": "function"}
        function = self.extra.get("function", {}) | {"name": self.name, "arguments": text}
        return head | self.extra | {"function": function}

    def answer(self) -> Object:
        """The result as a message for the model."""
        found = self.result or {}
        output = str(found.get("output") or "(no output)")
        if code := found.get("exit_code"):
            output = f"exit code {code}\n{output}"
        return {"role": "tool", "tool_call_id": self.id, "content": output}


@dataclass(slots=True)
class Step:
    """One call of the model, with the calls of tools that the model asks for."""

    number: int
    parts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    fields: Object = field(default_factory=dict)
    """Further fields of the model's message, which the provider needs back."""
    usage: Object | None = None
    finish_reason: str | None = None
    finish_reason_raw: str | None = None
    calls: list[ToolCall] = field(default_factory=list)
    ended: bool = False
    """The model's answer is whole and paid for."""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def complete(self) -> bool:
        """Whether the step has ended and each of its calls has a result."""
        return self.ended and all(call.result is not None for call in self.calls)

    def messages(self) -> Iterator[Object]:
        """The model's message, and the results of its calls."""
        message: Object = {"role": "assistant", "content": self.text or None}
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = [call.message() for call in self.calls]
        yield message | self.fields
        for call in self.calls:
            yield call.answer()


@dataclass(slots=True)
class History:
    """The steps of an agent since it was submitted or retried by hand."""

    steps: list[Step] = field(default_factory=list)
    reruns: int = 0
    rollbacks: int = 0
    _by_id: dict[str, ToolCall] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """Which folder is the agent's workspace: each rollback and each retry begins another."""
        return GENERATIONS * self.reruns + self.rollbacks

    @property
    def calls(self) -> list[ToolCall]:
        """All calls of tools, in their order."""
        return [call for step in self.steps for call in step.calls]

    @property
    def ended(self) -> list[Step]:
        """The steps that are paid for."""
        return [step for step in self.steps if step.ended]

    @property
    def waiting(self) -> ToolCall | None:
        """The call that waits for a person's decision."""
        states = (CallState.NEEDS_APPROVAL, CallState.NEEDS_REVIEW)
        return next((call for call in self.calls if call.state in states), None)

    @property
    def usage(self) -> Object | None:
        """The tokens of all steps together."""
        return summed([step.usage for step in self.steps if step.usage is not None])

    def messages(self, last: int | None = None) -> list[Object]:
        """The conversation after the task's own messages, to the end or to that step."""
        steps = [step for step in self.ended if last is None or step.number <= last]
        return [message for step in steps for message in step.messages()]

    def new_id(self, wanted: str | None, step: int, place: int) -> str:
        """An id for a call: the model's, unless another call of the agent has it."""
        name = wanted or f"call_{step}_{place}"
        return f"{name}_{step}_{place}" if name in self._by_id else name

    def take(self, row: EventRow) -> None:
        """Add what an event says."""
        kind, data = EventType(row.type), loads(row.data)
        if kind is EventType.STATUS:
            if data["cause"] == Cause.RERUN:
                self.steps, self.rollbacks, self.reruns = [], 0, self.reruns + 1
                self._by_id.clear()
        elif kind is EventType.STEP:
            if self.steps and not self.steps[-1].ended:
                self.steps.pop()  # it was cut off: its text is void
            self.steps.append(Step(data["number"]))
        elif (call := self._by_id.get(data.get("id"))) is not None:
            self._follow(call, kind, row.ts, data)
        elif self.steps:
            self._of_step(self.steps[-1], kind, row.seq, data)

    def _of_step(self, step: Step, kind: EventType, seq: int, data: Object) -> None:
        if kind is EventType.CHUNK:
            step.parts.append(data["text"])
        elif kind is EventType.REASONING:
            step.thoughts.append(data["text"])
        elif kind is EventType.MESSAGE:
            self._end(step, data)
        elif kind is EventType.TOOL_CALL and "step" in data:  # else a gateway's agent did it
            call = ToolCall(data["id"], data["name"], data["arguments"], step.number, seq)
            call.extra = data.get("extra") or {}
            step.calls.append(call)
            self._by_id[call.id] = call

    def _end(self, step: Step, data: Object) -> None:
        step.ended, step.usage = True, data.get("usage")
        step.finish_reason = data.get("finish_reason")
        step.finish_reason_raw = data.get("finish_reason_raw")
        step.fields = {name: value for name, value in data.items() if name not in OWN_FIELDS}

    def _follow(self, call: ToolCall, kind: EventType, at: int, data: Object) -> None:
        if kind is EventType.TOOL_STARTED:
            call.state, call.checkpoint = CallState.STARTED, data.get("checkpoint")
            call.started_at = at
        elif kind is EventType.TOOL_RESULT:
            call.result, call.ended_at = data, at
            if call.state is not CallState.DENIED:
                call.state = CallState.FINISHED
        elif kind is EventType.ROLLBACK:
            call.state, self.rollbacks = CallState.ROLLED_BACK, self.rollbacks + 1
        elif "decision" in data:
            denied = data["decision"] == "denied"
            call.decision, call.reason = data["decision"], data.get("reason")
            call.state = CallState.DENIED if denied else CallState.ASKED
        else:
            review = data.get("review")
            call.state = CallState.NEEDS_REVIEW if review else CallState.NEEDS_APPROVAL


async def history(journal: Journal, task: Task) -> History:
    """The history of a task as it is on the disk. Raises StorageUnavailable."""
    found, after = History(), 0
    while rows := await journal.store.texts.events_of(task.n, KINDS, after):
        for row in rows:
            found.take(row)
        after = rows[-1].seq
    return found


async def generation(journal: Journal, task: Task) -> int:
    """Which folder is the agent's workspace, from the few events that say so. Raises
    StorageUnavailable."""
    reruns, rollbacks, after = 0, 0, 0
    kinds = (EventType.STATUS, EventType.ROLLBACK)
    while rows := await journal.store.texts.events_of(task.n, kinds, after):
        for row in rows:
            if row.type == EventType.ROLLBACK:
                rollbacks += 1
            elif loads(row.data)["cause"] == Cause.RERUN:
                reruns, rollbacks = reruns + 1, 0
        after = rows[-1].seq
    return GENERATIONS * reruns + rollbacks


def arguments_of(text: str) -> Object | str:
    """A call's arguments: an object, or the text where it is none."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, dict) else text
