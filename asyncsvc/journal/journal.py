"""The journal: the log that every change of a task goes through, and its subscriptions.

Owns the unfinished tasks in memory, the numbers of tasks, the group commit and the
wake-up of followers. Promises: what `append` acknowledges is on the disk; no follower gets an
event before that; an append is applied wholly or not at all; events of a task have a dense
`seq`, all events a growing `id`. Never decides what should happen next, never lets a reader
hold up the writer.

One commit is under way at a time, and what gathers meanwhile goes into the next commit. An append
is applied when its commit begins, on a transaction that becomes the truth only when the database
has accepted it: a refused write leaves memory as it was. The futures of a commit are
resolved while the next one is already being written. A long result is written ahead of its append,
a part with each commit.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Self, TypeVar

from asyncsvc.clock import Now
from asyncsvc.errors import (
    AsyncsvcError,
    IllegalTransition,
    StaleLease,
    StorageUnavailable,
    TaskNotFound,
    without_frames,
)
from asyncsvc.journal.counters import Writes
from asyncsvc.journal.long_texts import LongTexts, abandoned, is_long, long_texts
from asyncsvc.journal.subscriptions import Feed, Topics
from asyncsvc.journal.transaction import (
    Arrival,
    Change,
    Entry,
    NewTask,
    PersistedValue,
    Removal,
    Transaction,
)
from asyncsvc.storage.entries import Event, Row, Tried
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import FINISHED, Task

log = logging.getLogger(__name__)

COMMIT_MOST = 2_000
"""Appends in one commit: bounds how long those that come meanwhile wait."""
MANY = 100
"""New tasks of one append from which on a commit takes one such append only: 1,000 take 40 ms."""
FORGET_EVERY_MS = 60_000
NEW_BODIES, NEW_BODY_BYTES = 256, 4096
"""How many bodies of new tasks are in memory until their first call, and up to which size."""
ENDED_TASKS = 256
"""How many of the tasks that ended last are in memory: a request that waits for a task reads it
at its end, and a read from the disk costs as much as a tenth of the whole call."""
AT_ONCE = nullcontext()
"""The turn of a follower that waits for no other."""

T = TypeVar("T")


Outcome = list[Task] | AsyncsvcError
"""The tasks as they stand after an append, or why it was refused."""


@dataclass(slots=True, eq=False)
class Append:
    """Entries that wait for a commit.

    `then` is called before the future is resolved; an exception of `then` is logged, and the
    future is resolved all the same.
    """

    entries: Sequence[Entry]
    then: Callable[[Outcome], None] | None
    done: "asyncio.Future[list[Task]]"
    long: LongTexts | None = None
    """Parts of texts that are to be written ahead."""
    many: bool = False
    """Whether it brings many tasks. Others may go before it: no client has their ids yet."""

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future: the entries are on the disk, or refused."""
        if self.then is not None:
            try:
                self.then(outcome)
            except Exception:
                log.exception("what follows on an append has failed")
        if self.done.done():
            return  # cancelled; the append stands all the same
        if isinstance(outcome, AsyncsvcError):
            self.done.set_exception(outcome)
            # A cancelled call leaves its last append behind: its error must not be logged.
            self.done.exception()
        else:
            self.done.set_result(outcome)


class Journal:
    """Start it with `async with journal:`; `append` and `follow` are its verbs."""

    def __init__(self, store: Store, now: Now, keep_calls_ms: int = 120_000) -> None:
        self.store = store
        self.now = now
        self.live: dict[str, Task] = {}
        """The unfinished tasks by id. Read it, never write it."""
        self.feed = Feed(store)
        self.owed = asyncio.Event()
        """Set when a task with a callback has ended; the deliverer clears it."""
        self.writes = Writes()
        self.on_change: Callable[[Task | None, Task], None] = lambda before, after: None
        """Called for each task that a commit has changed; before None: it was not in memory."""
        self._topics = Topics()
        self.keep_calls_ms = keep_calls_ms
        """How long the starts of calls are kept; it may grow."""
        self._forgot_at = 0
        self._waiting: list[Append] = []
        self._large = 0
        """How many of them bring many tasks."""
        self._left: list[Row] = []
        """Rows that remove what refused appends have left; the next commit has them, too."""
        self._settled: list[tuple[Append, Outcome]] = []
        """Committed or refused, with futures that are not resolved yet; never left so while the
        journal waits for anything but a commit."""
        self._bodies: dict[str, bytes] = {}
        """Bodies of new tasks, the oldest first: most are called within milliseconds."""
        self._ended: dict[str, Task] = {}
        """The tasks that ended last, the oldest first."""
        self._turn = asyncio.Lock()
        """Held by a commit or a chore."""
        self._chores = asyncio.Lock()
        """Held by the chore that has the turn or is next, so that a commit follows each chore."""
        self._wanted = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.closing = False
        self.newest = 0
        """The number of the newest task."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.newest, self.feed.last_id = await self.store.counters()
        self.live = {task.id: task for task in await self.store.unfinished()}
        self._writer = asyncio.create_task(self._write(), name="journal")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what was appended, then end: followers stop, later appends are refused."""
        self.closing = True
        self._wanted.set()
        if self._writer is not None:
            await self._writer
        async with self._turn:  # a chore may be under way
            self.release()

    def release(self) -> None:
        """Let every follower go; they come back with their cursors."""
        self.feed.close()
        self._topics.close()

    def append(
        self, *entries: Entry, then: Callable[[Outcome], None] | None = None
    ) -> "asyncio.Future[list[Task]]":
        """Apply all entries or none; the future gives the tasks as they then stand on disk.

        Fails with IllegalTransition, TaskNotFound or StorageUnavailable, and then nothing has
        changed. Abandoning the future does not take the append back; `then` is called with the
        outcome even so, and before the future knows of it.
        """
        done: asyncio.Future[list[Task]] = self._loop.create_future()
        append = Append(entries, then, done)
        if len(entries) > MANY and isinstance(entries[0], NewTask | Arrival):
            append.many, self._large = True, self._large + 1
        for entry in entries:
            if is_long(entry):
                append.long = long_texts(entries, self.live.get)
                break
        if self.closing:
            append.settle(StorageUnavailable("the service is stopping"))
        else:
            self._waiting.append(append)
            self._wanted.set()
        return done

    async def between(self, chore: Callable[[], Awaitable[T]]) -> T:
        """Do a small chore of the store's upkeep between two commits. Raises StorageUnavailable.

        One at a time, and a commit after each: chores never hold up more than one commit.
        """
        async with self._chores, self._turn:
            if self.closing:
                raise StorageUnavailable("the service is stopping")
            self._ended.clear()  # the chore may delete them
            return await chore()

    async def task(self, task_id: str) -> Task:
        """The task as it stands, finished or not. Raises TaskNotFound."""
        task = self.live.get(task_id) or await self.store.task(task_id)
        if task is None:
            raise TaskNotFound(task_id)
        return self.live.get(task_id, task)

    async def followed(self, task_id: str) -> Task:
        """The task for one who has followed it to its end: from memory where it ended a moment
        ago, else as `task` gives it. Raises TaskNotFound."""
        return self._ended.get(task_id) or await self.task(task_id)

    def has_body(self, task: Task) -> bool:
        """Whether the body of a task is in memory: the task is new, and its body is small."""
        return task.id in self._bodies

    async def body(self, task: Task) -> bytes:
        """The body of a task as JSON: from memory once, where the task is new, else from the disk.
        Raises StorageUnavailable, and MemoryError where there is none to read it with."""
        return self._bodies.pop(task.id, None) or await self.store.body(task.n)

    async def follow(
        self,
        task_id: str,
        after: int = 0,
        turn: AbstractAsyncContextManager[None] = AT_ONCE,
    ) -> AsyncGenerator[list[Event]]:
        """Pages of the task's events with a seq above `after`, each once and in order.

        Ends after the last event of a finished task, or when the journal is released. Raises
        TaskNotFound, also where the task is deleted before all was given. A caller that does not
        ask for more gets nothing and costs nothing. `turn` is held while a page from the disk is
        read and used: a caller that follows many tasks bounds by it how many pages it holds.
        """
        with self._topics.topic(task_id) as topic:
            task = await self.task(task_id)
            topic.begin(task.seq)
            cursor = after
            while not topic.closed:
                grew = topic.grew  # taken before reading: no append can fall in between
                page = topic.tail(cursor)
                if page is None:
                    async with turn:
                        rows = await self.store.events(task.n, cursor)
                        page = [row.event(task_id) for row in rows]
                        if page:
                            cursor = page[-1].seq
                            yield page
                            continue
                if page:
                    cursor = page[-1].seq
                    yield page
                elif task_id not in self.live:
                    break
                else:
                    await grew.wait()
            if topic.gone and (page := topic.tail(cursor)):
                cursor = page[-1].seq
                yield page
            if topic.behind(cursor) and (topic.gone or not topic.closed):
                raise TaskNotFound(task_id)

    async def _write(self) -> None:
        """Started with the journal, ends when it is closed and empty; raises nothing."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                if self._chores.locked():
                    self._notify()
                async with self._turn:
                    await self._commit_some()
            self._notify()
            if self.closing:
                return

    async def _commit_some(self) -> None:
        batch, self._waiting = self._waiting[:COMMIT_MOST], self._waiting[COMMIT_MOST:]
        if self._large:
            batch, later = _without_others(batch)
            self._waiting[:0] = later
            self._large = sum(append.many for append in self._waiting)
        batch, ahead, part = _written_ahead(batch)
        try:
            await self._commit(batch, part)
        except Exception as error:
            if isinstance(error, MemoryError):
                error = StorageUnavailable("there is no memory left for this write")
            if not isinstance(error, StorageUnavailable | StaleLease):
                log.exception("a commit failed")
                error = StorageUnavailable(f"internal: {error}")
            without_frames(error)  # they hold the appends, whose futures hold the error
            refused, ahead = batch + ahead[:1], ahead[1:]
            for append in refused:
                self._settled.append((append, error))
                self._left += abandoned(append.entries)
        self._waiting[:0] = ahead

    async def _commit(self, appends: list[Append], part: Row | None) -> None:
        uncached_tasks = await self._uncached_tasks(appends)
        transaction = Transaction(
            (lambda task_id: self.live.get(task_id) or uncached_tasks.get(task_id))
            if uncached_tasks
            else self.live.get,
            self.now(),
            self.newest,
            self.store.node,
        )
        outcomes: list[tuple[Append, Outcome]] = []
        if accepted := part is not None:
            transaction.accept([part])
        for append in appends:
            try:
                outcomes.append((append, transaction.accept(append.entries)))
                accepted = True
            except (IllegalTransition, TaskNotFound) as error:
                without_frames(error)
                outcomes.append((append, error))
            except (TypeError, ValueError) as error:
                # JSON cannot hold it: that is the fault of this append, not of its neighbours.
                refusal = StorageUnavailable(f"this cannot be stored: {error}")
                outcomes.append((append, refusal))
                self._left += abandoned(append.entries)
        if accepted:
            commit, left = transaction.finish(), len(self._left)
            commit.rows += self._left
            with self.writes:
                committing = self.store.commit(commit)
                if self._settled:
                    self._notify()
                await committing
            del self._left[:left]
            self._publish(transaction)
        # A refusal waits as well: it may rest on what the batch makes of the task.
        self._settled += outcomes
        if transaction.commit.calls and transaction.at - self._forgot_at > FORGET_EVERY_MS:
            self._forgot_at = transaction.at
            self._notify()
            await self.store.upkeep.forget_calls(transaction.at - self.keep_calls_ms)

    def _notify(self) -> None:
        """Resolve the appends that are done, in their order."""
        settled, self._settled = self._settled, []
        for append, outcome in settled:
            append.settle(outcome)

    async def _uncached_tasks(self, appends: list[Append]) -> dict[str, Task]:
        """The finished tasks that the batch touches: they are not kept in memory."""
        ids = {
            entry.task_id
            for append in appends
            for entry in append.entries
            if isinstance(entry, Change | Removal) and entry.task_id not in self.live
        }
        if not ids:
            return {}
        self._notify()
        found = [await self.store.task(task_id) for task_id in ids]
        return {task.id: task for task in found if task is not None}

    def _publish(self, transaction: Transaction) -> None:
        """The batch is on the disk: make it the truth, then wake its followers."""
        self.newest = transaction.n
        gone: list[str] = []
        for task_id, task in transaction.tasks.items():
            self._ended.pop(task_id, None)
            if task is None:
                gone.append(task_id)
                self.live.pop(task_id, None)
                continue
            self.on_change(self.live.get(task_id), task)
            if task.state not in FINISHED:
                self.live[task_id] = task
                continue
            self.live.pop(task_id, None)
            self._bodies.pop(task_id, None)
            self._ended[task_id] = task
            if len(self._ended) > ENDED_TASKS:
                del self._ended[next(iter(self._ended))]
            if task.request.callback_url is not None:
                self.owed.set()
        in_parts = transaction.commit.body_rests
        for task_id, body in transaction.bodies.items():
            live = self.live.get(task_id)
            if live is not None and len(body) <= NEW_BODY_BYTES and live.n not in in_parts:
                self._bodies[task_id] = body
                if len(self._bodies) > NEW_BODIES:
                    del self._bodies[next(iter(self._bodies))]
        events = transaction.commit.events
        self._topics.publish(events, gone)
        self.feed.publish(events)


def _without_others(batch: list[Append]) -> tuple[list[Append], list[Append]]:
    """The same with one append of many tasks only, and the others of them."""
    others = [append for append in batch if append.many][1:]
    return [append for append in batch if append not in others], others


def _written_ahead(batch: list[Append]) -> tuple[list[Append], list[Append], Row | None]:
    """The appends that are ready; those that are not, and a part of the first of these."""
    ahead = [append for append in batch if append.long is not None]
    if not ahead:
        return batch, ahead, None
    part = None
    while ahead and ahead[0].long is not None:
        if (part := next(ahead[0].long.parts, None)) is not None:
            break
        ahead[0].entries, ahead[0].long = ahead[0].long.entries, None
        del ahead[0]
    return [append for append in batch if append.long is None], ahead, part


__all__ = [
    "Arrival",
    "Change",
    "Event",
    "Journal",
    "NewTask",
    "Outcome",
    "PersistedValue",
    "Removal",
    "Row",
    "Tried",
]
