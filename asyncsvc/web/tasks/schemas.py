"""Types of the requests and responses about tasks, schedules, models and the service.

The document at `/openapi.json` is made of them, and tests validate real responses by them. No
response is validated at run time.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.tasks import marks
from asyncsvc.tasks.state import EventType, State
from asyncsvc.tasks.submission import Lane, Submission
from asyncsvc.web.tasks.agent_schemas import Origin, WaitingCall

PAGE_MOST = 500
BATCH_MOST = 1000
KEY_MOST = 255
MOST = 1 << 62
"""The largest number that a query takes."""

Name = Annotated[str, Field(description="a model's name in the settings")]
TaskId = Annotated[str, Field(description="a task's id")]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC")]
Kind = Literal["chat", "agent", "embedding"]
ModelType = Literal["chat", "embedding"]
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
    traceparent: Annotated[
        str, Field(description="W3C trace context, kept and passed on; tracestate beside it")
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
    trace_id: Annotated[str, Field(description="of the traceparent that it came with, or its own")]
    steps: NotRequired[Annotated[Count, Field(description="of an agent: calls of its model")]]
    tool_calls: NotRequired[Annotated[Count, Field(description="of an agent: calls of tools")]]


class Summary(TypedDict):
    task_id: TaskId
    status: State
    type: Kind
    model: Annotated[str | None, Field(description="the model asked for; null: routed")]
    lane: Lane
    priority: Annotated[int, Field(ge=0, le=9)]
    session_id: str | None
    owner: Annotated[str | None, Field(description="the client that has submitted it")]
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
    closed_ms: Annotated[
        Count | None, Field(description="how long closing its call took, of a stopped task")
    ]
    spans: Annotated[
        list[tuple[marks.Kind, Count]],
        Field(
            max_length=marks.SPANS_MOST,
            description="what it did and how many ms, in order, the last until now; "
            "empty where that was not noted",
        ),
    ]


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
    tools: NotRequired[list[str]]
    max_steps: NotRequired[int]
    token_budget: NotRequired[int]
    approve: NotRequired[list[str]]
    files: NotRequired[dict[str, str]]
    forked_from: NotRequired[Origin]
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
    callback: Annotated[Callback | None, Field(description="null: no notice was asked for")]
    approval: NotRequired[WaitingCall | None]
    position: NotRequired[int | None]
    eta_s: NotRequired[float | None]


class Page(TypedDict):
    """Tasks, newest first."""

    tasks: list[Item]
    next_cursor: Annotated[str | None, Field(description="null: there are no more")]


Order = Annotated[
    Literal["newest", "queue", "ended"],
    Field(description="`queue`: running, next, paused; `ended`: latest end first; both one page"),
]


class ListQuery(TypedDict, total=False):
    """`status`, `lane` and `type` may be given several times: any of the values fits."""

    status: State
    model: Annotated[str, Field(description="a model's name: asked for, or that ran it")]
    lane: Lane
    session_id: str
    q: Annotated[str, Field(description="a text within what was asked or answered")]
    limit: Annotated[int, Field(ge=1, le=PAGE_MOST)]
    cursor: Annotated[str, Field(description="`next_cursor` of the page before")]
    type: Kind
    owner: str
    waiting_for: Annotated[Literal["approval", "review"], Field(description="a person's answer")]
    id_ends: Annotated[str, Field(description="the end of a task's id")]
    order: Order


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


ScheduleId = Annotated[str, Field(description="a schedule's id")]


ScheduleName = Annotated[str, Field(min_length=1, max_length=100)]


class NewSchedule(TypedDict):
    name: NotRequired[
        Annotated[
            ScheduleName | None, Field(description="a known one replaces what its schedule does")
        ]
    ]
    cron: Annotated[str, Field(min_length=1, description="five fields, or six with seconds")]
    timezone: NotRequired[Annotated[str, Field(min_length=1, description="IANA name; UTC")]]
    task: Submission


class Schedule(TypedDict):
    """A recurring task."""

    schedule_id: ScheduleId
    name: ScheduleName | None
    cron: str
    timezone: str
    content_preview: str
    created_at: Time
    next_run_at: Time | None
    last_run_at: Time | None
    last_due_at: Annotated[Time | None, Field(description="the time that the last run was for")]
    last_task_id: TaskId | None
    runs: Count
    last_error: Annotated[Object | None, Field(description="why the last run was refused")]


class WholeSchedule(Schedule):
    task: Object


class AllSchedules(TypedDict):
    schedules: list[Schedule]


Breaker = Literal["closed", "open", "half_open"]


class Counts(TypedDict):
    scheduled: Count
    pending: Count
    running: Count
    paused: Count
    completed: Count
    failed: Count
    cancelled: Count


class Stats(Counts):
    """How many tasks are where, in all and per model."""

    total: Count
    needs_approval: Annotated[Count, Field(description="paused: a call of a tool waits for one")]
    needs_review: Annotated[Count, Field(description="paused: a call of a tool was cut off")]
    models: Annotated[dict[str, Counts], Field(description="the tasks that each has served")]
    without_model: Annotated[
        Counts,
        Field(description="those that no model has served yet; with `models` they add up to all"),
    ]


Feature = TypedDict(
    "Feature",
    {
        "name": Annotated[str, Field(description="text, or a feature of the shape of the text")],
        "value": float,
        "weight": Annotated[float, Field(description="below 0: against the class that was chosen")],
        "class": Annotated[str, Field(description="the class that it speaks for")],
        "matched": Annotated[list[str], Field(description="the passage of the text")],
    },
)
Feature.__doc__ = "What spoke for the class that was chosen, or for the second one."


class Candidate(TypedDict):
    model: Name
    eligible: bool
    reason: Annotated[str | None, Field(description="why not, or what it waits for")]
    eta_s: Annotated[float | None, Field(description="seconds until it would be done")]


Routing = TypedDict(
    "Routing",
    {
        "class": str | None,
        "rule": Annotated[str | None, Field(description="what decided; null: the text")],
        "score": float | None,
        "ambiguous": bool,
        "features": list[Feature],
        "candidates": list[Candidate],
        "chosen": Name | None,
        "why": str,
        "bytes": Annotated[int, Field(ge=0, description="of the texts, in UTF-8")],
        "prompt_tokens": Annotated[int, Field(ge=0, description="of the texts, estimated")],
    },
)
Routing.__doc__ = "Where a task would go, and why."


class Components(TypedDict):
    queue: bool
    cache: bool
    sqlite_persistence: bool
    storage_mode: Literal["sqlite"]


class CacheFigures(TypedDict):
    entries: Count
    bytes: Count
    hits: Count
    misses: Count
    shared: Count


class ModelHealth(TypedDict):
    enabled: bool
    breaker: NotRequired[Breaker]
    reason: NotRequired[str]


class Workers(TypedDict):
    """Who stands at the gates, and what the watchdog had to do."""

    clerks: Count
    working: Count
    restarts: Count
    cut: Count
    left_behind: Count


class Reloaded(TypedDict):
    """What a reload has changed, by the settings' names."""

    changed: dict[str, Object]
    added: list[Name]
    removed: list[Name]
    needs_restart: list[str]
    variables: list[str]
    enabled: list[Name]
    disabled: dict[str, str]


class Alarm(TypedDict):
    """A figure that has come near its limit, gone beyond it or come back."""

    name: str
    level: str
    message: str
    remedy: str
    value: float
    limit: float
    unit: str
    since: Time


class Lag(TypedDict):
    p50: float
    p99: float


class Descriptors(TypedDict):
    open: Count | None
    limit: Count | None


class StorageState(TypedDict):
    database_bytes: Count
    wal_bytes: Count
    disk_free_mb: Count | None
    last_write_ok: bool
    last_write_s_ago: float
    writes_refused: Count


class Sandbox(TypedDict):
    """The sandbox, or why there is none."""

    name: str | None
    reason: str | None


class Health(TypedDict):
    """What works and what does not."""

    status: Literal["ok", "degraded"]
    problems: list[str]
    reasons: list[Alarm]
    alarms: Annotated[list[Object], Field(description="the latest changes, oldest first")]
    taking_tasks: bool
    gateway_running: bool
    components: Components
    v1_compatible: bool
    version: str
    sqlite_version: str
    started_at: Time
    uptime_s: float
    unfinished: Count
    waiting: Count
    running: Count
    cache: CacheFigures
    worker_restarts: Count
    workers: Workers
    memory_mb: float
    cpu_percent: float | None
    loop_lag_ms: Lag
    fds: Descriptors
    storage: StorageState
    websockets: Count
    pid: int
    sandbox: Annotated[Sandbox | None, Field(description="where the tools run programs")]
    models: dict[str, ModelHealth]


class Front(TypedDict):
    """Who this is."""

    name: str
    version: str
    status: Literal["ok", "stopping"]
    unfinished: Count
    running: Count
    models: list[Name]
    links: dict[str, str]
