"""The history of a finished agent in a line of an export: its events, in short.

What leaves is what the ledger and the conversation are made of since the last retry by hand: pieces
of a text are joined, and checkpoints, which stay on their machine, are left out. What comes is
believed only where a run could have written it.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from asyncsvc.storage.entries import EventRow, loads
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Cause, Draft, EventType, Task

Object = dict[str, Any]
HISTORY_BYTES = 8 << 20
"""Of one line; beyond it the outputs of tools are shortened."""
OUTPUT_CHARS = 2000
"""Of a shortened output."""
EVENTS_MOST = 15_000
"""A body of a request has 200,000 values of JSON at most."""
TIME_MOST = 1 << 53
WRITTEN = (EventType.CHUNK, EventType.REASONING)
KINDS = (
    EventType.STATUS,
    EventType.STEP,
    *WRITTEN,
    EventType.MESSAGE,
    EventType.TOOL_CALL,
    EventType.TOOL_STARTED,
    EventType.TOOL_RESULT,
    EventType.APPROVAL,
)
"""The events that a history is made of. A rollback is none of it: the workspace comes along as it
is at last."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Number = Annotated[int, Field(ge=0, le=1 << 31)]
Id = Annotated[str, Field(min_length=1, max_length=400)]
Arguments = Object | str


class StepData(_Data):
    number: Number


class TextData(_Data):
    text: str
    step: Number
    refusal: bool = False


class MessageData(BaseModel):
    """Beside these, the fields of the model's message, whatever they are."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: Number
    usage: Object | None = None
    finish_reason: Annotated[str, Field(max_length=100)] | None = None
    finish_reason_raw: Annotated[str, Field(max_length=100)] | None = None


class CallData(_Data):
    id: Id
    name: Annotated[str, Field(max_length=400)]
    arguments: Arguments
    step: Number
    extra: Object | None = None


class StartedData(_Data):
    id: Id
    checkpoint: None


class ResultData(_Data):
    id: Id
    name: Annotated[str, Field(max_length=400)]
    ok: bool
    output: str
    exit_code: int | None = None
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    truncated: bool = False


class ApprovalData(_Data):
    id: Id
    name: Annotated[str, Field(max_length=400)] | None = None
    arguments: Arguments | None = None
    diff: str | None = None
    review: bool | None = None
    decision: Annotated[str, Field(pattern="^(approved|denied|rerun|skip|fail)$")] | None = None
    reason: str | None = None


DATA: dict[str, type[BaseModel]] = {
    EventType.STEP: StepData,
    EventType.CHUNK: TextData,
    EventType.REASONING: TextData,
    EventType.MESSAGE: MessageData,
    EventType.TOOL_CALL: CallData,
    EventType.TOOL_STARTED: StartedData,
    EventType.TOOL_RESULT: ResultData,
    EventType.APPROVAL: ApprovalData,
}


def _believed(event: tuple[str, int, Object]) -> tuple[str, int, Object]:
    kind, at, data = event
    if kind not in DATA:
        raise ValueError(f"{kind[:40]!r} is no event of an agent's history")
    # Only what was given: a field that was left out says something else than null.
    return kind, at, DATA[kind].model_validate(data).model_dump(exclude_unset=True)


Past = Annotated[
    tuple[str, Annotated[int, Field(ge=0, le=TIME_MOST)], Object],
    Field(strict=False),
    AfterValidator(_believed),
]
"""(type, ms since the epoch, data)."""
History = Annotated[list[Past], Field(max_length=EVENTS_MOST)]


def drafts(history: list[Past], begun: int, ended: int) -> list[tuple[int, Draft]]:
    """The events of a history with their times, in order and within the run."""
    found, last = [], begun
    for kind, at, data in history:
        last = min(max(at, last), ended)
        found.append((last, Draft(EventType(kind), data)))
    return found


async def history(store: Store, task: Task) -> list[Past] | None:
    """The history of a finished agent; None for any other task, and where it is too large for a
    line even with shortened outputs."""
    if task.request.type != "agent" or not task.finished:
        return None
    found = [event async for event in _events(store, task)]
    if _size(found) <= HISTORY_BYTES and len(found) <= EVENTS_MOST:
        return found
    found = [_shortened(event) for event in found if event[0] != EventType.REASONING]
    return found if _size(found) <= HISTORY_BYTES and len(found) <= EVENTS_MOST else None


async def _events(store: Store, task: Task) -> AsyncIterator[Past]:
    """Since the last retry by hand; the pieces of a text as one event."""
    begin = await _begin(store, task)
    held: Past | None = None
    after = begin
    while rows := await store.texts.events_of(task.n, KINDS[1:], after):
        for row in rows:
            event = _event(row)
            if held is not None and event[0] == held[0] and _joinable(held, event):
                held[2]["text"] += event[2]["text"]
                continue
            if held is not None:
                yield held
            held = event
        after = rows[-1].seq
    if held is not None:
        yield held


def _joinable(held: Past, event: Past) -> bool:
    same = {name: value for name, value in held[2].items() if name != "text"}
    return event[0] in WRITTEN and same == {k: v for k, v in event[2].items() if k != "text"}


async def _begin(store: Store, task: Task) -> int:
    """The number of the event with which the task was retried by hand at last; 0: never."""
    found, after = 0, 0
    while rows := await store.texts.events_of(task.n, (EventType.STATUS,), after):
        for row in rows:
            if loads(row.data)["cause"] == Cause.RERUN:
                found = row.seq
        after = rows[-1].seq
    return found


def _event(row: EventRow) -> Past:
    data = loads(row.data)
    if row.type == EventType.TOOL_STARTED:
        data = {"id": data["id"], "checkpoint": None}
    return row.type, row.ts, data


def _shortened(event: Past) -> Past:
    kind, at, data = event
    if kind == EventType.TOOL_RESULT and len(data["output"]) > OUTPUT_CHARS:
        data = data | {"output": data["output"][:OUTPUT_CHARS], "truncated": True}
    return kind, at, data


def _size(events: list[Past]) -> int:
    return sum(len(orjson.dumps(data)) for _, _, data in events)
