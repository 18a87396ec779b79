"""`GET /tasks/{id}/ledger`: the calls of tools of an agent, each with what has become of it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.agents.history import ToolCall, history
from asyncsvc.clock import optional_rfc3339
from asyncsvc.errors import Conflict
from asyncsvc.tasks.state import Task
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.large_answers import roomy
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.tasks.agent_schemas import Ledger


def agent_only(task: Task, what: str) -> None:
    """Raises Conflict for a task that is no agent; `what` it lacks."""
    if task.request.type != "agent":
        raise Conflict(
            "illegal_transition",
            f"the task is of type {task.request.type}; only an agent has {what}",
        )


@operation(scope=Permission.READ, answer=Ledger, errors=("task_not_found", "illegal_transition"))
async def ledger(request: Request) -> Response:
    """GET /tasks/{id}/ledger: the calls of tools of an agent, each with its state and result."""
    parts = services(request)
    task = await parts.task(caller(request), request.path_params["task_id"])
    agent_only(task, "a ledger")

    async def make() -> Response:
        found = await history(parts.journal, task)
        return JSON({"calls": [shown(call) for call in found.calls]})

    volume = await parts.journal.store.texts.volume(task.n)
    return await roomy(parts.answers, volume, request.method, make)


def shown(call: ToolCall) -> dict[str, Any]:
    """A call as the ledger shows it."""
    result = call.result
    if result is not None:
        names = ("ok", "output", "exit_code", "duration_s", "truncated")
        result = {name: result.get(name) for name in names}
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "step": call.step,
        "state": call.state.value,
        "checkpoint": call.checkpoint,
        "decision": call.decision,
        "reason": call.reason,
        "started_at": optional_rfc3339(call.started_at),
        "ended_at": optional_rfc3339(call.ended_at),
        "result": result,
    }


ROUTES = [resource("/tasks/{task_id}/ledger", GET=ledger)]
