"""The operations of a WebSocket in one table: fields, scope and answer of each.

`websocket` checks each message by the table, and the document at `/asyncapi.json` is made of it,
so that an operation cannot be served without being described.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.tasks.state import State
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.tasks.schemas import KEY_MOST, MOST, Accepted, Count, Fault, TaskId
from asyncsvc.web.tasks.steering import Approval, Denial, Fork, Forked, Resumption

EXAMPLE_ID = "01890000-0000-7000-8000-000000000000"
Cursor = Annotated[
    int, Field(ge=0, le=MOST, description="the `seq` of the last event that is known already")
]
FeedCursor = Annotated[
    int, Field(ge=0, le=MOST, description="the `id` of the last event that is known already")
]


class Subscribe(TypedDict, total=False):
    """Follow one task (`task_id`), several (`tasks`) or all (`all`)."""

    task_id: TaskId
    after: Cursor
    tasks: Annotated[dict[str, Cursor], Field(min_length=1, description="cursors by task id")]
    all: Annotated[bool, Field(description="the feed of all tasks that the caller may see")]
    after_id: Annotated[FeedCursor, Field(description="with `all`; left out: it begins now")]
    text: Annotated[
        bool,
        Field(description="with `all`; false: of pieces of text in a row the first alone"),
    ]


class Unsubscribe(TypedDict, total=False):
    """Follow one task, several or the feed of all no more."""

    task_id: TaskId
    task_ids: list[TaskId]
    all: bool


class Submit(TypedDict):
    """Submit a task; with `subscribe` its events follow the answer."""

    task: Submission
    subscribe: NotRequired[bool]
    idempotency_key: NotRequired[
        Annotated[
            str | None,
            Field(
                min_length=1,
                max_length=KEY_MOST,
                description="the same key and task give the first answer again",
            ),
        ]
    ]
    traceparent: NotRequired[
        Annotated[Any, Field(description="the trace context of the caller, as W3C defines it")]
    ]
    tracestate: NotRequired[Any]


class Ping(TypedDict):
    """Ask whether the service is there."""


class Cancel(TypedDict):
    """End a task that is not finished; a call under way is closed at once."""

    task_id: TaskId


class Pause(TypedDict):
    """Hold a task that is not finished."""

    task_id: TaskId


class Retry(TypedDict):
    """Start a finished task anew, under the same id."""

    task_id: TaskId


class Resume(Resumption):
    """Queue a paused task again; after a review with a decision."""

    task_id: TaskId


class Approve(Approval):
    """Let the call of a tool run that waits for an approval."""

    task_id: TaskId


class Deny(Denial):
    """Do not let the call of a tool run that waits for an approval; the agent goes on."""

    task_id: TaskId


class ForkFrom(Fork):
    """Make a new agent that goes on after a step of this one."""

    task_id: TaskId


class Followed(TypedDict):
    status: State
    seq: Annotated[Count, Field(description="the last event there is")]


class FollowsOne(Followed):
    """The task is followed."""

    task_id: TaskId


class FollowsSome(TypedDict):
    """Of each task whether it is followed."""

    tasks: Annotated[dict[str, Followed], Field(description="by task id")]
    errors: Annotated[dict[str, Fault], Field(description="why not, by task id")]


class FollowsAll(TypedDict):
    """The feed of all is followed."""

    all: Literal[True]
    after_id: FeedCursor


class LeftOne(TypedDict):
    task_id: TaskId


class LeftSome(TypedDict):
    task_ids: list[TaskId]


class LeftAll(TypedDict):
    all: Literal[True]


class Pong(TypedDict):
    """The service is there."""

    pong: Literal[True]


class Steered(TypedDict):
    """The state of the task as it now is."""

    task_id: TaskId
    status: State


@dataclass(frozen=True, slots=True)
class SocketOperation:
    """What an `op` takes beside `op` and `ref`, and what the answer to it has beside them."""

    scope: Permission
    """What it needs of the caller, beside the scope that opens the socket."""
    takes: Any
    answers: tuple[Any, ...]
    example: Mapping[str, Any]

    @property
    def fields(self) -> frozenset[str]:
        """The names of its fields; another one is refused by name."""
        return frozenset(self.takes.__annotations__)


_ID = {"task_id": EXAMPLE_ID}


def _steering(takes: Any, **example: Any) -> SocketOperation:
    return SocketOperation(Permission.SUBMIT, takes, (Steered,), _ID | example)


OPERATIONS: Mapping[str, SocketOperation] = {
    "subscribe": SocketOperation(
        Permission.READ, Subscribe, (FollowsOne, FollowsSome, FollowsAll), _ID | {"after": 0}
    ),
    "unsubscribe": SocketOperation(Permission.OPEN, Unsubscribe, (LeftOne, LeftSome, LeftAll), _ID),
    "submit": SocketOperation(
        Permission.SUBMIT, Submit, (Accepted,), {"task": {"content": "你好"}, "subscribe": True}
    ),
    "ping": SocketOperation(Permission.OPEN, Ping, (Pong,), {}),
    "cancel": _steering(Cancel),
    "pause": _steering(Pause),
    "resume": _steering(Resume),
    "retry": _steering(Retry),
    "approve": _steering(Approve, id="call_1"),
    "deny": _steering(Deny, reason="not in this folder"),
    "fork": SocketOperation(Permission.SUBMIT, ForkFrom, (Forked,), _ID | {"step": 1}),
}
"""The operations, in the order in which people read of them."""
