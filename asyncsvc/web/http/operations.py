"""What is said about an operation, beside the function that does it.

Owns the declaration that `openapi.py` makes the document from: types of body, query and answer,
and the codes of refusal. Promises to change nothing of the function that it marks, so that a
declared operation is as fast as another. Never checks a request or an answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

JSON_MEDIA = "application/json"
_MARK = "operation"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """All of it optional; types are pydantic models or TypedDicts (`schemas.py`).

    `answer` is the type of the body at `status`; None: it has none. `query` and `headers` are
    TypedDicts of what may be given. `errors` are codes beyond those that every operation of its
    kind has (a body: invalid_json, task_too_large, invalid_request; a query: invalid_request).
    `also` are further statuses of success, with their meaning; `links` says that the answer's
    `task_id` is one to ask for.
    """

    answer: Any = None
    status: int = 200
    media: tuple[str, ...] = (JSON_MEDIA,)
    body: Any = None
    takes: str = JSON_MEDIA
    """What the body is."""
    needs_body: bool = True
    example: Any = None
    query: Any = None
    headers: Any = None
    errors: tuple[str, ...] = ()
    also: Mapping[int, str] = field(default_factory=dict)
    gives: tuple[str, ...] = ()
    """Headers of the answer."""
    invalid: int = 422
    """The status of `invalid_request`: OpenAI's API has another."""
    fails: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Codes by status, where the answer is that of a task and the task may fail."""


def operation(**said: Any) -> Callable[[F], F]:
    """Mark a route's function with an `Operation` of these fields."""
    found = Operation(**said)

    def mark(function: F) -> F:
        setattr(function, _MARK, found)
        return function

    return mark


def declared(function: Callable[..., Any]) -> Operation | None:
    """What is said of it; None: nothing."""
    found: Operation | None = getattr(function, _MARK, None)
    return found
