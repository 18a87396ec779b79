"""Types of what the answers say of agents: the call that waits, the ledger, the files, forks.

Like `schemas`, which imports them, they describe and validate nothing at run time.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.agents.history import CallState

Count = Annotated[int, Field(ge=0)]
Object = dict[str, Any]
Moment = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC")
]


class Origin(TypedDict):
    """The agent that a fork goes on from, and the last step that is in it."""

    task_id: str
    step: Count
    checkpoint: NotRequired[
        Annotated[str | None, Field(description="of its workspace as it began; null: not held")]
    ]


class WaitingCall(TypedDict):
    """The call of a tool for which an agent waits for a person."""

    id: str
    name: Annotated[str, Field(description="the tool")]
    arguments: Annotated[Object | str, Field(description="a text where they are no object")]
    diff: Annotated[str | None, Field(description="what the call would change")]
    review: Annotated[bool, Field(description="it was cut off, and what it has done is not known")]


class Outcome(TypedDict):
    ok: bool
    output: str
    exit_code: int | None
    duration_s: float | None
    truncated: bool


class LedgerCall(TypedDict):
    id: str
    name: Annotated[str, Field(description="the tool")]
    arguments: Annotated[Object | str, Field(description="a text where they are no object")]
    step: Annotated[Count, Field(description="the step that has asked for it")]
    state: CallState
    checkpoint: Annotated[
        str | None, Field(description="what the workspace was before it; null: not held")
    ]
    decision: Annotated[str | None, Field(description="of a person")]
    reason: str | None
    started_at: Moment | None
    ended_at: Moment | None
    result: Outcome | None


class Ledger(TypedDict):
    """The calls of tools of an agent since it was submitted or retried by hand, in order."""

    calls: list[LedgerCall]


class WorkspaceItem(TypedDict):
    path: str
    size: Annotated[Count, Field(description="bytes of a file; else 0")]
    kind: Literal["file", "folder", "link", "other"]


class WorkspaceItems(TypedDict):
    """What is in the workspace of an agent, by path."""

    files: list[WorkspaceItem]
    truncated: Annotated[bool, Field(description="there is more than is listed")]
