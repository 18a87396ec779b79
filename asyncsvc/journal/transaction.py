"""A transaction: a batch of appends, applied in memory and not yet committed.

Owns what an append may contain and how many of them become one transaction. Promises that an
append that is refused leaves no trace in the batch, and that a task appears in it once, in
its last state. Never touches the database, nor the tasks that it was given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from asyncsvc.errors import IllegalTransition, TaskNotFound
from asyncsvc.record import record
from asyncsvc.storage.columns import Event, EventRow, event_json
from asyncsvc.storage.statements import Batch, Beside
from asyncsvc.storage.webhooks import Tried
from asyncsvc.tasks.state import SUBMITTED, Cause, Draft, Request, State, Task, apply, create
from asyncsvc.tasks.submission import PREVIEW_CHARS


@record
class NewTask:
    """A task to be stored. `key` is (idempotency key, fingerprint, first answers), and stands for
    so many tasks: this one and those that follow in the same append."""

    request: Request
    body: bytes
    key: tuple[str, str, str] | None = None
    count: int = 1


@record
class Arrival:
    """A finished task from elsewhere, stored as it was; `drafts` are its events with their times
    (ms). Nobody here may know its id yet."""

    task: Task
    drafts: Sequence[tuple[int, Draft]]
    body: bytes
    result: str | None = None


@record
class Change:
    """Events to be added to one task, with what only the database needs.

    `result` is stored where the task has left `running`; `call` names the gate whose rate
    window counts this start, and `tokens` its estimate; `source` is the state that the task
    must still be in.
    """

    task_id: str
    drafts: Sequence[Draft]
    result: str | None = None
    call: str | None = None
    tokens: int = 0
    source: State | None = None


@record
class Removal:
    """A finished task to be deleted with all its events."""

    task_id: str


@record
class PersistedValue:
    """A value by kind and key that belongs to no task: `value` is JSON text, None deletes.

    Unless `durable` it needs no fsync of its own: what a power cut takes can be found out again.
    """

    kind: str
    key: str
    value: str | None
    durable: bool = False


Entry = NewTask | Arrival | Change | Removal | PersistedValue | Tried | Beside
Known = Callable[[str], Task | None]
"""Looks up a task as it stands on the disk."""


@dataclass(slots=True)
class Transaction:
    """The tasks as the batch leaves them; None stands for a deleted one."""

    known: Known
    at: int
    n: int
    event_id: int
    tasks: dict[str, Task | None] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    results: dict[int, str | None] = field(default_factory=dict)
    rows: list[EventRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    keys: list[tuple[str, str, int, int, str]] = field(default_factory=list)
    values: dict[tuple[str, str], str | None] = field(default_factory=dict)
    beside: list[Beside] = field(default_factory=list)
    acknowledging: bool = False
    """Whether a persisted value must be on the disk before the append is acknowledged."""
    tried: list[Tried] = field(default_factory=list)

    def accept(self, entries: Sequence[Entry]) -> list[Task]:
        """Apply all entries or none; the tasks, one for each entry that is about a task.
        Raises IllegalTransition or TaskNotFound."""
        if len(entries) == 1:  # an entry leaves no trace where it is refused
            task = self._enter(entries[0])
            return [] if task is None else [task]
        trial = Transaction(self._now_known, self.at, self.n, self.event_id)
        tasks = [task for entry in entries if (task := trial._enter(entry)) is not None]
        self.n, self.event_id = trial.n, trial.event_id
        self.tasks.update(trial.tasks)
        self.bodies.update(trial.bodies)
        self.results.update(trial.results)
        self.rows += trial.rows
        self.events += trial.events
        self.calls += trial.calls
        self.keys += trial.keys
        self.values.update(trial.values)
        self.beside += trial.beside
        self.acknowledging |= trial.acknowledging
        self.tried += trial.tried
        return tasks

    def batch(self) -> Batch:
        """The rows that one database transaction writes for it."""
        batch = Batch(events=self.rows, calls=self.calls, keys=self.keys, beside=self.beside)
        batch.values = [(kind, key, self.at, value) for (kind, key), value in self.values.items()]
        batch.acknowledging = self.acknowledging
        batch.callbacks.tried += self.tried
        batch.callbacks.tried_at = self.at
        for task_id, task in self.tasks.items():
            if task is not None and task_id in self.bodies:
                batch.created.append((task, self.bodies[task_id]))
                if task.finished:
                    batch.callbacks.note(task, None, self.at)
            elif (before := self.known(task_id)) is None:
                continue
            elif task is None:
                batch.deleted.append(before.n)
            elif before.version != task.version:
                batch.changed.append((task, before.version))
                batch.callbacks.note(task, before, self.at)
        for n, text in self.results.items():
            batch.results.append((n, text, (text or "")[:PREVIEW_CHARS]))
        return batch

    def _now_known(self, task_id: str) -> Task | None:
        return self.tasks[task_id] if task_id in self.tasks else self.known(task_id)

    def _enter(self, entry: Entry) -> Task | None:
        if isinstance(entry, NewTask):
            return self._create(entry)
        if isinstance(entry, PersistedValue):
            self.values[entry.kind, entry.key] = entry.value
            self.acknowledging |= entry.durable
            return None
        if isinstance(entry, Beside):
            self.beside.append(entry)
            return None
        if isinstance(entry, Tried):
            self.tried.append(entry)
            return None
        if isinstance(entry, Arrival):
            return self._arrive(entry)
        task = self._now_known(entry.task_id)
        if task is None:
            raise TaskNotFound(entry.task_id)
        if isinstance(entry, Removal):
            if not task.finished:
                raise IllegalTransition(task.state.value, "deleted")
            self.tasks[task.id] = None
            return task
        return self._change(entry, task)

    def _create(self, entry: NewTask) -> Task:
        request = entry.request
        task, draft = create(request, self.at, self.n + 1)
        row = _row(task, draft, self.event_id + 1, self.at)
        self.n += 1
        self.event_id += 1
        self.rows.append(row)
        self.events.append(row.event(request.id))
        self.tasks[request.id] = task
        self.bodies[request.id] = entry.body
        if entry.key is not None:
            key, fingerprint, answer = entry.key
            self.keys.append((key, fingerprint, self.n, self.n + entry.count - 1, answer))
        return task

    def _arrive(self, entry: Arrival) -> Task:
        count, n = len(entry.drafts), self.n + 1
        task = replace(entry.task, n=n, seq=count, version=count)
        rows = [
            _row(replace(task, seq=seq), draft, self.event_id + seq, at)
            for seq, (at, draft) in enumerate(entry.drafts, start=1)
        ]
        self._record(rows, task)
        self.n = n
        self.bodies[task.id] = entry.body
        if entry.result is not None:
            self.results[n] = entry.result
        return task

    def _change(self, entry: Change, task: Task) -> Task:
        if entry.source is not None and task.state is not entry.source:
            raise IllegalTransition(task.state.value, "changed: it has moved on")
        rows: list[EventRow] = []
        for draft in entry.drafts:
            task = apply(task, draft, self.at)
            rows.append(_row(task, draft, self.event_id + len(rows) + 1, self.at))
        self._record(rows, task)
        if any(draft.data.get("cause") == Cause.RERUN for draft in entry.drafts):
            self.results[task.n] = None
        if entry.result is not None and task.state is not State.RUNNING:
            self.results[task.n] = entry.result
        if entry.call is not None:
            self.calls.append((entry.call, self.at, entry.tokens))
        return task

    def _record(self, rows: Sequence[EventRow], task: Task) -> None:
        self.event_id += len(rows)
        self.rows += rows
        self.events += [row.event(task.id) for row in rows]
        self.tasks[task.id] = task


def _row(task: Task, draft: Draft, event_id: int, at: int) -> EventRow:
    """Raises TypeError or ValueError for data that JSON cannot hold."""
    data = _SUBMITTED if draft is SUBMITTED else event_json(draft.data)
    return EventRow(event_id, task.n, task.seq, draft.type.value, at, data)


_SUBMITTED = event_json(SUBMITTED.data)
