"""The HTTP routes of schedules.

Owns the shape of a schedule on the wire and the checks of its body. Promises that a fault of the
task within is reported as by a submit, with `task.` before the field. Never keeps anything
between two requests.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.clock import optional_rfc3339, rfc3339
from asyncsvc.cron.schedules import Schedule, ScheduleRequest
from asyncsvc.errors import InvalidRequest, RequestError
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON, check_names, check_query
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks import schemas
from asyncsvc.web.tasks.routes import idempotency_key, parse
from asyncsvc.web.tasks.schemas import AllSchedules, NewSchedule, SubmitHeaders, WholeSchedule

PATH = "/schedules"
NAME_MOST = 100
WHEN = ("run_at", "delay_s")
"""The fields that say when a task runs: the schedule's own fields do that."""


@operation(
    scope=Permission.SUBMIT,
    answer=WholeSchedule,
    status=201,
    body=NewSchedule,
    headers=SubmitHeaders,
    errors=("model_not_found", "queue_full", "shutting_down", "idempotency_conflict"),
    also={200: "the schedule of that name, replaced, or of an Idempotency-Key used before"},
    gives=("Location",),
    example={
        "name": "news",
        "cron": "0 9 * * 1-5",
        "timezone": "Europe/Berlin",
        "task": {"content": "News?"},
    },
)
async def create(request: Request) -> Response:
    """POST /schedules: make a recurring task.

    A `name` that the owner has used before replaces what that schedule does.
    """
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        value = await aside(body.as_object, data)
        return await _create(request, parts, value)


async def _create(request: Request, parts: Services, value: dict[str, Any]) -> Response:
    check_names(value, NewSchedule.__annotations__, "field of a schedule")
    name = _text(value, "name") if value.get("name") is not None else None
    if name is not None and len(name) > NAME_MOST:
        raise InvalidRequest(f"name must have at most {NAME_MOST} characters", param="name")
    cron = _text(value, "cron")
    timezone = _text(value, "timezone", "UTC")
    task = value.get("task")
    if not isinstance(task, dict):
        raise InvalidRequest("task must be an object with the fields of a task", param="task")
    for field in WHEN:
        if task.get(field) is not None:
            raise InvalidRequest(
                f"task.{field}: the schedule says when its task runs; leave it out",
                param=f"task.{field}",
            )
    wish = ScheduleRequest(cron, timezone, parse(task, "task."), caller(request).owner, name)
    key = idempotency_key(request.headers)
    try:
        made, new = await parts.schedules.create(wish, key)
    except RequestError as error:
        if error.param in Submission.model_fields:
            error.param = f"task.{error.param}"
        raise
    headers = {"Location": f"{PATH}/{made.id}"}
    return JSON(_view(made) | {"task": task}, status_code=201 if new else 200, headers=headers)


@operation(scope=Permission.READ, answer=AllSchedules, errors=("invalid_request",))
async def listing(request: Request) -> Response:
    """GET /schedules: those that the caller may see, oldest first."""
    check_query(request.query_params, (), "filter of schedules")
    return JSON(
        {"schedules": [_view(one) for one in services(request).schedules.all(caller(request))]}
    )


@operation(scope=Permission.READ, answer=WholeSchedule, errors=("not_found",))
async def show(request: Request) -> Response:
    """GET /schedules/{id}: one schedule with the task that it submits."""
    schedules, schedule_id = services(request).schedules, request.path_params["schedule_id"]
    task = await schedules.task(caller(request), schedule_id)
    return JSON(_view(schedules.get(caller(request), schedule_id)) | {"task": task})


@operation(scope=Permission.SUBMIT, status=204, errors=("not_found",))
async def delete(request: Request) -> Response:
    """DELETE /schedules/{id}: submit nothing more; what it has submitted stays."""
    await services(request).schedules.delete(caller(request), request.path_params["schedule_id"])
    return Response(status_code=204)


def _text(value: dict[str, Any], name: str, default: str | None = None) -> str:
    found = value.get(name, default)
    if not isinstance(found, str) or not found.strip():
        raise InvalidRequest(f"{name} must be a string that is not empty", param=name)
    return found


def _view(schedule: Schedule) -> schemas.Schedule:
    return {
        "schedule_id": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "content_preview": schedule.preview,
        "created_at": rfc3339(schedule.created_at),
        "next_run_at": optional_rfc3339(schedule.due_at),
        "last_run_at": optional_rfc3339(schedule.last_run_at),
        "last_due_at": optional_rfc3339(schedule.last_due_at),
        "last_task_id": schedule.last_task_id,
        "runs": schedule.runs,
        "last_error": schedule.last_error,
    }


ROUTES = [
    resource(PATH, POST=create, GET=listing),
    resource(PATH + "/{schedule_id}", GET=show, DELETE=delete),
]
