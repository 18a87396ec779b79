"""How tasks, models and progress look to a client.

Owns the shapes of the contract. Promises that times are RFC 3339 and that lists carry
previews instead of texts. Never reads anything but what it is given or the service's state.
"""

import asyncio
from typing import Any, Literal

import orjson

from asyncsvc.agents.history import OWN_FIELDS
from asyncsvc.clock import optional_rfc3339, rfc3339
from asyncsvc.providers.answers.tool_calls import put_together
from asyncsvc.providers.upstream import Upstream
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import UNFINISHED, EventType, State, Task, shown
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks import schemas


def summary(task: Task) -> dict[str, Any]:
    """A task without its texts."""
    return shown(task) | {
        "owner": task.request.owner,
        "schedule_id": task.request.schedule_id,
        "updated_at": rfc3339(task.updated_at),
        "next_run_at": optional_rfc3339(task.next_run_at),
    }


def item(task: Task, result_preview: str | None) -> dict[str, Any]:
    """A task in a list."""
    return summary(task) | {
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
    view = {"seq": task.seq} | await _beside_text(services, task)
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


def model(services: Services, name: str) -> schemas.ModelState:
    """One model of the settings."""
    settings = services.settings.models[name]
    upstreams = services.catalogue.of(name)
    gates = [_gate(upstream) for upstream in upstreams]
    latencies = [
        u.gate.statistics.service_s for u in upstreams if u.gate.statistics.service_s is not None
    ]
    lacks = services.catalogue.lacking().get(name)
    since = services.holds.since(name)
    states = [gate["breaker"] for gate in gates]
    return {
        "name": name,
        "aliases": settings.aliases,
        "type": settings.type,
        "model": upstreams[0].model_id if upstreams else settings.model_ids[0],
        "enabled": lacks is None,
        "reason": lacks or (None if since is None else f"{name} is paused"),
        "paused": since is not None,
        "paused_at": optional_rfc3339(since),
        "in_flight": sum(gate["in_flight"] for gate in gates),
        "concurrency": _all_keys(settings.concurrency, [u.gate.concurrency for u in upstreams]),
        "concurrency_auto": settings.concurrency == "auto",
        "calls_last_60s": sum(gate["calls_in_window"] for gate in gates),
        "rpm": _all_keys(settings.rpm, [u.gate.window.limit for u in upstreams]),
        "rpm_auto": settings.rpm == "auto",
        "tpm": settings.tpm * max(len(upstreams), 1),
        "breaker": "closed" if "closed" in states or not states else states[0],
        "queue_depth": services.scheduler.depth(name),
        "latency_s": round(min(latencies), 3) if latencies else None,
        "calls": sum(upstream.gate.statistics.calls for upstream in upstreams),
        "errors": sum(upstream.gate.statistics.errors for upstream in upstreams),
        "waiting_for": next((gate["waiting_for"] for gate in gates if gate["waiting_for"]), None),
        "ready": next((u.ready for u in upstreams), None),
        "gates": gates,
    }


def _all_keys(setting: int | Literal["auto"], of_gates: list[int]) -> int | None:
    """A limit over all keys, as it is now; None where it is learned and no key is there."""
    if of_gates:
        return sum(of_gates)
    return None if setting == "auto" else setting


def _gate(upstream: Upstream) -> schemas.Gate:
    gate = upstream.gate
    now = gate.time()
    return {
        "name": gate.name,
        "in_flight": gate.busy,
        "calls_in_window": gate.statistics.recent(60.0),
        "concurrency": gate.concurrency,
        "window_used": gate.window.used(now),
        "window_limit": gate.window.limit,
        "window_s": gate.window.span_s,
        "tokens_used": gate.budget.used(now),
        "tokens_limit": gate.budget.limit,
        "learned": gate.adaptive.as_dict() if gate.adaptive.learns else None,
        "breaker": gate.breaker.state(gate.time()).value,
        "waiting_for": gate.describe(),
    }
