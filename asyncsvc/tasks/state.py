"""A task and the table of its states.

Owns everything about transitions: which there are, what each does to a task, which are
refused. Promises that `apply` is pure and that an illegal event raises IllegalTransition
and changes nothing. Never does I/O, never asks for the time.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from asyncsvc.clock import optional_rfc3339, rfc3339
from asyncsvc.errors import IllegalTransition
from asyncsvc.tasks.marks import AGAIN, CUT, Marks, Spans, marked, trace


class State(StrEnum):
    """Where a task stands."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
UNFINISHED = frozenset(State) - FINISHED


class Cause(StrEnum):
    """What moves a task from one state to another."""

    SUBMITTED = "submitted"
    DELAYED = "delayed"
    DUE = "due"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    DEFERRED = "deferred"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RESUMED = "resumed"
    POSTPONED = "postponed"
    RERUN = "rerun"


TRANSITIONS: dict[State | None, dict[Cause, State]] = {
    None: {Cause.SUBMITTED: State.PENDING, Cause.DELAYED: State.SCHEDULED},
    State.SCHEDULED: {
        Cause.DUE: State.PENDING,
        Cause.PAUSED: State.PAUSED,
        Cause.CANCELLED: State.CANCELLED,
        Cause.FAILED: State.FAILED,
    },
    State.PENDING: {
        Cause.STARTED: State.RUNNING,
        Cause.PAUSED: State.PAUSED,
        Cause.CANCELLED: State.CANCELLED,
        Cause.FAILED: State.FAILED,
    },
    State.RUNNING: {
        Cause.COMPLETED: State.COMPLETED,
        Cause.FAILED: State.FAILED,
        Cause.RETRYING: State.SCHEDULED,
        Cause.DEFERRED: State.PENDING,
        Cause.INTERRUPTED: State.PENDING,
        Cause.PAUSED: State.PAUSED,
        Cause.CANCELLED: State.CANCELLED,
    },
    State.PAUSED: {
        Cause.RESUMED: State.PENDING,
        Cause.POSTPONED: State.SCHEDULED,
        Cause.CANCELLED: State.CANCELLED,
        Cause.FAILED: State.FAILED,
    },
    State.COMPLETED: {Cause.RERUN: State.PENDING},
    State.FAILED: {Cause.RERUN: State.PENDING},
    State.CANCELLED: {Cause.RERUN: State.PENDING},
}
"""(state, cause) → state; an arrow that is not here does not exist."""

LEASE_MS = 900_000
"""How long a task is leased to the node that runs it; renewed when half of it is over. Longer than
a provider is silent, as a run that writes nothing does not renew."""
REFUNDED = frozenset({Cause.DEFERRED, Cause.INTERRUPTED, Cause.PAUSED})
"""Leaving `running` this way was not the task's doing, so the attempt is not counted."""
CUTTING = frozenset({Cause.RETRYING, Cause.INTERRUPTED, Cause.FAILED})
"""Leaving `running` this way, the attempt has ended without an answer."""


APPROVAL, REVIEW = "approval", "review"
WAITING = {"needs_approval": APPROVAL, "needs_review": REVIEW}
"""What an agent that is paused with this code of its error waits for."""


class EventType(StrEnum):
    """The types of events, which followers get live and can read again later."""

    STATUS = "status"
    ATTEMPT = "attempt"
    CHUNK = "chunk"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    MESSAGE = "message"
    """Further fields of the answer's message, for the next turn."""
    RETRY = "retry"
    RECOVERY = "recovery"
    STEP = "step"
    """An agent asks its model once more."""
    TOOL_STARTED = "tool_started"
    """A tool of an agent begins to run: on the disk before it does."""
    TOOL_OUTPUT = "tool_output"
    """Output of a tool that still runs."""
    ROLLBACK = "rollback"
    """The workspace of an agent was put back to a checkpoint."""
    APPROVAL = "approval"
    """A call of a tool waits for a person, or the person has decided."""


@dataclass(slots=True)
class Draft:
    """An event before the journal gives it its number, id and time."""

    type: EventType
    data: dict[str, Any]


@dataclass(slots=True)
class Request:
    """What was asked; never changes. Times are ms since the epoch, durations seconds.

    The content itself stays on disk (`Store.body`): ten thousand bodies of ten megabytes
    would not fit into memory. `preview` is its first 200 characters.
    """

    id: str
    type: str = "chat"
    model: str | None = None
    lane: str = "short"
    priority: int = 5
    session_id: str | None = None
    owner: str | None = None
    run_at: int | None = None
    timeout_s: float | None = None
    max_retries: int | None = None
    retry_unsafe: bool = False
    cache: bool | None = None
    cache_key: str | None = None
    """Says which requests ask for the same; None where an answer must not be shared."""
    user_metadata: dict[str, Any] | None = None
    preview: str = ""
    route: dict[str, Any] | None = None
    """Its class and why, as it was decided when it came; the model is chosen later."""
    need: int = 0
    """About how much context it needs, the answer included; 0: not estimated."""
    created_at: int = 0
    tokens: int = 0
    """About how many tokens a call for it costs, the answer included."""
    schedule_id: str | None = None
    """The schedule that has made it."""
    callback_url: str | None = None
    """Where the finished task is to be sent."""
    delayed: bool = False
    """Whether `run_at` came from `delay_s`: then the wait is a duration and no moment."""
    traceparent: str | None = None
    tracestate: str | None = None
    """The trace context that its client has sent; see `tasks/trace.py`."""

    @property
    def trace_id(self) -> str:
        """The id of the trace that the task belongs to: its client's, or one with its own id."""
        return self.id.replace("-", "") if self.traceparent is None else self.traceparent[3:35]

    @property
    def session(self) -> tuple[str | None, str] | None:
        """The session: another owner's of the same name is another one."""
        return None if self.session_id is None else (self.owner, self.session_id)


@dataclass(slots=True)
class Task:
    """A request and how far it has come; never changes, as `apply` makes another one.

    `attempts` counts what the task used up (see REFUNDED), `forgiven` how many of them
    a manual retry has written off, `starts` every start there ever was, `seq` the number
    of its last event, `version` its changes of state.
    """

    request: Request
    state: State = State.PENDING
    attempts: int = 0
    forgiven: int = 0
    starts: int = 0
    seq: int = 0
    version: int = 0
    queued_at: int = 0
    updated_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    next_run_at: int | None = None
    name: str | None = None
    model: str | None = None
    route: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    latency: float | None = None
    cached: bool = False
    error: dict[str, Any] | None = None
    finish_reason: str | None = None
    """Why the provider ended the answer, in OpenAI's words."""
    finish_reason_raw: str | None = None
    """The same in the provider's own word."""
    closed_ms: int | None = None
    """How long it took to close the call of a task that a client has stopped."""
    marks: Marks = ()
    """From when on it did what, since it was submitted or retried by hand."""
    steps: int = 0
    """How often an agent has asked its model since it was submitted or retried by hand."""
    tool_calls: int = 0
    """How many calls of tools the model of an agent has asked for."""
    n: int = 0
    """The row's number in the store, in order of arrival; given by the journal."""
    node: str | None = None
    """The node that runs the task; None where no node does."""
    epoch: int = 0
    """The number of the latest run: an entry of an earlier run is refused."""
    lease_until: int | None = None
    """How long other nodes leave the task to its node, which renews it with what it writes."""

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def waiting_for(self) -> str | None:
        """APPROVAL or REVIEW where an agent waits for a person's decision on a call of a tool."""
        if self.state is not State.PAUSED or self.error is None:
            return None
        return WAITING.get(self.error["code"])

    @property
    def own_route(self) -> dict[str, Any] | None:
        """The route of the latest attempt; None where it is still the request's."""
        return None if self.route is self.request.route else self.route

    def trace(self, now: int) -> Spans:
        """What it did how long, until its end or `now`; empty where that was not noted."""
        request, end = self.request, self.finished_at or now
        return trace(self.marks, request.created_at, request.run_at, self.started_at, end)

    @property
    def tries(self) -> int:
        """Attempts used since it was submitted or retried by hand."""
        return self.attempts - self.forgiven


def status(cause: Cause, source: State | None, **facts: Any) -> Draft:
    """The status event for an arrow of the table; IllegalTransition where there is none."""
    return Draft(
        EventType.STATUS, {"status": target(source, cause).value, "cause": cause.value, **facts}
    )


ASKED = {Cause.POSTPONED: "resumed", Cause.RERUN: "retried"}
"""What a client calls it, where its word is another one than ours."""


def target(source: State | None, cause: Cause) -> State:
    """Where an arrow leads."""
    try:
        return TRANSITIONS[source][cause]
    except KeyError:
        raise refusal(source.value if source else "new", cause) from None


def refusal(state: str, cause: Cause) -> IllegalTransition:
    """What to raise where no arrow leads from the state."""
    return IllegalTransition(state, cause.value, ASKED.get(cause))


SUBMITTED = status(Cause.SUBMITTED, None)
"""The first event of nearly every task, made once."""
_PENDING = target(None, Cause.SUBMITTED)


def create(request: Request, at: int, n: int = 0) -> tuple[Task, Draft]:
    """A new task and its first event, both before they are durable."""
    due = request.run_at
    if due is None or due <= at:
        first, state, queued_at, next_run_at = SUBMITTED, _PENDING, at, None
    else:
        first = status(Cause.DELAYED, None, next_run_at=due)
        state, queued_at, next_run_at = target(None, Cause.DELAYED), due, due
    task = Task(
        request,
        state,
        queued_at=queued_at,
        updated_at=at,
        next_run_at=next_run_at,
        route=request.route,
        seq=1,
        version=1,
        n=n,
    )
    return task, first


DOES = {
    EventType.ATTEMPT: "first_token",
    EventType.REASONING: "thinking",
    EventType.CHUNK: "answering",
    EventType.TOOL_STARTED: "tool",
    EventType.STEP: "first_token",
}
"""What a task does from such an event on."""


def apply(task: Task, draft: Draft, at: int, node: str = "") -> Task:
    """The task after the event; `at` is in ms, `node` the one that takes the lease of a start.
    Raises IllegalTransition, changing nothing."""
    if draft.type is EventType.STATUS:
        return _move(task, Cause(draft.data["cause"]), draft.data, at, node)
    decided = draft.type is EventType.APPROVAL and task.state is State.PAUSED
    if task.state is not State.RUNNING and not decided:
        raise IllegalTransition(task.state.value, f"given a {draft.type.value} event")
    kind = DOES.get(draft.type)
    if kind is not None and task.marks and task.marks[-1][0] != kind:
        task = replace(task, marks=marked(task.marks, kind, at))
    if draft.type is EventType.STEP:
        steps = draft.data["number"]
        return replace(task, seq=task.seq + 1, steps=steps, version=task.version + 1)
    if draft.type is EventType.MESSAGE and "step" in draft.data:
        # The attempts before count no more against the retries of an agent's next step.
        forgiven = task.attempts - 1
        return replace(task, seq=task.seq + 1, forgiven=forgiven, version=task.version + 1)
    if draft.type is EventType.TOOL_CALL and "step" in draft.data:
        calls = task.tool_calls + 1
        return replace(task, seq=task.seq + 1, tool_calls=calls, version=task.version + 1)
    if draft.type is EventType.ATTEMPT:
        return replace(
            task,
            seq=task.seq + 1,
            starts=task.starts + 1,
            name=draft.data["name"],
            model=draft.data["model"],
            route=(task.request.route or {}) | (draft.data.get("route") or {}),
            version=task.version + 1,
        )
    if task.lease_until is not None and task.lease_until - at < LEASE_MS // 2:
        return replace(task, seq=task.seq + 1, node=node, lease_until=at + LEASE_MS)
    return replace(task, seq=task.seq + 1)


FACTS: dict[str, Any] = {
    "usage": None, "latency": None, "error": None, "cached": False, "finish_reason": None,
    "finish_reason_raw": None, "closed_ms": None,
}  # fmt: skip
"""The fields of an attempt that a status event may set, with their values before it."""


def _move(task: Task, cause: Cause, facts: dict[str, Any], at: int, node: str) -> Task:
    state = target(task.state, cause)
    changes: dict[str, Any] = {
        "state": state,
        "seq": task.seq + 1,
        "version": task.version + 1,
        "updated_at": at,
        "next_run_at": facts.get("next_run_at"),
        "node": None,
        "lease_until": None,
        "marks": _moved(task, state, cause, facts, at),
    }
    if cause is Cause.STARTED:
        changes |= {"attempts": task.attempts + 1, "started_at": task.started_at or at}
        changes |= {"node": node, "epoch": task.epoch + 1, "lease_until": at + LEASE_MS}
        changes |= FACTS
    elif task.state is State.RUNNING and cause in REFUNDED:
        changes["attempts"] = task.attempts - 1
    elif cause in (Cause.DUE, Cause.RESUMED) and task.started_at is None:
        changes["queued_at"] = at
    elif cause is Cause.RERUN:
        changes |= {"queued_at": at, "forgiven": task.attempts}
        changes |= {"started_at": None, "finished_at": None, **FACTS}
        changes |= {"steps": 0, "tool_calls": 0}
    if state in FINISHED:
        changes["finished_at"] = at
    changes |= {name: facts[name] for name in FACTS if name in facts}
    return replace(task, **changes)


def _moved(task: Task, state: State, cause: Cause, facts: dict[str, Any], at: int) -> Marks:
    """The marks after a change of state."""
    if cause is Cause.RERUN:
        return ((AGAIN, at), (state.value, at))
    marks = task.marks
    if task.state is State.RUNNING and cause in CUTTING:
        marks = marked(marks, CUT, at)
    if state in FINISHED:
        return marks
    kind: str = "first_token" if state is State.RUNNING else state.value
    if cause is Cause.RETRYING:
        kind = "retry"
    elif state is State.PAUSED and facts.get("error") is not None:
        kind = "approval"
    return marked(marks, kind, at)


def shown(task: Task) -> dict[str, Any]:
    """The fields of a task wherever it is shown; `metadata` is the model that served it and how."""
    request = task.request
    agent = request.type == "agent"
    return {
        "task_id": request.id,
        "status": task.state.value,
        "type": request.type,
        "model": request.model,
        "lane": request.lane,
        "priority": request.priority,
        "session_id": request.session_id,
        "attempts": task.attempts,
        "error": task.error,
        "metadata": {
            "model": task.model,
            "name": task.name,
            "latency": task.latency,
            "usage": task.usage,
            "cached": task.cached,
            "finish_reason": task.finish_reason,
            "finish_reason_raw": task.finish_reason_raw,
            "route": task.route,
            "trace_id": request.trace_id,
            **({"steps": task.steps, "tool_calls": task.tool_calls} if agent else {}),
        },
        "user_metadata": request.user_metadata,
        "created_at": rfc3339(request.created_at),
        "started_at": optional_rfc3339(task.started_at),
        "finished_at": optional_rfc3339(task.finished_at),
    }
