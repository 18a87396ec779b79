"""Types of the messages that a follower is sent: the data of each type of event, and alarms.

`EVENTS` has every type that the service sends. The document at `/asyncapi.json` is made of it, and
tests hold real events against it; nothing is validated at run time.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.tasks import marks
from asyncsvc.tasks.state import Cause, EventType, State
from asyncsvc.web.tasks.schemas import Count, Event, Name, Object, TaskError, TaskId, Time

PROGRESS = "progress"
"""The type of the one event that is not stored."""
CallId = Annotated[str, Field(description="the call of a tool")]
Step = Annotated[int, Field(ge=1, description="the step of an agent that it belongs to")]
ToolName = Annotated[str, Field(description="the tool")]
Arguments = Annotated[Object | str, Field(description="a text where they are no object")]
Level = Literal["ok", "degraded", "overloaded"]
FinishReason = Annotated[str | None, Field(description="why it ended, in OpenAI's words")]
OwnReason = Annotated[str | None, Field(description="the provider's own word for it")]


class StatusData(TypedDict):
    """The task has come to another state; the last one of a task says how it ended."""

    status: State
    cause: Cause
    error: NotRequired[TaskError | None]
    usage: NotRequired[Annotated[Object | None, Field(description="tokens, as OpenAI names them")]]
    latency: NotRequired[Annotated[float | None, Field(description="seconds of the attempt")]]
    finish_reason: NotRequired[FinishReason]
    finish_reason_raw: NotRequired[OwnReason]
    model: NotRequired[Annotated[str | None, Field(description="the provider's id of the model")]]
    name: NotRequired[Name | None]
    cached: NotRequired[bool]
    closed_ms: NotRequired[
        Annotated[Count, Field(description="how long closing the call took, of a stopped task")]
    ]
    next_run_at: NotRequired[
        Annotated[Time | None, Field(description="when a scheduled task is due")]
    ]
    spans: NotRequired[
        Annotated[
            list[tuple[marks.Kind, Count]],
            Field(max_length=marks.SPANS_MOST, description="what it did and how many ms, in order"),
        ]
    ]


class AttemptData(TypedDict):
    """A model is about to be called; text of an earlier attempt is void."""

    number: Annotated[int, Field(ge=1)]
    model: Annotated[str | None, Field(description="the provider's id of the model")]
    name: Name | None
    why: Annotated[str, Field(description="why this model, in words")]
    route: NotRequired[Object]
    session_key: NotRequired[
        Annotated[str, Field(description="asks the provider later what became of the call")]
    ]
    warnings: NotRequired[Annotated[list[str], Field(description="what is not done as asked")]]


class StepData(TypedDict):
    """An agent asks its model; text of a step that did not end is void."""

    number: Annotated[int, Field(ge=1)]


class ChunkData(TypedDict):
    """A piece of the answer; all since the last attempt, joined, are the result."""

    text: str
    refusal: NotRequired[Annotated[Literal[True], Field(description="it is the model's refusal")]]
    step: NotRequired[Step]


class ReasoningData(TypedDict):
    """A piece of the model's thinking, which is not part of the result."""

    text: str
    step: NotRequired[Step]


class ToolCallData(TypedDict, total=False):
    """A piece of a tool call as OpenAI streams it; of an agent a whole call.

    Further fields are the provider's own.
    """

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    index: Annotated[Count, Field(description="pieces with the same index make one call")]
    id: CallId | None
    type: str
    function: Annotated[Object, Field(description="`name` at its beginning, `arguments` to join")]
    late_id: Annotated[str, Field(description="an id that came after the beginning")]
    name: ToolName
    arguments: Arguments
    step: Step
    extra: Annotated[Object, Field(description="further fields of an agent's call")]
    by: Annotated[Literal["openclaw"], Field(description="the gateway's agent has made the call")]


class MessageData(TypedDict, total=False):
    """A step of an agent has ended; or further fields of the answer's message, as they came."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    step: Step
    usage: Object | None
    finish_reason: FinishReason
    finish_reason_raw: OwnReason


class ToolStartedData(TypedDict):
    """A tool of an agent begins to run."""

    id: CallId
    checkpoint: Annotated[str | None, Field(description="to put the workspace back to")]


class ToolOutputData(TypedDict):
    """What a tool has written while it runs."""

    id: CallId
    text: str


class ToolResultData(TypedDict):
    """A tool has ended, of an agent; or a tool that an agent gateway ran by itself."""

    id: CallId | None
    name: NotRequired[ToolName | None]
    ok: NotRequired[bool]
    output: NotRequired[str]
    exit_code: NotRequired[int | None]
    duration_s: NotRequired[float | None]
    truncated: NotRequired[bool]
    error: NotRequired[Annotated[Any, Field(description="of a gateway's tool")]]
    result: NotRequired[Annotated[Any, Field(description="its beginning, of a gateway's tool")]]
    by: NotRequired[Literal["openclaw"]]


class RollbackData(TypedDict):
    """The workspace is what it was before a call that was cut off; the call runs again."""

    id: CallId
    checkpoint: str


class ApprovalData(TypedDict):
    """A call of a tool waits for a person; or, with a decision, the person has decided."""

    id: CallId
    name: ToolName
    arguments: Arguments
    diff: NotRequired[Annotated[str | None, Field(description="what the call would change")]]
    review: NotRequired[Annotated[bool, Field(description="the call was cut off")]]
    decision: NotRequired[Literal["approved", "denied", "rerun", "skip", "fail"]]
    reason: NotRequired[str | None]


class RetryData(TypedDict):
    """The attempt has failed and is made again."""

    why: TaskError
    attempt: Count
    delay_s: Annotated[float | None, Field(description="null: as soon as the model is free again")]
    when: NotRequired[Time]


class RecoveryData(TypedDict):
    """A step after an agent gateway was cut off in the middle of a run."""

    step: Literal["asking", "gateway_away", "running", "answered", "lost", "never_began", "aborted"]
    session_key: str | None
    detail: str


class ProgressData(TypedDict):
    """How a task that waits or runs is getting on: live only, at least once a second."""

    status: State
    elapsed_s: Annotated[float, Field(ge=0, description="since it was submitted")]
    position: Annotated[int | None, Field(description="its place in the queue; 1 is the next")]
    eta_s: Annotated[float | None, Field(description="seconds until it is expected to start")]
    reason: Annotated[str | None, Field(description="what it waits for")]
    running_s: NotRequired[float]
    tokens: NotRequired[Count]
    tokens_per_s: NotRequired[float]
    next_run_at: NotRequired[Time]


EVENTS: Mapping[str, Any] = {
    EventType.STATUS.value: StatusData,
    EventType.ATTEMPT.value: AttemptData,
    EventType.STEP.value: StepData,
    EventType.CHUNK.value: ChunkData,
    EventType.REASONING.value: ReasoningData,
    EventType.TOOL_CALL.value: ToolCallData,
    EventType.MESSAGE.value: MessageData,
    EventType.TOOL_STARTED.value: ToolStartedData,
    EventType.TOOL_OUTPUT.value: ToolOutputData,
    EventType.TOOL_RESULT.value: ToolResultData,
    EventType.ROLLBACK.value: RollbackData,
    EventType.APPROVAL.value: ApprovalData,
    EventType.RETRY.value: RetryData,
    EventType.RECOVERY.value: RecoveryData,
    PROGRESS: ProgressData,
}
"""The type of `data` of each type of event."""
ENVELOPE = Event
"""What every event has around its data."""


class LiveEvent(TypedDict):
    """Around the data of an event that is not stored."""

    id: None
    task_id: TaskId
    seq: None
    type: Literal["progress"]
    ts: Time
    data: ProgressData


class AlarmChange(TypedDict):
    """A figure of the service has come near its limit, gone beyond it or come back."""

    number: Count
    at: Time
    name: str
    was: Level
    level: Level
    message: str
