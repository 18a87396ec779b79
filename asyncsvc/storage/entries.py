"""What the store returns and takes: records of rows, and the entries of one commit.

Owns their fields. Promises that none of them knows SQL, a connection or a file: any store can
write and read the same. Times are ms since the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Self

import orjson

from asyncsvc.clock import rfc3339
from asyncsvc.errors import DatabaseDamaged
from asyncsvc.tasks.state import Task


def loads(text: str | bytes) -> Any:
    """Stored JSON. Raises DatabaseDamaged where it is none: the service stores nothing else."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise DatabaseDamaged("the database is damaged: a stored text is no longer JSON") from None


# Events ---------------------------------------------------------------------------------------


class EventRow(NamedTuple):
    """An event as the store keeps it; `data` is JSON text."""

    id: int
    task_n: int
    seq: int
    type: str
    ts: int
    data: str

    def event(self, task_id: str, owner: str | None = None) -> "Event":
        return Event(task_id, *self[1:], self.id, owner)


class Event:
    """An event of a task, and the JSON text that every follower is sent.

    `id` is given by the store when it commits the event; 0 until then. The text is made when the
    first follower asks for it, and once: most events of a busy service have no follower.
    """

    __slots__ = ("_wire", "id", "owner", "seq", "task_id", "task_n", "text", "ts", "type")

    def __init__(
        self,
        task_id: str,
        task_n: int,
        seq: int,
        kind: str,
        ts: int,
        text: str,
        number: int = 0,
        owner: str | None = None,
    ) -> None:
        self.id = number
        self.task_id = task_id
        self.task_n = task_n
        self.seq = seq
        self.type = kind
        self.owner = owner
        """The owner of the task, as far as a follower of all tasks needs to know."""
        self.ts = ts
        self.text = text
        """The data as JSON."""
        self._wire: str | None = None

    @property
    def data(self) -> Any:
        return loads(self.text)

    @property
    def wire(self) -> str:
        if self._wire is None:
            self._wire = (
                f'{{"id":{self.id},"task_id":"{self.task_id}","seq":{self.seq},'
                f'"type":"{self.type}","ts":"{rfc3339(self.ts)}","data":{self.text}}}'
            )
        return self._wire


def event_json(data: dict[str, Any]) -> str:
    """An event's data as JSON text. The engine counts in ms; the JSON has RFC 3339."""
    due = data.get("next_run_at")
    if due is not None:
        data = data | {"next_run_at": rfc3339(due)}
    return orjson.dumps(data).decode()


class Piece(NamedTuple):
    """Bytes of a stored text from the offset `at`; the text has `size` in all. `version` is that
    of its task when it was read."""

    data: bytes
    at: int
    size: int
    version: int

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.at + len(self.data)

    @property
    def whole(self) -> bool:
        """Whether it is all of the text."""
        return len(self.data) == self.size


# Webhook deliveries ---------------------------------------------------------------------------


class Waited(NamedTuple):
    """A task's course, without its texts; `marks` and `waited` are JSON text or None."""

    id: str
    owner: str | None
    model: str | None
    """The model that served it, or that it names."""
    state: str
    created_at: int
    run_at: int | None
    started_at: int | None
    finished_at: int | None
    marks: str | None
    waited: str | None
    """Seconds by reason that it waited for its latest start."""


class Delivery(StrEnum):
    """How far a webhook delivery has come."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Tried(NamedTuple):
    """The outcome of one try; `seq` is that of the closing event that was delivered."""

    task_n: int
    seq: int
    state: Delivery
    attempts: int
    last_status: int | None
    last_error: str | None
    next_at: int | None


class Owed(NamedTuple):
    """A delivery whose time has come; `size` is about how many bytes it will send."""

    task_n: int
    task_id: str
    seq: int
    host: str
    attempts: int
    size: int


# Files and batches ----------------------------------------------------------------------------

OPEN, GROWING, READY, GONE = "open", "growing", "ready", "gone"
"""States of a file: being uploaded, an output under way, whole, being deleted."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of `/v1/files`."""

    n: int
    id: str
    filename: str
    purpose: str
    state: str
    bytes: int
    created_at: int
    expires_at: int | None
    owner: str | None = None


VALIDATING, RUNNING, CANCELLING = "validating", "in_progress", "cancelling"
EXPIRING = "expiring"
"""Shown as in_progress: the batch's time is over, and lines that have not begun never will."""
ACTIVE = (VALIDATING, RUNNING, CANCELLING, EXPIRING)


class Line(NamedTuple):
    """A line of a batch that is a task; `form` says how its answer is wanted."""

    number: int
    custom_id: str
    task_id: str
    form: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. `times` says when it entered a state; `offset` and `line` say how far its input
    was read, `written` how many bytes its output and its errors have so far."""

    id: str
    n: int
    state: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    owner: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] | None = None
    offset: int = 0
    line: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    written: tuple[int, int] = (0, 0)
    files: tuple[str, str] = ("", "")
    """The ids of its output file and of its error file, which exist once they are not empty."""
    times: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def entered(self, state: str, at: int) -> Self:
        """The batch in another state, from that time on."""
        return replace(self, state=state, times=self.times | {state: at})


# Entries of a commit --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """Base of the entries about something else than tasks, written in one transaction with them.

    An entry that is not `durable` needs no fsync of its own. It must not fail for what the store
    holds already: that would refuse everything that is committed at the same time.
    """

    durable: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class FileAdded(Row):
    """A new file without a byte."""

    id: str
    filename: str
    purpose: str
    state: str
    at: int
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class PieceAdded(Row):
    """A piece of a file at an offset, which must be the file's length so far."""

    file_id: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileReady(Row):
    """The file is whole: readers see it from now on."""

    file_id: str
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class FileRemoved(Row):
    """The file is not seen any more; `PiecesRemoved` takes its content away."""

    file_id: str


@dataclass(frozen=True, slots=True)
class PiecesRemoved(Row):
    """Some pieces of a removed file go, or the file itself where no piece is left."""

    file_n: int
    durable: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class BatchAdded(Row):
    """A new batch; the store gives it its number."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class BatchChanged(Row):
    """The batch as it is now. Lines `submitted` have become tasks, the answers of lines
    `answered` are in a file."""

    batch: Batch
    submitted: Sequence[Line] = ()
    answered: Sequence[Line] = ()


@dataclass(frozen=True, slots=True)
class BatchRemoved(Row):
    """A finished batch to be deleted; its files expire by themselves."""

    n: int
    durable: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class ResponseRequest(Row):
    """A request of /v1/responses, stored with the new task of that id and deleted with it."""

    task_id: str
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResultPart(Row):
    """A piece of the long result of a task that is not finished: `at` is the byte of the whole
    result with which it begins. The one that is `first` voids all that were written before. Of a
    finished task nothing is changed."""

    task_n: int
    at: int
    part: str
    first: bool
    durable: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class BodyPart(Row):
    """A piece of the long body of a task that is not stored yet: `at` is the byte of the whole body
    with which it begins. It counts when the task is stored."""

    task_id: str
    at: int
    part: bytes
    durable: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class BodyPartsRemoved(Row):
    """The pieces of the body of a task that was refused go."""

    task_id: str
    durable: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class KeyUsed(Row):
    """An idempotency key has made something that is no task, with this id."""

    key: str
    fingerprint: str
    made: str


@dataclass(frozen=True, slots=True)
class DeliveriesShifted(Row):
    """The clock was set by `by` ms: each delivery is due as long after now as before."""

    by: int


@dataclass(frozen=True, slots=True)
class DeliveriesBounded(Row):
    """A delivery that seems to be decided later than `now` waits its own delay from `now` on: the
    clock was set back while no process measured the time."""

    now: int


@dataclass(frozen=True, slots=True)
class CallsBounded(Row):
    """Calls upstream that seem to be made later than `now` were made at `now`."""

    now: int


@dataclass(slots=True)
class Commit:
    """The entries of one transaction, applied wholly or not at all; `at` is its time."""

    at: int = 0
    created: list[tuple[Task, bytes]] = field(default_factory=list)
    """New tasks, each with its body as JSON."""
    changed: list[tuple[Task, Task]] = field(default_factory=list)
    """Tasks (before, after); the store must hold the version and the epoch of `before`."""
    renewed: list[Task] = field(default_factory=list)
    """Tasks whose lease alone has changed; the store must hold their epoch."""
    events: list[Event] = field(default_factory=list)
    results: dict[int, str | None] = field(default_factory=dict)
    """The results by the task's number; None removes the result that a new start has made void."""
    rests: dict[int, int] = field(default_factory=dict)
    """How many bytes of a result, by the task's number, earlier commits wrote as `ResultPart`;
    `results` has its beginning."""
    body_rests: dict[int, int] = field(default_factory=dict)
    """The same of bodies as `BodyPart`; `created` has their beginnings."""
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    """(account, ms, estimated tokens) of starts that a rate window counts."""
    keys: list[tuple[str, str, int, int, str]] = field(default_factory=list)
    """(idempotency key, fingerprint, first and last task number, answers as JSON)."""
    deleted: list[int] = field(default_factory=list)
    values: dict[tuple[str, str], str | None] = field(default_factory=dict)
    """Persisted values as JSON text by (kind, key); None deletes."""
    rows: list[Row] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    acknowledging: bool = False
    """Whether a persisted value must be on the disk before the commit is acknowledged."""

    @property
    def durable(self) -> bool:
        """Whether the commit must be synced to the disk. Text alone need not be: a power cut may
        take the end of a stream, which the next attempt voids anyway. Whatever acknowledges,
        ends or counts is synced; a value that is only persisted for later is not."""
        written = self.created or self.changed or self.results or self.calls or self.keys
        rows = self.rows and any(row.durable for row in self.rows)
        return bool(written or self.deleted or self.acknowledging or rows)

    def add(self, later: "Commit") -> None:
        """Take over the entries of an append; their tasks are added at the end."""
        self.events += later.events
        self.results |= later.results
        self.rests |= later.rests
        self.body_rests |= later.body_rests
        self.calls += later.calls
        self.keys += later.keys
        self.values |= later.values
        self.rows += later.rows
        self.tried += later.tried
        self.acknowledging |= later.acknowledging
