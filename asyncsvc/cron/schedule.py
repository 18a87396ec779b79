"""One schedule, and which of its regular times have been dealt with.

Owns the record that is written with each firing, and the choice of the next time. Promises that
no regular time is given out twice, wherever somebody sets the clock; that those which passed
while the service was stopped come down to one. Never waits, never writes.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from asyncsvc.cron.crontab import Crontab
from asyncsvc.intake.idempotency import fingerprint
from asyncsvc.tasks.submission import Submission

KIND = "schedule"
"""What the table `kept` calls a schedule."""
SPANS_KEPT = 8
"""Each stop and each setting of the clock may add a span; above this many, the oldest join."""
SETTLED_MS = 60_000
"""How far before a late firing the regular times are taken as dealt with: a clock that is
corrected by a little must not bring them back."""

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """As it is stored. Times are ms since the epoch; `due_at` None: it is never due again."""

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
        """After its due time has made a task at `at`."""
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
        """With what another one of its name is to do from `at` on.

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
        """The first regular time after `at` that is not dealt with."""
        found = rule.after(at)
        while found is not None:
            end = next((last for first, last in self.done if first <= found <= last), None)
            if end is None:
                return found
            found = rule.after(end)
        return None

    def awaiting(self, rule: Crontab, at: int) -> "Schedule":
        """With the time that it waits for, seen from `at`: an earlier one if the clock was set
        back to before times that were passed over."""
        due, found = self.due_at, self.following(rule, at)
        if found is None or (due is not None and due <= found):
            return self
        return replace(self, due_at=found)

    def dumps(self) -> str:
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants to have done again and again."""

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
    """With one more time dealt with; it prolongs a span that it follows directly."""
    before = [span for span in spans if span[1] < due]
    last = max(before, key=lambda span: span[1], default=None)
    if last is not None and rule.after(last[1]) == due:
        spans = tuple(span for span in spans if span != last)
        return _joined((*spans, (last[0], due)))
    return _joined((*spans, (due, due)))


def _joined(spans: Spans) -> Spans:
    """In order, overlapping ones as one, and not too many."""
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
