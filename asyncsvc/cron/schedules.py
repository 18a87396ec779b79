"""Schedules: tasks that are submitted again and again, by cron expressions.

A firing stores its task and moves the schedule on in one transaction, so that a crash neither
repeats nor loses it. No regular time is fired twice, whichever way the clock is set; times that
were missed while the service was stopped are made up for by one firing; a firing that the intake
refuses is tried again.
"""

import asyncio
import logging
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError

from asyncsvc.access import Caller
from asyncsvc.clock import new_id, rfc3339
from asyncsvc.cron.crontab import Crontab
from asyncsvc.errors import (
    AsyncsvcError,
    InvalidRequest,
    NotFound,
    QueueFull,
    RequestError,
    ShuttingDown,
    StorageUnavailable,
)
from asyncsvc.intake.admission import Key, Keys, Origin, fingerprint
from asyncsvc.intake.intake import Intake
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.limits.backoff import backoff
from asyncsvc.scheduling.steps import Steps, shielded
from asyncsvc.tasks.submission import Submission

log = logging.getLogger(__name__)


KIND = "schedule"
"""The kind of a persisted schedule."""
SPANS_KEPT = 8
"""Each stop and each setting of the clock may add a span; above this many, the oldest join."""
SETTLED_MS = 60_000
"""How far before a late firing the regular times are taken as dealt with: a clock that is
corrected by a little must not bring them back."""

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored. Times are ms since the epoch; `due_at` None: never due again."""

    id: str
    cron: str
    timezone: str
    owner: str | None
    preview: str
    created_at: int
    due_at: int | None
    """The regular time that it waits for; one that is past was missed, and is fired late."""
    last_run_at: int | None = None
    last_due_at: int | None = None
    """The regular time that the last run was for."""
    last_task_id: str | None = None
    runs: int = 0
    last_error: dict[str, Any] | None = None
    """Why the last firing was refused, with the time; None where it was not."""
    done: Spans = field(default=())
    """Spans of time, both ends included, in which each regular time is dealt with."""
    name: str | None = None
    """One owner has one schedule of a name."""

    def fired(self, rule: Crontab, task_id: str, at: int) -> "Schedule":
        """The schedule after its due time has made a task at `at`."""
        assert self.due_at is not None
        done = _with(self.done, rule, self.due_at)
        if _missed(rule, self.due_at, at):
            done = _joined((*done, (max(self.due_at, at - SETTLED_MS), at)))
        after = replace(self, done=done)
        return replace(
            after,
            due_at=after.following(rule, at),
            last_run_at=at,
            last_due_at=self.due_at,
            last_task_id=task_id,
            runs=self.runs + 1,
            last_error=None,
        )

    def replaced(self, by: "Schedule", rule: Crontab, at: int) -> "Schedule":
        """The schedule with the rule and the task of another one of its name, from `at` on.

        Where that has the same regular times, the one that this waits for stays, even if it is
        past: a change of the task neither loses a firing nor repeats one.
        """
        same = (by.cron, by.timezone) == (self.cron, self.timezone)
        due = self.due_at if same else None
        after = replace(
            self, cron=by.cron, timezone=by.timezone, preview=by.preview, last_error=None
        )
        return replace(after, due_at=after.following(rule, at) if due is None else due)

    def following(self, rule: Crontab, at: int) -> int | None:
        """The first regular time after `at` that is not dealt with; None where there is none."""
        found = rule.after(at)
        while found is not None:
            end = next((last for first, last in self.done if first <= found <= last), None)
            if end is None:
                return found
            found = rule.after(end)
        return None

    def awaiting(self, rule: Crontab, at: int) -> "Schedule":
        """The schedule with the time that it waits for, seen from `at`: an earlier one if the clock
        was set back to before times that were passed over."""
        due, found = self.due_at, self.following(rule, at)
        if found is None or (due is not None and due <= found):
            return self
        return replace(self, due_at=found)

    def dumps(self) -> str:
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """A request for a schedule: the rule, and the task that each firing submits."""

    cron: str
    timezone: str
    submission: Submission
    owner: str | None = None
    name: str | None = None

    def schedule(self, schedule_id: str, at: int, due: int | None) -> Schedule:
        preview = self.submission.preview()
        return Schedule(
            schedule_id, self.cron, self.timezone, self.owner, preview, at, due, name=self.name
        )

    def fingerprint(self) -> str:
        task = self.submission.model_dump()
        return fingerprint(KIND, self.name, self.cron, self.timezone, task)


def loads(text: str) -> Schedule:
    """The schedule of `Schedule.dumps`."""
    fields = orjson.loads(text)
    spans = tuple((first, last) for first, last in fields.pop("done"))
    return Schedule(**fields, done=spans)


def _missed(rule: Crontab, due: int, at: int) -> bool:
    """Whether more regular times than `due` have passed by `at`."""
    after = rule.after(due)
    return after is not None and after <= at


def _with(spans: Spans, rule: Crontab, due: int) -> Spans:
    """The spans with one more time dealt with, which prolongs a span that it follows directly."""
    before = [span for span in spans if span[1] < due]
    last = max(before, key=lambda span: span[1], default=None)
    if last is not None and rule.after(last[1]) == due:
        spans = tuple(span for span in spans if span != last)
        return _joined((*spans, (last[0], due)))
    return _joined((*spans, (due, due)))


def _joined(spans: Spans) -> Spans:
    """The spans in order, overlapping ones as one, `SPANS_KEPT` at most."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    spare = max(len(found) - SPANS_KEPT, 0)
    if spare:
        found = [(found[0][0], found[spare][1]), *found[spare + 1 :]]
    return tuple(found)


BODY = "schedule-task"
"""The kind of a persisted task body, which is written once, not with each firing."""
MOST = 1000
LOOK_S = 60.0
"""The longest wait without a look at the wall clock, which may be set meanwhile."""
RETRY_BASE_S, RETRY_MAX_S = 1.0, 60.0
FULL_RETRY_S = 60.0


@dataclass(eq=False, slots=True)
class _Entry:
    """A schedule under way; `rule` None: its zone or expression is no longer known here."""

    schedule: Schedule
    rule: Crontab | None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    alarm: asyncio.TimerHandle | None = None
    refused: int = 0
    gone: bool = False

    def quiet(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None


class Schedules:
    """All schedules. `open` when the intake is open, `close` before the journal is closed."""

    def __init__(self, journal: Journal, intake: Intake, keys: Keys) -> None:
        self._journal = journal
        self._intake = intake
        self._keys = keys
        self._entries: dict[str, _Entry] = {}
        self._placing = asyncio.Lock()
        """Held while a schedule is made, so that a name or a key makes one of two at once."""
        self._steps = Steps()

    async def open(self) -> None:
        """Load the stored schedules; a firing that was missed follows at once."""
        now = self._journal.now()
        kept = [loads(text) for _, _, text in await self._journal.store.persisted_values(KIND)]
        for schedule in sorted(kept, key=lambda one: one.id):  # ids sort by time
            try:
                rule = Crontab.read(schedule.cron, schedule.timezone, now)
            except InvalidRequest as error:
                log.warning("schedule %s rests: %s", schedule.id, error, extra=_fields(schedule))
                schedule = replace(schedule, due_at=None, last_error=_last_error(error, now))
                self._entries[schedule.id] = _Entry(schedule, None)
                continue
            entry = self._entries[schedule.id] = _Entry(schedule, rule)
            self._wait(entry)

    async def close(self) -> None:
        """Stop all alarms. A firing that is being written is written or not, never half."""
        for entry in self._entries.values():
            entry.quiet()
        await self._steps.close()

    # What a client can do ---------------------------------------------------------------------

    async def create(
        self, wanted: ScheduleRequest, key: str | None = None
    ) -> tuple[Schedule, bool]:
        """The schedule, and whether it is new: a known name replaces what its schedule does, a
        known Idempotency-Key changes nothing. Durable when it returns.

        Raises RequestError or StorageUnavailable.
        """
        return await shielded(self._create(wanted, key))

    def all(self, caller: Caller) -> list[Schedule]:
        """The schedules that the caller may see, the oldest first."""
        schedules = [entry.schedule for entry in self._entries.values()]
        return [schedule for schedule in schedules if caller.sees(schedule.owner)]

    def get(self, caller: Caller, schedule_id: str) -> Schedule:
        """The schedule of that id. Raises NotFound."""
        return self._entry(caller, schedule_id).schedule

    async def task(self, caller: Caller, schedule_id: str) -> dict[str, Any]:
        """The task that the schedule submits: the fields that were given. Raises NotFound."""
        self._entry(caller, schedule_id)
        found: dict[str, Any] = orjson.loads(await self._body(schedule_id))
        return found

    async def delete(self, caller: Caller, schedule_id: str) -> None:
        """Delete the schedule; its tasks stay. Raises NotFound."""
        await shielded(self._delete(self._entry(caller, schedule_id)))

    async def _create(self, wanted: ScheduleRequest, key: str | None) -> tuple[Schedule, bool]:
        async with self._placing:
            if key is None:
                return await self._place(wanted)
            one = Key.of(wanted.owner, key, wanted.fingerprint())
            async with self._keys.once(one) as made:
                if (entry := self._entries.get(made)) is not None:
                    return entry.schedule, False
                return await self._place(wanted, one)

    async def _place(
        self, wanted: ScheduleRequest, key: Key | None = None
    ) -> tuple[Schedule, bool]:
        now = self._journal.now()
        if self._intake.closed:
            raise ShuttingDown("the service is stopping; try again", retry_after=LOOK_S)
        rule = Crontab.read(wanted.cron, wanted.timezone, now)
        await self._intake.check(wanted.submission)
        schedule = wanted.schedule(new_id(now), now, rule.after(now))
        if (entry := self._named(wanted)) is not None:
            async with entry.turn:  # a firing under way would write the old one down again
                if not entry.gone:
                    schedule = entry.schedule.replaced(schedule, rule, now)
                    await self._write(schedule, wanted.submission, key)
                    entry.schedule, entry.rule, entry.refused = schedule, rule, 0
                    self._wait(entry)
                    return entry.schedule, False
        if len(self._entries) >= MOST:
            raise QueueFull(
                f"there are {len(self._entries)} of {MOST} schedules; delete one first",
                retry_after=FULL_RETRY_S,
            )
        await self._write(schedule, wanted.submission, key)
        entry = self._entries[schedule.id] = _Entry(schedule, rule)
        self._wait(entry)
        return schedule, True

    def _named(self, wanted: ScheduleRequest) -> _Entry | None:
        """The owner's schedule of that name."""
        if wanted.name is None:
            return None
        asked = (wanted.owner, wanted.name)
        entries = self._entries.values()
        return next((e for e in entries if (e.schedule.owner, e.schedule.name) == asked), None)

    async def _write(self, schedule: Schedule, submission: Submission, key: Key | None) -> None:
        body = submission.model_dump_json(exclude_unset=True)
        beside = [] if key is None else [key.made(schedule.id)]
        await self._journal.append(
            PersistedValue(BODY, schedule.id, body, durable=True),
            _kept(schedule, durable=True),
            *beside,
        )

    async def _delete(self, entry: _Entry) -> None:
        async with entry.turn:  # a firing under way would write it down again
            if entry.gone:
                return
            found = entry.schedule.id
            gone = [PersistedValue(kind, found, None, durable=True) for kind in (BODY, KIND)]
            await self._journal.append(*gone)
            entry.gone = True
            entry.quiet()
            del self._entries[found]

    def _entry(self, caller: Caller, schedule_id: str) -> _Entry:
        entry = self._entries.get(schedule_id)
        if entry is None or not caller.sees(entry.schedule.owner):
            raise NotFound(f"there is no schedule {schedule_id!r}", param="schedule_id")
        return entry

    async def _body(self, schedule_id: str) -> str:
        return await self._journal.store.persisted_value(BODY, schedule_id) or "{}"

    # Waiting and firing -----------------------------------------------------------------------

    def _wait(self, entry: _Entry, pause_s: float = 0.0) -> None:
        """Look again when it is due, when the pause is over, or when the clock may be another."""
        assert entry.rule is not None
        if entry.gone:
            return
        now = self._journal.now()
        entry.schedule = entry.schedule.awaiting(entry.rule, now)
        due = entry.schedule.due_at
        left = LOOK_S if due is None else max((due - now) / 1000, pause_s)
        entry.quiet()
        entry.alarm = asyncio.get_running_loop().call_later(
            min(left, LOOK_S), partial(self._look, entry)
        )

    def _look(self, entry: _Entry) -> None:
        entry.alarm = None
        due = entry.schedule.due_at
        if due is not None and due <= self._journal.now():
            self._steps.start(self._fire(entry, due))
        else:
            self._wait(entry)

    async def _fire(self, entry: _Entry, due: int) -> None:
        """Make the task that was due then, or note why not and come back to it."""
        async with entry.turn:
            if entry.gone:
                return
            if entry.schedule.due_at != due:  # it was replaced meanwhile
                self._wait(entry)
                return
            try:
                await self._submit(entry)
            except ShuttingDown:
                return  # it stays due: the next process makes up for it
            except (RequestError, StorageUnavailable) as error:
                self._refused(entry, error)
            except Exception as error:
                text, schedule = "schedule %s could not fire", entry.schedule
                log.exception(text, schedule.id, extra=_fields(schedule))
                self._refused(entry, StorageUnavailable(f"internal: {error}"))
            else:
                entry.refused = 0
                self._wait(entry)

    async def _submit(self, entry: _Entry) -> None:
        assert entry.rule is not None
        before, rule, now = entry.schedule, entry.rule, self._journal.now()
        try:
            submission = Submission.model_validate_json(await self._body(before.id))
        except ValidationError as error:
            raise InvalidRequest(
                f"the task is no longer valid: {error.errors()[0]['msg']}"
            ) from None
        after = before

        def note(task_id: str) -> PersistedValue:
            nonlocal after
            after = before.fired(rule, task_id, now)
            return _kept(after, durable=True)

        await self._intake.fire(submission, before.owner, Origin(before.id, note))
        entry.schedule = after

    def _refused(self, entry: _Entry, error: AsyncsvcError) -> None:
        """Try again soon, and afresh at the next regular time."""
        assert entry.rule is not None
        now = self._journal.now()
        if entry.refused == 0:
            text, schedule = "schedule %s could not fire: %s", entry.schedule
            log.warning(text, schedule.id, error, extra=_fields(schedule))
        entry.schedule = replace(entry.schedule, last_error=_last_error(error, now))
        if not self._journal.closing:
            self._journal.append(_kept(entry.schedule, durable=False))
        pause_s = backoff(entry.refused, RETRY_BASE_S, RETRY_MAX_S)
        entry.refused += 1
        regular = entry.schedule.following(entry.rule, now)
        if regular is not None and (regular - now) / 1000 <= pause_s:
            pause_s, entry.refused = (regular - now) / 1000, 0
        self._wait(entry, pause_s)


def _fields(schedule: Schedule) -> dict[str, str]:
    """The fields of a line about a schedule."""
    return {"schedule_id": schedule.id}


def _kept(schedule: Schedule, durable: bool) -> PersistedValue:
    return PersistedValue(KIND, schedule.id, schedule.dumps(), durable)


def _last_error(error: AsyncsvcError, at: int) -> dict[str, Any]:
    code = error.code if isinstance(error, RequestError) else "overloaded"
    return {"code": code, "message": str(error), "at": rfc3339(at)}
