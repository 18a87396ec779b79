"""A transaction: a batch of appends, applied in memory and not yet committed.

Owns what an append may contain and how many of them become one commit. Promises that an append
that is refused leaves no trace in the commit, and that a task appears in it once, in its last
state. Never touches the database, nor the tasks that it was given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asyncsvc.errors import IllegalTransition, StaleLease, TaskNotFound
from asyncsvc.storage.entries import Commit, Event, Row, Tried, event_json
from asyncsvc.tasks.state import (
    FINISHED,
    SUBMITTED,
    Cause,
    Draft,
    EventType,
    Request,
    State,
    Task,
    apply,
    create,
)

EVENT_CHARS = 128 * 1024
"""Characters of text in one event. As JSON, of six bytes a character at most, an event stays below
the mebibyte that many clients take as one WebSocket frame."""
WRITTEN = frozenset({EventType.CHUNK, EventType.REASONING})


@dataclass(slots=True)
class NewTask:
    """A task to be stored. `key` is (idempotency key, fingerprint, first answers), and stands for
    so many tasks: this one and those that follow in the same append. `rest`: how many bytes that
    follow on `body` are stored already."""

    request: Request
    body: bytes
    key: tuple[str, str, str] | None = None
    count: int = 1
    rest: int = 0


@dataclass(slots=True)
class Arrival:
    """A finished task from elsewhere, stored as it was; `drafts` are its events with their times
    (ms). No task of this service may have its id yet."""

    task: Task
    drafts: Sequence[tuple[int, Draft]]
    body: bytes
    result: str | None = None


@dataclass(slots=True)
class Change:
    """Events to be added to one task, with what only the database needs.

    `result` is stored where the task has left `running`; `call` names the account whose rate
    window counts this start, and `tokens` its estimate; `source` is the state that the task
    must still be in, `epoch` the run that writes this: no later one may have begun. `durable`:
    sync the events to the disk even where they change no state. `rest`: how many bytes that follow
    on `result` are stored already.
    """

    task_id: str
    drafts: Sequence[Draft]
    result: str | None = None
    call: str | None = None
    tokens: int = 0
    source: State | None = None
    epoch: int | None = None
    durable: bool = False
    rest: int = 0


@dataclass(slots=True)
class Removal:
    """A finished task to be deleted with all its events."""

    task_id: str


@dataclass(slots=True)
class PersistedValue:
    """A value by kind and key that belongs to no task: `value` is JSON text, None deletes.

    Unless `durable` it needs no fsync of its own: what a power cut takes can be found out again.
    """

    kind: str
    key: str
    value: str | None
    durable: bool = False


Entry = NewTask | Arrival | Change | Removal | PersistedValue | Tried | Row
Known = Callable[[str], Task | None]
"""Looks up a task as it stands on the disk."""


@dataclass(slots=True)
class Transaction:
    """The tasks as the appends leave them; None stands for a deleted one. `n` is the number of
    the newest task, `node` the node that takes leases."""

    known: Known
    at: int
    n: int
    node: str = ""
    tasks: dict[str, Task | None] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    commit: Commit = field(init=False)
    """All but the tasks, which `finish` adds as they are at last."""

    def __post_init__(self) -> None:
        self.commit = Commit(self.at)

    def accept(self, entries: Sequence[Entry]) -> list[Task]:
        """Apply all entries or none; the tasks, one for each entry that is about a task.
        Raises IllegalTransition or TaskNotFound."""
        if len(entries) == 1:  # an entry leaves no trace where it is refused
            task = self._enter(entries[0])
            return [] if task is None else [task]
        trial = Transaction(self._now_known, self.at, self.n, self.node)
        tasks = [task for entry in entries if (task := trial._enter(entry)) is not None]
        self.n = trial.n
        self.tasks.update(trial.tasks)
        self.bodies.update(trial.bodies)
        self.commit.add(trial.commit)
        return tasks

    def finish(self) -> Commit:
        """What one database transaction writes for it."""
        commit = self.commit
        for task_id, task in self.tasks.items():
            if task is not None and task_id in self.bodies:
                commit.created.append((task, self.bodies[task_id]))
            elif (before := self.known(task_id)) is None:
                continue
            elif task is None:
                commit.deleted.append(before.n)
            elif before.version != task.version:
                commit.changed.append((before, task))
            elif before.lease_until != task.lease_until:
                commit.renewed.append(task)
        return commit

    def _now_known(self, task_id: str) -> Task | None:
        return self.tasks[task_id] if task_id in self.tasks else self.known(task_id)

    def _enter(self, entry: Entry) -> Task | None:
        commit = self.commit
        match entry:
            case NewTask():
                return self._create(entry)
            case PersistedValue():
                commit.values[entry.kind, entry.key] = entry.value
                commit.acknowledging |= entry.durable
            case Row():
                commit.rows.append(entry)
            case Tried():
                commit.tried.append(entry)
            case Arrival():
                return self._arrive(entry)
            case Removal():
                return self._remove(self._existing(entry.task_id))
            case Change():
                return self._change(entry, self._existing(entry.task_id))
        return None

    def _existing(self, task_id: str) -> Task:
        if (task := self._now_known(task_id)) is None:
            raise TaskNotFound(task_id)
        return task

    def _create(self, entry: NewTask) -> Task:
        request = entry.request
        task, draft = create(request, self.at, self.n + 1)
        event = _event(task, draft, self.at)
        self.n += 1
        self.commit.events.append(event)
        self.tasks[request.id] = task
        self.bodies[request.id] = entry.body
        if entry.rest:
            self.commit.body_rests[task.n] = entry.rest
        if entry.key is not None:
            key, fingerprint, answer = entry.key
            last_n = self.n + entry.count - 1
            self.commit.keys.append((key, fingerprint, self.n, last_n, answer))
        return task

    def _arrive(self, entry: Arrival) -> Task:
        drafts = [(at, part) for at, draft in entry.drafts for part in _parts(draft)]
        count, n = len(drafts), self.n + 1
        task = replace(entry.task, n=n, seq=count, version=count)
        self.commit.events += [
            _event(task, draft, at, seq) for seq, (at, draft) in enumerate(drafts, start=1)
        ]
        self.n = n
        self.tasks[task.id] = task
        self.bodies[task.id] = entry.body
        if entry.result is not None:
            self.commit.results[n] = entry.result
        return task

    def _remove(self, task: Task) -> Task:
        if not task.finished:
            raise IllegalTransition(task.state.value, "deleted")
        self.tasks[task.id] = None
        return task

    def _change(self, entry: Change, task: Task) -> Task:
        if entry.source is not None and task.state is not entry.source:
            raise IllegalTransition(task.state.value, "changed: it has moved on")
        if entry.epoch is not None and task.epoch != entry.epoch:
            raise StaleLease(task.state.value)
        commit, events = self.commit, []
        rerun = False
        for draft in entry.drafts:
            applied = apply(task, draft, self.at, self.node)
            if draft.type is EventType.STATUS and applied.state in FINISHED:
                draft = Draft(draft.type, draft.data | {"spans": applied.trace(self.at)})
            event = _event(applied, draft, self.at)
            if len(event.text) <= EVENT_CHARS:
                task = applied
                events.append(event)
            else:
                for part in _parts(draft):
                    task = apply(task, part, self.at, self.node)
                    events.append(_event(task, part, self.at))
            rerun |= draft.data.get("cause") == Cause.RERUN
        commit.events += events
        commit.acknowledging |= entry.durable
        self.tasks[entry.task_id] = task
        if rerun:
            commit.results[task.n] = None
        if entry.result is not None and task.state is not State.RUNNING:
            commit.results[task.n] = entry.result
            commit.rests[task.n] = entry.rest
        if entry.call is not None:
            commit.calls.append((entry.call, self.at, entry.tokens))
        return task


def _text(draft: Draft) -> str:
    """What the model wrote: text, thinking, or a piece of a tool call's arguments."""
    if draft.type is EventType.TOOL_CALL and _streamed(draft.data):
        return str(draft.data["function"].get("arguments") or "")
    return str(draft.data["text"]) if draft.type in WRITTEN else ""


def _streamed(call: dict[str, Any]) -> bool:
    """Whether it is a piece of a call as the model writes it, and no whole call of an agent."""
    return "function" in call and "by" not in call


def _parts(draft: Draft) -> list[Draft]:
    """The same, but as several events where its text is too long for one."""
    text, data = _text(draft), draft.data
    pieces = [text[start : start + EVENT_CHARS] for start in range(0, len(text), EVENT_CHARS)]
    if len(pieces) < 2:
        return [draft]
    if draft.type is not EventType.TOOL_CALL:
        return [Draft(draft.type, data | {"text": piece}) for piece in pieces]
    first = data | {"function": data["function"] | {"arguments": pieces[0]}}
    rest = [{"index": data["index"], "function": {"arguments": piece}} for piece in pieces[1:]]
    return [Draft(draft.type, each) for each in (first, *rest)]


def _event(task: Task, draft: Draft, at: int, seq: int | None = None) -> Event:
    """The task's last event, or the one of that `seq`. Raises TypeError or ValueError for data that
    JSON cannot hold."""
    data = _SUBMITTED if draft is SUBMITTED else event_json(draft.data)
    request, seq = task.request, task.seq if seq is None else seq
    return Event(request.id, task.n, seq, draft.type.value, at, data, 0, request.owner)


_SUBMITTED = event_json(SUBMITTED.data)
