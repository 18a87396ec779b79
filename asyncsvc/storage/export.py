"""Tasks as JSON lines: how one leaves, and what is believed of one that comes.

Owns the fields of a line and the reading of tasks for it. Promises that a line has what the
task's own page has, whole texts included; that nothing of a line is stored which could not
have come by a submit or by a run. Never writes.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated, Any, Self

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from asyncsvc.clock import from_rfc3339, optional_rfc3339
from asyncsvc.storage import export_agents
from asyncsvc.storage.entries import loads
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import (
    FINISHED,
    Cause,
    Draft,
    EventType,
    Request,
    State,
    Task,
    shown,
    status,
)
from asyncsvc.tasks.submission import Moment, Submission

NOT_TAKEN_BACK = frozenset({"metadata", "delay_s", "max_wait_s"})
"""Fields of a submit that are something else in a line, or were over when it was taken."""
ID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


Archive = Callable[[Task], AsyncIterator[bytes]]
"""The workspace of an agent as an archive, in pieces; none where it has none."""
AT_ONCE = nullcontext()
"""The turn of an export that waits for no other."""


async def lines(
    store: Store,
    state: str | None = None,
    owner: str | None = None,
    archive: Archive | None = None,
    turn: AbstractAsyncContextManager[object] = AT_ONCE,
) -> AsyncIterator[bytes]:
    """One line for each task of that owner or (None) of all, oldest first; read in pages, so that
    it never holds many texts. The workspace of a finished agent stands before it, in lines of its
    own. `turn` is held while there is a page, which one task alone may make large."""
    after: int | None = 0
    while after is not None:
        async with turn:
            page = await store.exported(after, state, owner)
            async for line in _lines(store, page, archive):
                yield line
                del line
            after = page[-1][0].n if page else None
            del page  # an export that waits for its turn holds none


async def _lines(
    store: Store,
    page: list[tuple[Task, bytes, str | None, list[tuple[str, str]]]],
    archive: Archive | None,
) -> AsyncIterator[bytes]:
    for task, body, result, events in page:
        if task.request.type != "agent":
            yield _line(task, loads(body), result, _answer_parts(events))
            continue
        parts = await _agent_parts(store, task)
        if archive is not None and task.finished:
            digest, size = hashlib.sha256(), 0
            async for piece in archive(task):
                yield _workspace_line(task, size, piece)
                digest.update(piece)
                size += len(piece)
            if size:
                parts["workspace"] = {"bytes": size, "sha256": digest.hexdigest()}
        yield _line(task, loads(body), result, parts)


def _workspace_line(task: Task, offset: int, piece: bytes) -> bytes:
    data = base64.b64encode(piece).decode()
    return orjson.dumps({"workspace_of": task.id, "offset": offset, "data": data}) + b"\n"


async def _agent_parts(store: Store, task: Task) -> dict[str, Any]:
    found = await export_agents.history(store, task)
    return {} if found is None else {"history": found}


def _answer_parts(events: list[tuple[str, str]]) -> dict[str, Any]:
    """What an answer holds beside its text: `tool_calls`, each piece an event, and `message`."""
    found: dict[str, Any] = {}
    for kind, data in events:
        if kind == EventType.ATTEMPT:
            found = {}  # an earlier attempt is void
        elif kind == EventType.TOOL_CALL:
            found.setdefault("tool_calls", []).append(loads(data))
        else:
            found["message"] = loads(data)
    return found


def _line(task: Task, body: dict[str, Any], result: str | None, parts: dict[str, Any]) -> bytes:
    request = task.request
    if request.type == "embedding" and result and task.state is State.COMPLETED:
        answer = loads(result)
    else:
        answer = result if task.finished else None
    fields = shown(task) | {
        "owner": request.owner,
        # The service that has finished a task delivers its callback, and only once.
        "callback_url": None if task.finished else request.callback_url,
        "run_at": optional_rfc3339(request.run_at),
        "timeout_s": request.timeout_s,
        "max_retries": request.max_retries,
        "retry_unsafe": request.retry_unsafe,
        "cache": request.cache,
        "result": answer,
    }
    return orjson.dumps(fields | body | parts) + b"\n"


Count = Annotated[int, Field(ge=0, le=1 << 31)]
Name = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Of an owner, a model: one line of text."""
CODE = r"^[a-z0-9_]{1,64}$"
LATENCY_MOST_S = 366 * 86_400.0
SMALL_BYTES = 64 * 1024
"""Of what is stored beside the texts of a task, each as JSON."""
TOKENS_MOST = 1 << 53
"""A number that every reader of JSON keeps exactly."""


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(value)) > SMALL_BYTES:
        raise ValueError(f"has more than {SMALL_BYTES} bytes as JSON")
    return value


def _counted(usage: dict[str, Any]) -> dict[str, Any]:
    """Token counts are added up elsewhere: they must be numbers."""
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        count = usage.get(name)
        if count is not None and (type(count) is not int or not 0 <= count <= TOKENS_MOST):
            raise ValueError(f"{name} must be a whole number from 0")
    return _small(usage)


class Served(BaseModel):
    """`metadata` of a line: who has served the task, and how."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: Name | None = None
    name: Name | None = None
    latency: float | None = Field(None, ge=0, le=LATENCY_MOST_S, allow_inf_nan=False)
    usage: Annotated[dict[str, Any], AfterValidator(_counted)] | None = None
    cached: bool = False
    finish_reason: Annotated[str, Field(max_length=100)] | None = None
    finish_reason_raw: Annotated[str, Field(max_length=100)] | None = None
    route: Annotated[dict[str, Any], AfterValidator(_small)] | None = None
    steps: Count = 0
    tool_calls: Count = 0


class Fault(BaseModel):
    """`error` of a line."""

    model_config = ConfigDict(extra="ignore", strict=True)

    code: str = Field(pattern=CODE)
    message: str = Field(max_length=SMALL_BYTES)
    retryable: bool = True


ARCHIVE_MOST = 1 << 40


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be a string of base64")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError(f"is no base64: {error}") from None


class WorkspacePiece(BaseModel):
    """A line that holds a piece of a workspace."""

    model_config = ConfigDict(extra="forbid", strict=True)

    workspace_of: str = Field(pattern=ID)
    offset: int = Field(ge=0, le=ARCHIVE_MOST)
    data: Annotated[bytes, BeforeValidator(_decoded)]


class Packed(BaseModel):
    """`workspace` of a line: the archive in the lines before it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    bytes: int = Field(ge=0, le=ARCHIVE_MOST)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Fork(BaseModel):
    """`forked_from` of a line."""

    model_config = ConfigDict(extra="ignore", strict=True)

    task_id: str = Field(pattern=ID)
    step: Count


class Record(BaseModel):
    """What a line says beside the fields of a submit."""

    model_config = ConfigDict(extra="ignore", strict=True)

    task_id: str = Field(pattern=ID)
    status: Annotated[State, Field(strict=False)]
    owner: Name | None = None
    attempts: Count = 0
    error: Fault | None = None
    metadata: Served = Served()
    user_metadata: dict[str, Any] | None = None
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    result: str | list[list[float]] | None = None
    tool_calls: list[dict[str, Any]] = Field([], max_length=1000)
    message: dict[str, Any] | None = None
    history: export_agents.History = []
    """Of an agent."""
    forked_from: Fork | None = None
    workspace: Packed | None = None
    submission: Submission

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """Raises ValidationError."""
        asked = {k: v for k, v in line.items() if k in Submission.model_fields}
        asked = {k: v for k, v in asked.items() if k not in NOT_TAKEN_BACK}
        asked["metadata"] = line.get("user_metadata")
        if line.get("status") in FINISHED:
            asked.pop("callback_url", None)
        submission = Submission.model_validate(asked)
        return cls.model_validate({**line, "submission": submission})

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def text(self) -> str | None:
        """The result as it is stored."""
        if self.result is None or isinstance(self.result, str):
            return self.result
        return orjson.dumps(self.result).decode()

    def life(self, now: int) -> list[tuple[int, Draft]]:
        """The events of a finished task, in short: created, started, answered, ended. None of them
        is later than `now`: a task that ended in the future would never be old enough to go."""
        return [(min(at, now), draft) for at, draft in self._life()]

    def _life(self) -> list[tuple[int, Draft]]:
        created = from_rfc3339(self.created_at)
        over = from_rfc3339(self.finished_at or self.started_at or self.created_at)
        begun = from_rfc3339(self.started_at) if self.started_at else None
        found = [(created, status(Cause.SUBMITTED, None))]
        source = State.PENDING
        if begun is not None or self.status is State.COMPLETED:
            source, at = State.RUNNING, over if begun is None else begun
            why = {"number": 1, "model": self.metadata.model, "name": self.metadata.name}
            found.append((at, status(Cause.STARTED, State.PENDING)))
            found.append((at, Draft(EventType.ATTEMPT, {**why, "why": "imported"})))
            found += export_agents.drafts(self.history, at, max(at, over))
            if isinstance(self.result, str) and self.result and not self.history:
                found.append((over, Draft(EventType.CHUNK, {"text": self.result})))
            found += [(over, Draft(EventType.TOOL_CALL, call)) for call in self.tool_calls]
            if self.message:
                found.append((over, Draft(EventType.MESSAGE, self.message)))
        error = None if self.error is None else self.error.model_dump()
        facts = {"usage": self.metadata.usage, "latency": self.metadata.latency, "error": error}
        found.append((over, status(Cause(self.status.value), source, **facts)))
        return found

    def task(self, request: Request, now: int) -> Task:
        """The finished task with this request."""
        life = self.life(now)
        started = min(from_rfc3339(self.started_at), now) if self.started_at else None
        return Task(
            request,
            self.status,
            attempts=self.attempts,
            starts=sum(draft.type is EventType.ATTEMPT for _, draft in life),
            queued_at=request.created_at,
            updated_at=life[-1][0],
            started_at=started,
            finished_at=life[-1][0],
            **self.metadata.model_dump(),
            error=None if self.error is None else self.error.model_dump(),
        )
