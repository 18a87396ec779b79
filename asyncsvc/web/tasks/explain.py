"""`GET /tasks/{id}/explain`: a task's history and wait times, from its stored events.

Events are read in pages, so that a long stream does not block the loop.
"""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Caller, Permission
from asyncsvc.monitoring.explain import History
from asyncsvc.tasks.state import Cause, State, Task
from asyncsvc.tasks.submission import Lane
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks import views
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


class CallTime(TypedDict):
    id: str
    name: Annotated[str, Field(description="the tool")]
    started_at: Time | None
    took_s: Annotated[Seconds | None, Field(description="of its latest run; null: it has no end")]
    waited_s: Annotated[Seconds, Field(description="for a person")]
    ok: bool | None


class StepTime(TypedDict):
    number: Count
    started_at: Time
    model_s: Annotated[Seconds | None, Field(description="null: it has not ended")]
    usage: Object | None
    calls: list[CallTime]


class AgentTime(TypedDict):
    """Where the time of an agent has gone since it was submitted or retried by hand."""

    steps: list[StepTime]
    model_s: Seconds
    tools_s: Annotated[Seconds, Field(description="several at once count once")]
    person_s: Annotated[Seconds, Field(description="waiting for an approval or a review")]


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
    agent: Annotated[AgentTime | None, Field(description="null: it is no agent")]
    now: Annotated[Expected | None, Field(description="null: it is finished")]


@operation(scope=Permission.READ, answer=Explanation, errors=("task_not_found",))
async def explain(request: Request) -> Response:
    """GET /tasks/{id}/explain: its timeline, what it waited for, each attempt, tokens.

    The stored events are the only source, so it is the same after a restart of the service.
    """
    return JSON(await explained(services(request), caller(request), request.path_params["task_id"]))


async def explained(parts: Services, asker: Caller, task_id: str) -> dict[str, Any]:
    """The `Explanation` of a task. Raises TaskNotFound."""
    task = await parts.task(asker, task_id)
    history, seq = History(task), 0
    while seq < task.seq and (rows := await parts.journal.store.events(task.n, seq)):
        for row in rows[: task.seq - seq]:  # it may have gone on meanwhile
            history.add(row)
        seq = rows[-1].seq
    waited = parts.scheduler.waited(task) if task.state is State.PENDING else None
    return history.summary(parts.journal.now(), _now(parts, task), waited)


def _now(parts: Services, task: Task) -> dict[str, Any] | None:
    if task.finished:
        return None
    found = views.progress(parts, task)
    return {name: found[name] for name in ("position", "eta_s", "reason", "running_s")
            if name in found}  # fmt: skip


ROUTES = [resource("/tasks/{task_id}/explain", GET=explain)]
