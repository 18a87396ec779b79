"""The shapes of what is said of the whole service over HTTP, as types.

Owns the fields of counts, models, health and routing, as `schemas.py` does those of tasks, and
promises the same. Never says how an answer is made.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.web.tasks.schemas import Count, Kind, Name, Object, Time

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
    models: dict[str, Counts]


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
    },
)
Routing.__doc__ = "Where a task would go, and why."


class Gate(TypedDict):
    """One key of a model: what is used of what is allowed."""

    name: str
    in_flight: Count
    calls_in_window: Count
    concurrency: int
    window_used: Count
    window_limit: Annotated[int, Field(description="0: unlimited")]
    window_s: float
    tokens_used: Count
    tokens_limit: Annotated[int, Field(description="0: unlimited")]
    learned: Object | None
    breaker: Breaker
    waiting_for: str | None


class ModelState(TypedDict):
    name: Name
    aliases: Annotated[list[str], Field(description="other names for it in a request")]
    type: Kind
    model: Annotated[str, Field(description="the provider's own id")]
    enabled: bool
    reason: Annotated[str | None, Field(description="why it is not enabled")]
    paused: Annotated[bool, Field(description="held by `POST /models/{name}/pause`")]
    paused_at: Time | None
    in_flight: Count
    concurrency: int | None
    concurrency_auto: Annotated[bool, Field(description="learned")]
    calls_last_60s: Count
    rpm: Annotated[int | None, Field(description="0: unlimited")]
    rpm_auto: Annotated[bool, Field(description="learned")]
    tpm: Annotated[int, Field(description="0: unlimited")]
    breaker: Breaker
    queue_depth: Count
    latency_s: float | None
    calls: Count
    errors: Count
    waiting_for: str | None
    ready: Annotated[
        bool | None, Field(description="what a gateway's /readyz says; null: no gateway")
    ]
    gates: list[Gate]


class Models(TypedDict):
    """The models of the settings, in their order."""

    models: list[ModelState]


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
