"""The shape of a task's story, as types.

Owns the fields of `GET /tasks/{id}/explain` for the document and the tests. Promises to cost
nothing at run time. Never says how they are found (that is `monitoring/explain.py`).
"""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.tasks.state import Cause, State
from asyncsvc.tasks.submission import Lane
from asyncsvc.web.tasks.schemas import Count, Kind, Name, Object, TaskError, TaskId, Time

Seconds = Annotated[float, Field(ge=0)]
Reasons = Annotated[
    dict[str, Seconds],
    Field(
        description="seconds by reason: concurrency, rate, slow_down, quota, breaker, held, "
        "disabled, tokens, patience, turn, equal_task, start, other"
    ),
]


class Step(TypedDict):
    """A change of its state."""

    at: Time
    what: Annotated[Cause, Field(description="the cause of its status event")]
    state: State
    for_s: Annotated[Seconds | None, Field(description="until the next, or now; null: it is over")]
    why: str | None


class Waits(TypedDict):
    """Seconds that it did not run."""

    scheduled_s: Annotated[Seconds, Field(description="until its time")]
    queued_s: Reasons
    retry_s: Annotated[Seconds, Field(description="between two tries")]
    paused_s: Seconds
    session_s: Annotated[Seconds, Field(description="behind an earlier task of its session")]


class Standing(TypedDict):
    """The gate that served it, as it was at that moment."""

    name: str
    busy: Count
    concurrency: Count
    window_used: Count
    window_limit: Annotated[Count, Field(description="0: no limit")]


class Attempt(TypedDict):
    number: Count
    name: Name
    model: Annotated[str, Field(description="the provider's own id of the model")]
    why: Annotated[str, Field(description="why this model")]
    waited: Reasons
    gate: Standing | None
    started_at: Time
    first_token_s: Annotated[Seconds | None, Field(description="from the start")]
    ended_at: Time | None
    outcome: Annotated[Cause | None, Field(description="null: under way")]
    error: TaskError | None
    chunks: Count
    characters: Annotated[Count, Field(description="of the answer, without the reasoning")]


class Totals(TypedDict):
    waiting_s: Seconds
    running_s: Seconds


class Expected(TypedDict):
    """A task that is not finished, at this moment."""

    position: int | None
    eta_s: float | None
    reason: Annotated[str | None, Field(description="what it waits for")]
    running_s: NotRequired[Seconds]


class Explanation(TypedDict):
    """What happened to a task, and why it took so long."""

    task_id: TaskId
    status: State
    type: Kind
    lane: Lane
    priority: Count
    owner: str | None
    session_id: str | None
    model: Annotated[Name | None, Field(description="the model asked for; null: routed")]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    next_run_at: Time | None
    timeline: list[Step]
    waits: Waits
    attempts: list[Attempt]
    route: Annotated[Object | None, Field(description="its class, and why it went there")]
    cached: bool
    usage: Object | None
    error: TaskError | None
    totals: Totals
    now: Annotated[Expected | None, Field(description="null: it is finished")]
