"""Error responses of `/v1`: OpenAI's shape, statuses and headers.

The table maps a task's `error.code` to a status, a type and OpenAI's own code where it has one.
The `openai` SDK raises the fitting class for each status; Retry-After is sent where waiting
helps, `x-should-retry: false` where the SDK's own retries would only repeat those of the service.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.errors import RequestError
from asyncsvc.tasks.state import State, Task
from asyncsvc.web.http.errors import JSON, as_request_error, note
from asyncsvc.web.http.resources import Verb, operation
from asyncsvc.web.openai.schemas import CallHeaders
from asyncsvc.web.tasks.routes import ADMISSION

TASK_ID = "x-task-id"
SHOULD_RETRY = "x-should-retry"
"""The SDKs obey it before they look at the status."""
RETRY_AFTER_S = 5.0
"""Where a provider asks for a pause and nothing says for how long."""
INVALID, LIMIT, SERVER = "invalid_request_error", "rate_limit_error", "server_error"

FAILED: Mapping[str, tuple[int, str, str, bool]] = {
    # Faults of the request: OpenAI answers them with 400.
    "context_too_long": (400, INVALID, "context_length_exceeded", False),
    "content_filtered": (400, INVALID, "content_filter", False),
    "upstream_rejected": (400, INVALID, "upstream_rejected", False),
    "model_gone": (404, INVALID, "model_not_found", False),
    # Limits of the provider's account.
    "rate_limited": (429, LIMIT, "rate_limit_exceeded", True),
    "quota_exhausted": (429, "insufficient_quota", "insufficient_quota", False),
    # The provider, as seen through a gateway. Its 401 is about our key, not about the client's.
    "upstream_auth": (502, SERVER, "upstream_auth", False),
    "upstream_disconnected": (502, SERVER, "upstream_disconnected", False),
    "upstream_invalid": (502, SERVER, "upstream_invalid", False),
    "upstream_too_large": (502, SERVER, "upstream_too_large", False),
    "empty_answer": (502, SERVER, "empty_answer", False),
    "interrupted_unknown": (502, SERVER, "interrupted_unknown", False),
    "overloaded": (503, SERVER, "overloaded", True),
    "timeout": (504, SERVER, "timeout", False),
    "connect_timeout": (504, SERVER, "connect_timeout", False),
    "first_token_timeout": (504, SERVER, "first_token_timeout", False),
    "idle_timeout": (504, SERVER, "idle_timeout", False),
    "expired": (504, SERVER, "expired", False),
    # Ours.
    "max_steps": (500, SERVER, "max_steps", False),
    "internal": (500, SERVER, "internal", False),
    "cancelled": (409, INVALID, "cancelled", False),
    "shutting_down": (503, SERVER, "shutting_down", True),
}
"""`error.code` of a task → (status, type, code, whether the same call may succeed soon). The
service has made its own attempts by then: only waiting for a limit is worth another."""


def statuses() -> dict[int, tuple[str, ...]]:
    """The codes of a failed task by their status, for the OpenAPI document."""
    found: dict[int, tuple[str, ...]] = {}
    for status, _, code, _ in FAILED.values():
        found[status] = (*found.get(status, ()), code)
    return found


@dataclass(frozen=True, slots=True)
class Failure:
    """The error response of a call. `retry_after` is in seconds."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    should_retry: bool = True

    def body(self) -> dict[str, Any]:
        """OpenAI's error object; also the data of an event within a stream."""
        error = {"message": self.message, "type": self.type}
        return {"error": error | {"code": self.code, "param": self.param}}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        sent = dict(headers or {})
        if self.retry_after is not None:
            sent["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if not self.should_retry:
            sent[SHOULD_RETRY] = "false"
        return JSON(self.body(), status_code=self.status, headers=sent)


def failure(code: str, message: str, retry_after: float | None = None) -> Failure:
    """The response to a task's `error.code`; Retry-After only where another call may succeed."""
    status, kind, name, again = FAILED.get(code, FAILED["internal"])
    after = (retry_after or RETRY_AFTER_S) if again else None
    return Failure(status, kind, name, message, retry_after=after, should_retry=again)


def of_task(task: Task, retry_after: float | None = None) -> Failure:
    """The response to a task that is finished and not completed."""
    if task.state is State.CANCELLED:
        return failure("cancelled", f"task {task.id} was cancelled")
    error = task.error or {"code": "internal", "message": "the task failed"}
    return failure(error["code"], error["message"], retry_after)


def refusal(error: RequestError) -> Failure:
    """The response to a request that is no task. OpenAI calls a wrong field a bad request."""
    return Failure(
        400 if error.status == 422 else error.status,
        error.type,
        error.code,
        str(error),
        error.param,
        error.retry_after,
        # A passing refusal has a time after which to retry; a damaged database has none.
        should_retry=error.status != 409 and (error.status < 500 or error.retry_after is not None),
    )


def endpoint(**declared: Any) -> Callable[[Verb], Verb]:
    """Declare a route of `/v1`, whose refusals have OpenAI's shape; the arguments are those of
    `operation`. An exception that has no answer passes."""

    def mark(function: Verb) -> Verb:
        @functools.wraps(function)
        async def answered(request: Request) -> Response:
            try:
                return await function(request)
            except Exception as error:
                response = _response(request, error)
                if response is None:
                    raise
                return response

        return operation(invalid=400, **declared)(answered)

    return mark


def _response(request: Request, error: Exception) -> Response | None:
    """The response to a request that has failed; None where the fault is not known."""
    note(request.scope, error)
    known = as_request_error(error)
    return None if known is None else refusal(known).response()


def task_endpoint(**declared: Any) -> Callable[[Verb], Verb]:
    """Declare a route of `/v1` that answers with the result of its tasks."""
    return endpoint(
        headers=CallHeaders,
        errors=(*ADMISSION, "idempotency_conflict"),
        gives=(TASK_ID,),
        fails=statuses(),
        **declared,
    )
