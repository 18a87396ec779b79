"""The HTTP routes that steer a task, and the operations that these and the WebSocket share.

An operation takes the fields of a body or of a message and gives the task as it then stands; a
field that it does not have is refused by name.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.errors import InvalidRequest
from asyncsvc.intake.decisions import AFTER_REVIEW
from asyncsvc.tasks.state import Task
from asyncsvc.tasks.submission import STEPS_MOST
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON, check_names
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks import schemas, whole_task
from asyncsvc.web.tasks.agent_schemas import Origin
from asyncsvc.web.tasks.ledger import agent_only
from asyncsvc.web.tasks.routes import ADMISSION

STEERING = ("task_not_found", "illegal_transition")
REASON_MOST = 4096
BODY_MOST = 64 * 1024
CallId = Annotated[
    str, Field(min_length=1, description="the call that is meant; by itself the one that waits")
]


class Approval(TypedDict, total=False):
    id: CallId | None


class Denial(TypedDict, total=False):
    id: CallId | None
    reason: Annotated[
        str | None, Field(max_length=REASON_MOST, description="is given to the model")
    ]


class Resumption(TypedDict, total=False):
    id: CallId | None
    decision: Annotated[
        Literal["rerun", "skip", "fail"] | None,
        Field(description="for a call that was cut off; without one a paused task goes on"),
    ]


class Forked(schemas.Accepted):
    """A new agent that is on the disk, with its workspace."""

    forked_from: Origin


class Fork(TypedDict):
    step: Annotated[int, Field(ge=0, description="the last step that is in it; 0: none")]
    content: NotRequired[
        Annotated[str | None, Field(min_length=1, description="a further message of the user")]
    ]


Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be done to a task: the fields that it takes beside the task's id, and how."""

    fields: frozenset[str]
    run: Callable[[Services, str, Fields], Awaitable[Task]]


def text(given: Fields, name: str, most: int | None = None) -> str | None:
    """A field that is a text or left out. Raises InvalidRequest."""
    value = given.get(name)
    if value is None or (isinstance(value, str) and value and len(value) <= (most or len(value))):
        return value
    size = f" of 1 to {most} characters" if most else ""
    raise InvalidRequest(f"{name} must be a string{size}", param=name)


async def _cancel(parts: Services, task_id: str, _: Fields) -> Task:
    return await parts.control.cancel(task_id)


async def _pause(parts: Services, task_id: str, _: Fields) -> Task:
    return await parts.control.pause(task_id)


async def _retry(parts: Services, task_id: str, _: Fields) -> Task:
    return await parts.control.retry(task_id)


async def _resume(parts: Services, task_id: str, given: Fields) -> Task:
    decision, call_id = given.get("decision"), text(given, "id")
    if decision is None:
        if call_id is not None:
            raise InvalidRequest("id goes with a decision", param="id")
        return await parts.control.resume(task_id)
    if decision not in AFTER_REVIEW:
        raise InvalidRequest(f"decision must be one of {', '.join(AFTER_REVIEW)}", param="decision")
    return await parts.decisions.decide(task_id, decision, call_id)


async def _approve(parts: Services, task_id: str, given: Fields) -> Task:
    return await parts.decisions.approve(task_id, text(given, "id"))


async def _deny(parts: Services, task_id: str, given: Fields) -> Task:
    reason = text(given, "reason", REASON_MOST)
    return await parts.decisions.deny(task_id, reason, text(given, "id"))


VERBS = {
    "cancel": Verb(frozenset(), _cancel),
    "pause": Verb(frozenset(), _pause),
    "resume": Verb(frozenset(Resumption.__annotations__), _resume),
    "retry": Verb(frozenset(), _retry),
    "approve": Verb(frozenset(Approval.__annotations__), _approve),
    "deny": Verb(frozenset(Denial.__annotations__), _deny),
}


@operation(scope=Permission.SUBMIT, answer=schemas.WholeTask, errors=STEERING)
async def cancel(request: Request) -> Response:
    """POST /tasks/{id}/cancel: end a task that is not finished.

    A call under way is closed at once; the text so far is kept.
    """
    return await _steer(request, "cancel")


@operation(scope=Permission.SUBMIT, answer=schemas.WholeTask, errors=STEERING)
async def pause(request: Request) -> Response:
    """POST /tasks/{id}/pause: hold a task that is not finished.

    A call under way is closed at once; the text so far can be read until it is resumed.
    """
    return await _steer(request, "pause")


@operation(
    scope=Permission.SUBMIT,
    answer=schemas.WholeTask,
    body=Resumption,
    needs_body=False,
    errors=STEERING,
    example={"decision": "rerun"},
)
async def resume(request: Request) -> Response:
    """POST /tasks/{id}/resume: queue a paused task again.

    An agent whose call of a tool was cut off waits for a review, and goes on with a decision:
    `rerun` the call, `skip` it, or `fail` the task.
    """
    return await _steer(request, "resume")


@operation(
    scope=Permission.SUBMIT,
    answer=schemas.WholeTask,
    errors=(*STEERING, "queue_full", "overloaded", "shutting_down"),
)
async def retry(request: Request) -> Response:
    """POST /tasks/{id}/retry: start a finished task anew, under the same id."""
    return await _steer(request, "retry")


@operation(
    scope=Permission.SUBMIT,
    answer=schemas.WholeTask,
    body=Approval,
    needs_body=False,
    errors=STEERING,
    example={"id": "call_1"},
)
async def approve(request: Request) -> Response:
    """POST /tasks/{id}/approve: let the call of a tool run that waits for an approval."""
    return await _steer(request, "approve")


@operation(
    scope=Permission.SUBMIT,
    answer=schemas.WholeTask,
    body=Denial,
    needs_body=False,
    errors=STEERING,
    example={"reason": "not in this folder"},
)
async def deny(request: Request) -> Response:
    """POST /tasks/{id}/deny: do not let the call of a tool run that waits for an approval.

    The model is given the reason, and the agent goes on.
    """
    return await _steer(request, "deny")


@operation(
    scope=Permission.SUBMIT,
    answer=Forked,
    status=202,
    body=Fork,
    errors=(*STEERING, *ADMISSION),
    gives=("Location",),
    example={"step": 1},
)
async def fork(request: Request) -> Response:
    """POST /tasks/{id}/fork: a new agent that goes on after a step of this one.

    It has the conversation and the workspace as they were then.
    """
    parts, asker = services(request), caller(request)
    parts.intake.turn_away()
    found = await parts.task(asker, request.path_params["task_id"])
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        answer = await forked(parts, found, await aside(body.as_object, data), asker.owner)
    return JSON(answer, 202, {"location": f"/tasks/{answer['task_id']}"})


async def forked(parts: Services, task: Task, given: Fields, owner: str | None) -> dict[str, Any]:
    """The answer to a fork of the task. Raises RequestError or StorageUnavailable."""
    check_names(given, Fork.__annotations__, "field of fork")
    step, content = given.get("step"), text(given, "content")
    if type(step) is not int or not 0 <= step <= STEPS_MOST:
        raise InvalidRequest(f"step must be a whole number from 0 to {STEPS_MOST}", param="step")
    agent_only(task, "steps to fork from")
    accepted = await parts.forks.fork(task, step, content, owner)
    return accepted.answer | {"forked_from": {"task_id": task.id, "step": step}}


async def _steer(request: Request, name: str) -> Response:
    parts, verb = services(request), VERBS[name]
    found = await parts.task(caller(request), request.path_params["task_id"])
    given: dict[str, Any] = {}
    if verb.fields:
        given = await _given(request, parts)
        check_names(given, verb.fields, f"field of {name}")
    task = await verb.run(parts, found.id, given)
    return await whole_task.answer(parts, task, request.method)


async def _given(request: Request, parts: Services) -> dict[str, Any]:
    """The fields of a body; none where there is no body."""
    async with body.ReceivedBody(request, BODY_MOST, parts.bodies) as (raw, _):
        return body.as_object(raw) if raw else {}


ROUTES = [
    resource("/tasks/{task_id}/cancel", POST=cancel),
    resource("/tasks/{task_id}/pause", POST=pause),
    resource("/tasks/{task_id}/resume", POST=resume),
    resource("/tasks/{task_id}/retry", POST=retry),
    resource("/tasks/{task_id}/approve", POST=approve),
    resource("/tasks/{task_id}/deny", POST=deny),
    resource("/tasks/{task_id}/fork", POST=fork),
]
