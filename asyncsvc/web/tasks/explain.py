"""`GET /tasks/{id}/explain`.

Owns the way from a task's events to its story. Promises to read them in pages, so that a long
stream holds nobody up. Never keeps anything.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.monitoring.explain import Story
from asyncsvc.tasks.state import State, Task
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.operations import operation
from asyncsvc.web.http.resources import resource
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks import explain_schemas, views
from asyncsvc.web.tasks.routes import services


@operation(answer=explain_schemas.Explanation, errors=("task_not_found",))
async def explain(request: Request) -> Response:
    """GET /tasks/{id}/explain: its timeline, what it waited for, each attempt, tokens.

    It is told from the stored events and is the same after a restart of the service.
    """
    parts = services(request)
    return JSON(await told(parts, request.path_params["task_id"]))


async def told(parts: Services, task_id: str) -> dict[str, Any]:
    """Raises TaskNotFound."""
    task = await parts.journal.task(task_id)
    story, seq = Story(task), 0
    while seq < task.seq and (rows := await parts.journal.store.events(task.n, seq)):
        for row in rows[: task.seq - seq]:  # it may have gone on meanwhile
            story.add(row)
        seq = rows[-1].seq
    waited = None
    if task.state is State.PENDING:
        waited = parts.scheduler.waited(task)
    return story.told(parts.journal.now(), _now(parts, task), waited)


def _now(parts: Services, task: Task) -> dict[str, Any] | None:
    if task.finished:
        return None
    found = views.progress(parts, task)
    return {name: found[name] for name in ("position", "eta_s", "reason", "running_s")
            if name in found}  # fmt: skip


ROUTES = [resource("/tasks/{task_id}/explain", GET=explain)]
