"""`POST /tasks`, as a bare ASGI application.

Owns the shortest way from a request to an accepted task. Promises the same answers as any
other route. Never passes the router: a quarter of a submit's time in the application went into
objects that one fixed path does not need (docs/decisions/0012-a-shortcut-for-submit.md).
"""

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from asyncsvc.engine.admission import Accepted
from asyncsvc.errors import InvalidRequest
from asyncsvc.tasks.submission import Submission
from asyncsvc.web import body, errors, schemas
from asyncsvc.web.bodies import Hold
from asyncsvc.web.operations import operation
from asyncsvc.web.schemas import KEY_MOST
from asyncsvc.web.state import House

PATH = "/tasks"
ADMISSION = ("model_not_found", "queue_full", "no_model", "overloaded", "shutting_down")
"""Codes of a submit that is not taken."""
_JSON = (b"content-type", b"application/json")


Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""


def answer_of(accepted: Accepted) -> Answer:
    """What the submitter of a task is answered."""
    content = orjson.dumps(accepted.answer)
    location = f"{PATH}/{accepted.task_id}".encode()
    headers = [_JSON, (b"content-length", b"%d" % len(content)), (b"location", location)]
    return 200 if accepted.repeated else 202, headers, content


def parse(value: dict[str, Any], prefix: str = "") -> Submission:
    """One task's fields. Raises InvalidRequest."""
    try:
        return Submission.model_validate(value)
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
async def submit(scope: Scope, receive: Receive, send: Send) -> None:
    """POST /tasks: submit a task.

    The answer is sent when the task is on the disk.
    """
    hold: Hold | None = None
    try:
        house: House = scope["state"]["house"]
        house.intake.turn_away()
        key, announced = _headers(scope)
        limit = house.settings.queue.max_task_bytes
        data, hold = await body.collect(receive, announced, limit, house.bodies)
        if hold is None:
            accepted = await house.intake.submit(read(data), scope["owner"], key)
        else:
            submission = await hold.aside(read, data)
            accepted = await house.intake.submit(submission, scope["owner"], key, hold.aside)
    except Exception as error:
        told = errors.as_request_error(error)
        if told is None:
            raise
        await errors.response(told)(scope, receive, send)
        return
    finally:
        if hold is not None:
            hold.release()
    status, headers, content = answer_of(accepted)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Shortcut:
    """An ASGI application: submits go straight to `way`, all else to `app`."""

    def __init__(self, app: ASGIApp, way: ASGIApp) -> None:
        self._app = app
        self._way = way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            await self._way(scope, receive, send)
        except Exception as error:
            answer = await errors.unknown(Request(scope), error)
            await answer(scope, receive, send)


def idempotency_key(headers: Headers) -> str | None:
    """The key of a request that any route has. Raises InvalidRequest."""
    found = headers.get("idempotency-key")
    return None if found is None else _checked(found)


def _checked(key: str) -> str:
    if not 0 < len(key) <= KEY_MOST:
        raise InvalidRequest(f"Idempotency-Key must have 1 to {KEY_MOST} characters")
    return key


def _headers(scope: Scope) -> tuple[str | None, int]:
    """(idempotency key, announced length)."""
    key, announced = None, 0
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key = _checked(value.decode("latin-1"))
        elif name == b"content-length" and value.isdigit():
            announced = int(value)
    return key, announced
