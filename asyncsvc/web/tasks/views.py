"""How tasks and their progress look to a client.

Owns the shapes of the contract. Promises that times are RFC 3339 and that lists carry
previews instead of texts. Never reads anything but what it is given or the service's state.
"""

import asyncio
from typing import Any

import orjson

from asyncsvc.agents.history import OWN_FIELDS
from asyncsvc.clock import optional_rfc3339, rfc3339
from asyncsvc.providers.answers.tool_calls import put_together
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import UNFINISHED, EventType, State, Task
from asyncsvc.tasks.state import shown as shown_task
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks import schemas


def summary(task: Task) -> dict[str, Any]:
    """A task without its texts."""
    return shown_task(task) | {
        "owner": task.request.owner,
        "schedule_id": task.request.schedule_id,
        "updated_at": rfc3339(task.updated_at),
        "next_run_at": optional_rfc3339(task.next_run_at),
        "closed_ms": task.closed_ms,
    }


def item(services: Services, task: Task, result_preview: str | None) -> dict[str, Any]:
    """A task in a list."""
    # The row does not have the marks that text has made since the last change of state.
    live = services.journal.live.get(task.id, task)
    latest = live if live.version == task.version else task
    shown = summary(task)
    if (route := shown["metadata"]["route"]) is not None:
        # The task alone has the candidates: as many as there are models, 1.6 KB a task.
        route = {name: value for name, value in route.items() if name != "candidates"}
        shown["metadata"]["route"] = route
    return shown | {
        "spans": latest.trace(services.journal.now()),
        "content_preview": task.request.preview,
        "result_preview": result_preview,
    }


async def whole(services: Services, task: Task) -> dict[str, Any]:
    """A task with its texts; the result of an unfinished one is the text so far. It holds all of
    them in memory: an answer to a client is made by `whole_task.answer`."""
    store = services.journal.store
    body: dict[str, Any] = loads(await store.body(task.n))
    result: Any = await store.result(task.n)
    if result is None and has_text_so_far(task):
        parts = [loads(data)["text"] for data in await store.since_attempt(task.n)]
        result = "".join(parts) or None
    elif result is not None and is_vectors(task):
        result = loads(result)
    return summary(task) | body | {"result": result} | await beside_texts(services, task)


def has_text_so_far(task: Task) -> bool:
    """Whether a task without a result may have text of its latest attempt."""
    return task.state in UNFINISHED and task.starts > 0


def is_vectors(task: Task) -> bool:
    """Whether the result is JSON instead of a text."""
    return task.request.type == "embedding" and task.state is State.COMPLETED


async def beside_texts(services: Services, task: Task) -> dict[str, Any]:
    """The fields of a whole task that come after its result."""
    spans = task.trace(services.journal.now())
    view = {"seq": task.seq, "spans": spans} | await _beside_text(services, task)
    view["callback"] = await _callback(services, task)
    if task.waiting_for is not None:
        view["approval"] = await _approval(services, task)
    if task.state is State.PENDING:
        forecast = services.eta_estimator.of(task)
        view |= {"position": forecast.position, "eta_s": forecast.eta_s}
    return view


async def _approval(services: Services, task: Task) -> dict[str, Any] | None:
    """The call of a tool that waits for a person, from the event that says so."""
    found, after, texts = None, 0, services.journal.store.texts
    while rows := await texts.events_of(task.n, (EventType.APPROVAL,), after):
        found, after = loads(rows[-1].data), rows[-1].seq
    if found is None or "decision" in found:
        return None  # decided a moment ago
    shown = {name: found.get(name) for name in ("id", "name", "arguments", "diff")}
    return shown | {"review": found.get("review", False)}


async def _beside_text(services: Services, task: Task) -> dict[str, Any]:
    """What an answer holds beside its text: tool calls, and fields for the next turn."""
    found: dict[str, Any] = {}
    if task.state is not State.COMPLETED or task.request.type == "embedding":
        return found
    store = services.journal.store
    agent = task.request.type == "agent"  # its calls have results, and are in its history
    if task.finish_reason in ("tool_calls", "length") and not agent:
        pieces = [loads(p) for p in await store.since_attempt(task.n, EventType.TOOL_CALL)]
        if calls := put_together(piece for piece in pieces if "by" not in piece):
            found["tool_calls"] = [call_shown(call) for call in calls]
    if rows := await store.since_attempt(task.n, EventType.MESSAGE):
        fields = {k: v for k, v in loads(rows[-1]).items() if k not in OWN_FIELDS}
        found |= {"message": fields} if fields else {}
    return found


def call_shown(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call, or a piece of one, in OpenAI's shape: a custom tool has a name and an input."""
    if call.get("type") != "custom":
        return call
    held = call["function"]
    given = {"input" if name == "arguments" else name: value for name, value in held.items()}
    return {name: value for name, value in call.items() if name != "function"} | {"custom": given}


async def _callback(services: Services, task: Task) -> schemas.Callback | None:
    """How far the delivery of the task's end is; None where no notice was asked for."""
    if task.request.callback_url is None:
        return None
    tried = await services.journal.store.deliveries.last_try(task)
    return {
        "url": task.request.callback_url,
        "state": tried.state,
        "attempts": tried.attempts,
        "last_status": tried.last_status,
        "last_error": tried.last_error,
        "next_at": optional_rfc3339(tried.next_at),
    }


def progress(services: Services, task: Task) -> dict[str, Any]:
    """The data of a progress event for a task that waits or runs."""
    now = services.journal.now()
    elapsed = max(now - task.request.created_at, 0) / 1000
    data: dict[str, Any] = {"status": task.state.value, "elapsed_s": round(elapsed, 3)}
    forecast = services.eta_estimator.of(task)
    data |= {"position": forecast.position, "eta_s": forecast.eta_s, "reason": forecast.reason}
    execution = services.executor.executions.get(task.id)
    if execution is not None:
        running = max(asyncio.get_running_loop().time() - execution.started, 1e-3)
        tokens = execution.chunk_writer.pieces
        data |= {
            "running_s": round(running, 3),
            "tokens": tokens,
            "tokens_per_s": round(tokens / running, 2),
        }
    if task.next_run_at is not None:
        data["next_run_at"] = rfc3339(task.next_run_at)
    return data


def progress_event(services: Services, task: Task) -> str:
    """A progress event as it is sent: live only, so without a number."""
    event = {
        "id": None,
        "task_id": task.id,
        "seq": None,
        "type": "progress",
        "ts": rfc3339(services.journal.now()),
        "data": progress(services, task),
    }
    return orjson.dumps(event).decode()
