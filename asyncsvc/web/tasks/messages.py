"""The messages of a WebSocket client: the operations, their fields and the checks of both.

A field that has no effect in an operation is refused by name.
"""

from typing import Any

from asyncsvc.errors import InvalidRequest
from asyncsvc.web.tasks.schemas import KEY_MOST

FIELDS = {
    "subscribe": {"task_id", "after", "all", "after_id"},
    "unsubscribe": {"task_id", "all"},
    "submit": {"task", "subscribe", "idempotency_key"},
    "cancel": {"task_id"},
    "ping": set[str](),
}


def op(message: dict[str, Any]) -> str:
    """Take the op out of a message. Raises InvalidRequest, also for a field that it has not."""
    name = message.pop("op", None)
    if not isinstance(name, str) or name not in FIELDS:
        raise InvalidRequest(f"op must be one of {', '.join(FIELDS)}", param="op")
    if unknown := message.keys() - FIELDS[name]:
        raise InvalidRequest(f"{min(unknown)!r} is not a field of {name}", param=min(unknown))
    return name


def flag(message: dict[str, Any], name: str) -> bool:
    """A field that is true or false. Raises InvalidRequest."""
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return value


def key(message: dict[str, Any]) -> str | None:
    """The Idempotency-Key of a submit. Raises InvalidRequest."""
    name = "idempotency_key"
    value = message.get(name)
    if value is None or (isinstance(value, str) and 0 < len(value) <= KEY_MOST):
        return value
    raise InvalidRequest(f"{name} must be a string of 1 to {KEY_MOST} characters", param=name)


def of_all(message: dict[str, Any]) -> bool:
    """Whether it is about the whole feed. Raises InvalidRequest where it says both."""
    everything = flag(message, "all")
    wrong = {"task_id", "after"} if everything else {"after_id"}
    for name in sorted(wrong & message.keys()):
        # Left out in silence, a cursor of the wrong kind would lose events.
        goes = "one task, and not with all" if everything else "the whole feed: with all = true"
        raise InvalidRequest(f"{name} is for {goes}", param=name)
    return everything


def number(message: dict[str, Any], name: str) -> int:
    """A cursor. Raises InvalidRequest."""
    value = message.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{name} must be a whole number from 0", param=name)
    return value
