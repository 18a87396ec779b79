"""`POST /tasks`: the route that submits one task, and the parser of a task's fields.

The answer is sent when the task is on the disk. `intake.Intake` decides whether a task is taken.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.errors import InvalidRequest
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http import body, errors
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks import schemas
from asyncsvc.web.tasks.schemas import KEY_MOST

PATH = "/tasks"
ADMISSION = ("model_not_found", "queue_full", "no_model", "overloaded", "shutting_down")
"""Codes of a submit that is not taken."""


S = TypeVar("S", bound=BaseModel)


def parse(value: dict[str, Any], prefix: str = "") -> Submission:
    """One task's fields. Raises InvalidRequest."""
    return parse_as(Submission, value, prefix)


def parse_as(kind: type[S], value: dict[str, Any], prefix: str = "") -> S:
    """The fields of a body, as a model of that kind. Raises InvalidRequest."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise errors.invalid(error, prefix) from None


def read(data: bytes) -> Submission:
    """The task in a body. Raises RequestError."""
    return parse(body.as_object(data))


@operation(
    answer=schemas.Accepted,
    status=202,
    body=Submission,
    example={"content": "What is HTTP?", "priority": 7},
    headers=schemas.SubmitHeaders,
    errors=(*ADMISSION, "idempotency_conflict"),
    also={200: "the first answer again, for an Idempotency-Key that was used before"},
    gives=("Location",),
)
async def submit(request: Request) -> Response:
    """POST /tasks: submit a task.

    The answer is sent when the task is on the disk.
    """
    services: Services = request.scope["state"]["services"]
    services.intake.turn_away()
    key = idempotency_key(request.headers)
    limit = services.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, services.bodies) as (data, aside):
        submission = await aside(read, data)
        accepted = await services.intake.submit(submission, request.scope["owner"], key, aside)
    headers = {"location": f"{PATH}/{accepted.task_id}"}
    return JSON(accepted.answer, 200 if accepted.repeated else 202, headers)


def idempotency_key(headers: Headers) -> str | None:
    """The key of a request that any route has. Raises InvalidRequest."""
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= KEY_MOST:
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {KEY_MOST} characters", param="Idempotency-Key"
        )
    return key
