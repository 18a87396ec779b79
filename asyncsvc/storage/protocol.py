"""The store: what the service writes and reads, whatever database holds it.

Owns the protocol `Store`, the only way to what is durable for all packages above. Times are ms
since the epoch, positions and numbers are the store's own.
"""

from collections.abc import Awaitable, Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

from asyncsvc.errors import DatabaseDamaged
from asyncsvc.storage.entries import Batch, Commit, EventRow, File, Line, Owed, Piece, Tried, Waited
from asyncsvc.storage.room import DiskRoom
from asyncsvc.tasks.state import Task

PAGE = 500
"""Events that one read returns at most."""


class FileReads(Protocol):
    """Reads of files and their pieces."""

    async def expiring(self) -> bool:
        """Whether any file will expire by itself."""

    async def overdue(self, at: int) -> list[str]:
        """The ids of whole files that expired before `at`, 100 at most."""

    async def cut_off(self) -> list[str]:
        """The ids of unfinished uploads. Before the first upload they are an earlier process's."""

    async def file(self, file_id: str, at: int) -> File | None:
        """A file that can be seen at that time."""

    async def page(
        self,
        owner: str | None,
        purpose: str | None,
        after: float | None,
        oldest_first: bool,
        limit: int,
        at: int,
    ) -> list[File]:
        """Files that can be seen, of that owner or (None) of all, by age; `after` is the position
        of the last one seen."""

    async def held(self, owner: str | None) -> int:
        """Bytes of all files of that owner, of unfinished ones too and each at least a page; None
        owns the files of those who have no name."""

    async def position(self, file_id: str, owner: str | None) -> int | None:
        """The position of a file of that owner or (None) of anybody in the order of age, also
        while it is being deleted."""

    async def position_at(self, at: int) -> float:
        """The position behind all files that are not younger than `at`."""

    async def piece(self, n: int, offset: int) -> bytes:
        """The bytes from an offset to the end of its piece; empty behind the file's end."""

    async def removed(self, busy: Iterable[int]) -> list[int]:
        """The numbers of removed files that still have content, but for those in `busy`."""


class BatchReads(Protocol):
    """Reads of batches and their lines."""

    async def find(self, batch_id: str) -> Batch | None:
        """The batch with that id."""

    async def active(self) -> list[Batch]:
        """The batches that are not finished, oldest first."""

    async def page(self, owner: str | None, before: int | None, limit: int) -> list[Batch]:
        """Batches of that owner or (None) of all, newest first; `before` is the number of the last
        one seen."""

    async def lines(self, n: int) -> list[Line]:
        """The lines of a batch whose answer is not in a file yet."""

    async def old(self, before: int) -> list[int]:
        """The numbers of finished batches that were created before that time, 100 at most."""


class DeliveryReads(Protocol):
    """Reads of webhook deliveries."""

    async def due(
        self, now: int, busy: Collection[int], shut: Collection[str], limit: int
    ) -> list[Owed]:
        """Deliveries whose time has come, the longest due first, without the tasks `busy` and
        the hosts `shut`."""

    async def next_due(self, after: int) -> int | None:
        """The first time after `after` at which a delivery becomes due."""

    async def still_pending(self, task_n: int, seq: int) -> bool:
        """Whether this end is still to be delivered: no /retry has begun the task anew."""

    async def pending(self) -> int:
        """How many deliveries are owed."""

    async def last_try(self, task: Task) -> Tried:
        """The outcome of the last try for the task."""


class WaitReads(Protocol):
    """Reads of what tasks have waited for."""

    async def since(self, owner: str | None, at: int, limit: int) -> list[Waited]:
        """The tasks of that owner or (None) of all that ended since then or have not ended, newest
        first. Raises ReadTooSlow."""


class TextReads(Protocol):
    """Reads of long texts in pieces, each of a bounded size."""

    async def body(self, n: int, at: int = 0) -> Piece | None:
        """A piece of a task's body, which is UTF-8 JSON, from the offset `at`."""

    async def result(self, n: int, at: int = 0, version: int | None = None) -> Piece | None:
        """A piece of a task's result in UTF-8. Raises ReadRefused where a `version` is given and
        the task has another one by now."""

    async def volume(self, n: int) -> int:
        """How many characters the data of a task's events have."""

    async def events_of(self, n: int, kinds: Collection[str], after: int = 0) -> list[EventRow]:
        """Some of a task's events of those types with a seq above `after`, in order; none where
        there are no more."""

    async def so_far(self, n: int, after: int = 0) -> tuple[int, list[tuple[int, str]], bool]:
        """(seq of the task's latest attempt or step, or 0, some of its chunks since then and above
        `after` as (seq, data), whether there are more)."""


class Upkeep(Protocol):
    """The state of the store's files, and the removal of what is old, in small steps."""

    room: DiskRoom

    @property
    def damage(self) -> str | None:
        """What is damaged, in words; None as long as nothing was found to be."""

    def note(self, error: DatabaseDamaged) -> None:
        """Record damage that was found elsewhere."""

    def fault(self) -> str | None:
        """What is wrong with the store's files, in words; None where nothing is."""

    def check(self) -> None:
        """Raises DatabaseLost where a commit would not be there for the next process."""

    async def look_at_pages(self) -> None:
        """Take the store's free pages into account in `room`. Raises StorageUnavailable."""

    async def release_memory(self) -> None:
        """Free what is in memory only to make reads faster. A part of the store that is at work
        does so when it is done, and is not waited for."""

    # The rest is called by the journal between two commits. Raises StorageUnavailable.

    async def forget_calls(self, before: int) -> None:
        """Delete the starts of calls that no rate window reaches back to."""

    async def purge(self, before: int) -> int:
        """Delete some of the tasks that finished before that time; the number of deleted rows, 0
        where nothing is left to do."""

    async def forget(self, kind: str, before: int) -> int:
        """Delete some of the persisted values of a kind that are older; how many."""

    async def shrink(self) -> int:
        """Give some free pages back to the disk; how many went, 0 where few are left."""

    async def shorten_log(self) -> bool:
        """Give the room of the write-ahead log back where no reader needs it; whether it did."""


class Store(Protocol):
    """Everything that is durable. Reads raise StorageUnavailable."""

    path: Path
    node: str
    """The id of this node, stored with the tasks: their leases outlive a restart."""
    files: FileReads
    batches: BatchReads
    deliveries: DeliveryReads
    upkeep: Upkeep
    texts: TextReads
    waits: WaitReads

    def commit(self, commit: Commit, /) -> Awaitable[None]:
        """Write all entries or none: begun when this returns, done when it was awaited. Gives
        each event its `id`, in their order and higher than any before.

        Raises StorageUnavailable, or StaleLease where another run holds a task; then nothing is
        changed.
        """

    async def counters(self) -> tuple[int, int]:
        """The highest task number and event id ever used."""

    async def task(self, task_id: str) -> Task | None:
        """The task with that id, finished or not."""

    async def known(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are tasks."""

    async def unfinished(self) -> list[Task]:
        """All tasks that are not finished, in order of arrival."""

    async def page(
        self,
        where: dict[str, Any],
        model: str | None,
        text: str | None,
        before: int | None,
        limit: int,
        ended: bool = False,
    ) -> list[tuple[Task, str | None]]:
        """Tasks newest first with their result previews; `ended`: finished ones, the latest end
        first. `where` maps columns to values (a tuple: to any of them), `error_code` to the code of
        a paused task's error, and `id_ends` to the end of an id; `model` is the one that serves or
        is wanted; `text` is looked for in the previews, A to Z in either case; `before` is the n of
        the last one seen. Raises ReadTooSlow."""

    async def counts(self, owner: str | None) -> list[tuple[str | None, str, int]]:
        """(name of the model, state, number of tasks) of that owner or (None) of all. Raises
        ReadTooSlow."""

    async def body(self, n: int) -> bytes:
        """The body of a task as JSON. Raises MemoryError where there is none to read it with."""

    async def result(self, n: int) -> str | None:
        """The result of a task. Raises MemoryError where there is none to show it with."""

    async def since_attempt(self, n: int, kind: str = "chunk") -> list[str]:
        """The data, as JSON, of the events of one type since the task's last attempt, or the last
        step of an agent."""

    async def events(self, n: int, after: int, limit: int = PAGE) -> list[EventRow]:
        """A task's events with a seq above `after`, in order."""

    async def feed(
        self, after_id: int, limit: int = PAGE
    ) -> list[tuple[EventRow, str, str | None]]:
        """All tasks' events with an id above `after_id`, in order, each with its task's id and
        owner."""

    async def exported(
        self, after: int, state: str | None, owner: str | None
    ) -> list[tuple[Task, bytes, str | None, list[tuple[str, str]]]]:
        """Some tasks with a number above `after`, of that owner or (None) of all, oldest first:
        (task, body, result, [(type, data)] of the events that an export needs beside the text)."""

    async def response_request(self, task_id: str) -> dict[str, Any] | None:
        """The request of /v1/responses that has made the task; None for any other task."""

    async def calls_since(self, at: int) -> list[tuple[str, int, int]]:
        """(account, ms, tokens) of the calls upstream since then, oldest first."""

    async def first_answer(self, key: str) -> tuple[str, str] | None:
        """(fingerprint, answer as JSON) that an idempotency key had."""

    async def persisted_values(self, kind: str) -> list[tuple[str, int, str]]:
        """(key, ms when it was written, JSON text) of all values of a kind, oldest first."""

    async def persisted_value(self, kind: str, key: str) -> str | None:
        """The JSON text of one value."""
