"""Types of the requests and responses about tasks; `service_schemas` has those of the service.

The document at `/openapi.json` is made of them, and tests validate real responses by them. No
response is validated at run time.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.tasks.state import EventType, State
from asyncsvc.tasks.submission import Lane, Submission

PAGE_MOST = 500
BATCH_MOST = 1000
KEY_MOST = 255
MOST = 1 << 62
"""The largest number that a query takes."""

Name = Annotated[str, Field(description="a model's name in the settings")]
TaskId = Annotated[str, Field(description="a task's id")]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC")]
Kind = Literal["chat", "embedding"]
Object = dict[str, Any]
Count = Annotated[int, Field(ge=0)]


class Fault(TypedDict):
    message: Annotated[str, Field(description="in words, for people")]
    type: str
    code: Annotated[str, Field(description="stable, for programs")]
    param: Annotated[str | None, Field(description="the field that it is about")]


class Refusal(TypedDict):
    """Every answer that is an error, in OpenAI's shape."""

    error: Fault


class Accepted(TypedDict):
    """A task that is on the disk."""

    task_id: TaskId
    status: State
    message: Annotated[str, Field(description="accepted, and what it waits for")]
    model: Name | None
    position: Annotated[int | None, Field(description="its place in the queue; 1 is the next")]
    eta_s: Annotated[float | None, Field(description="seconds until it is expected to start")]


class AcceptedOne(TypedDict):
    task_id: TaskId
    status: State


class AcceptedAll(TypedDict):
    """The tasks of a batch, in its order."""

    tasks: list[AcceptedOne]


class Batch(TypedDict):
    """Tasks that are taken all or not at all."""

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # noqa: RUF012

    tasks: Annotated[list[Submission], Field(min_length=1, max_length=BATCH_MOST)]


class SubmitHeaders(TypedDict, total=False):
    idempotency_key: Annotated[
        str,
        Field(
            alias="Idempotency-Key",
            min_length=1,
            max_length=KEY_MOST,
            description="the same key and body give the first answer again",
        ),
    ]
    x_user: Annotated[
        str, Field(alias="X-User", description="the owner, where no tokens are in use")
    ]


class TaskError(TypedDict):
    """Why a task failed."""

    code: str
    message: str
    retryable: Annotated[bool, Field(description="whether a retry can help")]


class Run(TypedDict):
    """The latest attempt."""

    model: Annotated[str | None, Field(description="the provider's own id of the model")]
    name: Name | None
    latency: Annotated[float | None, Field(description="seconds from start to end")]
    usage: Annotated[Object | None, Field(description="tokens, as OpenAI names them")]
    cached: bool
    finish_reason: Annotated[str | None, Field(description="why it ended, in OpenAI's words")]
    finish_reason_raw: Annotated[str | None, Field(description="the provider's own word for it")]
    route: Annotated[Object | None, Field(description="its class, and why it went there")]


class Summary(TypedDict):
    task_id: TaskId
    status: State
    type: Kind
    model: Annotated[str | None, Field(description="the model asked for; null: routed")]
    lane: Lane
    priority: Annotated[int, Field(ge=0, le=9)]
    session_id: str | None
    schedule_id: Annotated[str | None, Field(description="the schedule that has made it")]
    attempts: Count
    error: TaskError | None
    metadata: Run
    user_metadata: Annotated[Object | None, Field(description="`metadata` of the submit")]
    created_at: Time
    updated_at: Time
    started_at: Time | None
    finished_at: Time | None
    next_run_at: Annotated[Time | None, Field(description="when a scheduled task is due")]


class Item(Summary):
    """A task in a list: the first 200 characters in place of its texts."""

    content_preview: str
    result_preview: str | None


class Callback(TypedDict):
    """How far it is with telling of the task's end."""

    url: str
    state: str
    attempts: Count
    last_status: int | None
    last_error: str | None
    next_at: Time | None


class WholeTask(Summary):
    """A task with its texts: `content`, `messages` or `input`, as it was submitted."""

    content: NotRequired[str]
    messages: NotRequired[list[Object]]
    input: NotRequired[str | list[str]]
    params: Object
    result: Annotated[
        str | list[list[float]] | None,
        Field(description="the text, so far where it is unfinished; or vectors"),
    ]
    tool_calls: NotRequired[Annotated[list[Object], Field(description="in OpenAI's shape")]]
    message: NotRequired[
        Annotated[Object, Field(description="further fields of the answer, for the next turn")]
    ]
    seq: Annotated[int, Field(ge=1, description="number of its latest event")]
    callback: Annotated[Callback | None, Field(description="null: nobody wants to be told")]
    position: NotRequired[int | None]
    eta_s: NotRequired[float | None]


class Page(TypedDict):
    """Tasks, newest first."""

    tasks: list[Item]
    next_cursor: Annotated[str | None, Field(description="null: there are no more")]


class ListQuery(TypedDict, total=False):
    status: State
    model: Annotated[str, Field(description="a model's name: asked for, or that ran it")]
    lane: Lane
    session_id: str
    q: Annotated[str, Field(description="a text within what was asked or answered")]
    limit: Annotated[int, Field(ge=1, le=PAGE_MOST)]
    cursor: Annotated[str, Field(description="`next_cursor` of the page before")]
    type: Kind
    owner: str


class EventsQuery(TypedDict, total=False):
    after: Annotated[int, Field(ge=0, le=MOST, description="the last event that is known already")]


class EventsHeaders(TypedDict, total=False):
    last_event_id: Annotated[
        int,
        Field(
            alias="Last-Event-ID",
            ge=0,
            le=MOST,
            description="in place of `after`, for a live stream",
        ),
    ]


class Event(TypedDict):
    """What happened to a task; one line each."""

    id: Annotated[int, Field(description="grows over all tasks")]
    task_id: TaskId
    seq: Annotated[int, Field(description="from 1 within the task, without gaps")]
    type: EventType
    ts: Time
    data: Object
