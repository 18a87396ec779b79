"""How tasks and events look in the database and on the wire.

Owns the columns of `tasks`, the translation between rows and `Task`, and an event's JSON.
Promises that an event's wire text is the same whether it comes from memory or from disk.
Never executes anything.
"""

from typing import Any, NamedTuple

import orjson

from asyncsvc.clock import rfc3339
from asyncsvc.errors import DatabaseDamaged
from asyncsvc.storage.refusals import loads
from asyncsvc.tasks.state import Request, State, Task

REQUEST_COLUMNS = (
    "n", "id", "type", "lane", "priority", "wanted_model", "session_id", "owner", "run_at",
    "timeout_s", "max_retries", "retry_unsafe", "cache", "cache_key", "user_metadata", "preview",
    "decision", "need", "created_at", "tokens", "schedule_id", "callback_url",
    "delayed",
)  # fmt: skip
LIFE_COLUMNS = (
    "state", "attempts", "forgiven", "starts", "version", "queued_at", "updated_at", "started_at",
    "finished_at", "next_run_at", "name", "model", "route", "usage", "latency", "cached", "error",
    "finish_reason", "finish_reason_raw",
)  # fmt: skip
TASK_COLUMNS = REQUEST_COLUMNS + LIFE_COLUMNS

INSERT_TASK = f"INSERT INTO tasks ({', '.join(TASK_COLUMNS)})"
UPDATE_TASK = (
    f"UPDATE tasks SET {', '.join(f'{name} = ?' for name in LIFE_COLUMNS)} "
    "WHERE n = ? AND version = ?"
)
SELECT_TASK = f"SELECT {', '.join(f'tasks.{name}' for name in TASK_COLUMNS)}"

_STATES = frozenset(State)


class EventRow(NamedTuple):
    """An event as the `events` table keeps it; `data` is JSON text."""

    id: int
    task_n: int
    seq: int
    type: str
    ts: int
    data: str

    def event(self, task_id: str) -> "Event":
        return Event(self, task_id)


class Event:
    """A numbered event, and the JSON text that every follower is sent.

    The text is made when the first of them asks for it, and once: most events of a busy
    service have no follower.
    """

    __slots__ = ("_row", "_wire", "id", "seq", "task_id", "type")

    def __init__(self, row: EventRow, task_id: str) -> None:
        self.id = row.id
        self.seq = row.seq
        self.type = row.type
        self.task_id = task_id
        self._row = row
        self._wire: str | None = None

    @property
    def data(self) -> Any:
        return loads(self._row.data)

    @property
    def wire(self) -> str:
        if self._wire is None:
            row = self._row
            self._wire = (
                f'{{"id":{row.id},"task_id":"{self.task_id}","seq":{row.seq},"type":"{row.type}",'
                f'"ts":"{rfc3339(row.ts)}","data":{row.data}}}'
            )
        return self._wire


def dumps(value: Any) -> str | None:
    """JSON text, or None for None."""
    return None if value is None else orjson.dumps(value).decode()


def told(data: dict[str, Any]) -> str:
    """An event's data as JSON text. The engine counts in ms, clients are told RFC 3339."""
    due = data.get("next_run_at")
    if due is not None:
        data = data | {"next_run_at": rfc3339(due)}
    return orjson.dumps(data).decode()


def _loads(text: str | None) -> Any:
    return None if text is None else loads(text)


def served(task: Task) -> dict[str, Any]:
    """Who has served the task, and how: `metadata` wherever a task is told."""
    return {
        "model": task.model,
        "name": task.name,
        "latency": task.latency,
        "usage": task.usage,
        "cached": task.cached,
        "finish_reason": task.finish_reason,
        "finish_reason_raw": task.finish_reason_raw,
        "route": task.route,
    }


def life_row(task: Task) -> tuple[Any, ...]:
    """The values of LIFE_COLUMNS. A route that is still the request's is not written twice."""
    return (
        task.state.value, task.attempts, task.forgiven, task.starts, task.version, task.queued_at,
        task.updated_at, task.started_at, task.finished_at, task.next_run_at, task.name,
        task.model, None if task.route is task.request.route else dumps(task.route),
        dumps(task.usage), task.latency, int(task.cached), dumps(task.error),
        task.finish_reason, task.finish_reason_raw,
    )  # fmt: skip


def request_row(task: Task) -> tuple[Any, ...]:
    """The values of REQUEST_COLUMNS."""
    request = task.request
    return (
        task.n, request.id, request.type, request.lane, request.priority, request.model,
        request.session_id, request.owner, request.run_at, request.timeout_s,
        request.max_retries, int(request.retry_unsafe),
        None if request.cache is None else int(request.cache), request.cache_key,
        dumps(request.user_metadata), request.preview, dumps(request.route), request.need,
        request.created_at, request.tokens, request.schedule_id, request.callback_url,
        int(request.delayed) or None,
    )  # fmt: skip


def task_of(row: Any, seq: int) -> Task:
    """The task of a row that begins with TASK_COLUMNS. Raises DatabaseDamaged."""
    (
        n, id_, type_, lane, priority, wanted, session_id, owner, run_at, timeout_s, max_retries,
        retry_unsafe, cache, cache_key, user_metadata, preview, decision, need, created_at, tokens,
        schedule_id, callback_url, delayed, state, attempts, forgiven, starts, version, queued_at,
        updated_at, started_at,
        finished_at, next_run_at, name, model, route, usage, latency, cached, error,
        finish_reason, finish_reason_raw,
    ) = row[: len(TASK_COLUMNS)]  # fmt: skip
    request = Request(
        id_, type_, wanted, lane, priority, session_id, owner, run_at, timeout_s, max_retries,
        bool(retry_unsafe), None if cache is None else bool(cache), cache_key,
        _loads(user_metadata), preview, _loads(decision), need, created_at, tokens,
        schedule_id, callback_url, bool(delayed),
    )  # fmt: skip
    if state not in _STATES:
        raise DatabaseDamaged("the database is damaged: a task is in no state that there is")
    return Task(
        request, State(state), attempts, forgiven, starts, seq, version, queued_at, updated_at,
        started_at, finished_at, next_run_at, name, model,
        request.route if route is None else _loads(route), _loads(usage), latency,
        bool(cached), _loads(error), finish_reason, finish_reason_raw, n,
    )  # fmt: skip
