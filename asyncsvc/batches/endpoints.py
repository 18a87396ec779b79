"""What a batch needs to know of the kind of its lines.

Owns the types that stand between batches and the API whose requests their lines are. Promises
OpenAI's shape of a line of output. Never knows an endpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from asyncsvc.clock import new_id
from asyncsvc.errors import RequestError
from asyncsvc.journal.journal import Beside
from asyncsvc.tasks.submission import Submission


@dataclass(frozen=True, slots=True)
class Prepared:
    """A line as a task. `form` says how its answer is wanted; `beside` is stored with it."""

    submission: Submission
    form: str | None = None
    beside: Callable[[str], Beside] | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What the request would have been answered."""

    status: int
    body: dict[str, Any]
    task_id: str | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no answer at all."""

    code: str
    message: str


class BatchEndpoint(Protocol):
    """One endpoint."""

    async def prepare(self, body: dict[str, Any], headers: dict[str, str]) -> Prepared:
        """Raises RequestError."""
        ...

    def refused(self, error: RequestError) -> Answered:
        """The answer to a line that is no task."""
        ...

    async def answer(self, task_id: str, form: str | None) -> Answered:
        """Of a task that is finished, or is not there any more."""
        ...


def output_line(custom_id: str, answer: Answered | Failed) -> bytes:
    """A line of an output file or of an error file."""
    response = error = None
    request_id = new_id(0)
    if isinstance(answer, Failed):
        error = {"code": answer.code, "message": answer.message}
    else:
        request_id = answer.task_id or request_id
        response = {"status_code": answer.status, "request_id": request_id, "body": answer.body}
    line = {
        "id": f"batch_req_{request_id}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
