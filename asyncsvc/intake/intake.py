"""The intake: takes tasks into the queue, and refuses others before anything is stored.

A task is durable before it is acknowledged, a batch is taken wholly or not at all, and one
idempotency key never makes two tasks. The intake orders and runs nothing.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

import orjson

from asyncsvc.config.settings import Settings
from asyncsvc.errors import (
    AsyncsvcError,
    NoModel,
    Overloaded,
    QueueFull,
    RequestError,
    ShuttingDown,
    StorageUnavailable,
)
from asyncsvc.intake.admission import (
    Accepted,
    Admission,
    Aside,
    Key,
    Keys,
    Origin,
    at_once,
    draft,
    drafted,
    fingerprint_of,
    request_of,
    with_tools,
)
from asyncsvc.intake.quotas import Quotas
from asyncsvc.journal.counters import TaskCounters
from asyncsvc.journal.journal import Journal, NewTask, Outcome, PersistedValue, Row
from asyncsvc.loop_turns import PART, LoopTurns
from asyncsvc.providers import tokens
from asyncsvc.scheduling.scheduler import Scheduler
from asyncsvc.scheduling.steps import shielded
from asyncsvc.tasks.state import Request, State, Task
from asyncsvc.tasks.submission import Submission
from asyncsvc.tasks.trace import Trace

RETRY_AFTER_S = 5.0
Also = Callable[[Sequence[str]], Sequence[Row]]
"""Given the ids of new tasks: what is written in one transaction with them."""

Prepare = Callable[[NewTask], Awaitable[NewTask]]
"""Makes what a new task needs before it is stored, and gives the task as it is to be stored."""

P = ParamSpec("P")
T = TypeVar("T")


class Entrance:
    """Lets stored tasks wait for their turn, in the order in which they were stored; of many at
    once a part with each round of the event loop: 1,000 tasks take 16 ms."""

    def __init__(self, journal: Journal, scheduler: Scheduler, counters: TaskCounters) -> None:
        self._journal = journal
        self._scheduler = scheduler
        self._counters = counters
        self._waiting: deque[tuple[Task, Accepted]] = deque()
        self._turns = LoopTurns()

    def enter(self, tasks: Sequence[Task], taken: Sequence[Accepted]) -> None:
        """The tasks as they were stored, with the answers to their submits."""
        first = not self._waiting
        if first and len(tasks) == 1:
            self._enter(tasks[0], taken[0])
            return
        self._waiting.extend(zip(tasks, taken, strict=True))
        if first:  # else a turn is asked for already
            self._enter_some()

    def _enter_some(self) -> None:
        try:
            for _ in range(min(PART, len(self._waiting))):
                self._enter(*self._waiting.popleft())
        finally:
            if self._waiting:
                self._turns.soon(self._enter_some)

    def _enter(self, task: Task, accepted: Accepted) -> None:
        now = self._journal.live.get(task.id)
        if now is task:
            self._counters.promised(task, accepted.answer["eta_s"])
            self._scheduler.enqueue(task)
        elif now is not None and now.state is State.PAUSED:
            self._scheduler.enqueue(now)  # takes its place in its session


class Intake:
    """`submit` takes one task, `submit_all` several in one transaction."""

    def __init__(
        self,
        journal: Journal,
        admission: Admission,
        scheduler: Scheduler,
        settings: Settings,
        task_counters: TaskCounters,
        keys: Keys,
    ) -> None:
        self._quotas = Quotas(settings, task_counters, journal.now)
        self.closed = False
        self.overload: Callable[[], Overloaded | None] | None = None
        """Set while the machine is at its limits: says why, and when to come back."""
        self._task_counters = task_counters
        self._journal = journal
        self._admission = admission
        self._router = admission.router
        self._scheduler = scheduler
        self._entrance = Entrance(journal, scheduler, task_counters)
        self._settings = settings
        self._entering = 0
        self._keys = keys
        self._turns = LoopTurns()
        """Of submits of many tasks."""

    async def submit(
        self,
        submission: Submission,
        owner: str | None = None,
        key: str | None = None,
        aside: Aside | None = None,
        also: Also | None = None,
        trace: Trace | None = None,
    ) -> Accepted:
        """Take one task. Raises RequestError or StorageUnavailable; then nothing is stored.

        `aside` is given with large tasks: it runs the heavy part without holding up the loop.
        """
        began = perf_counter()
        accepted = (await self._counted(submission, owner, key, aside, also, trace))[0]
        self._task_counters.submit.observe(perf_counter() - began)
        return accepted

    async def _take_once(
        self,
        asked: Submission | Sequence[Submission],
        owner: str | None,
        key: str,
        aside: Aside | None,
        also: Also | None,
        trace: Trace | None,
    ) -> list[Accepted]:
        """Take one submission, or several as one body, where the key has made none yet."""
        body = await aside(fingerprint_of, asked) if aside else fingerprint_of(asked)
        wanted = Key.of(owner, key, body)
        async with self._keys.once(wanted) as answers:
            if answers is None:
                submissions = [asked] if isinstance(asked, Submission) else asked
                return await self._take(
                    submissions, owner, wanted, aside=aside, also=also, trace=trace
                )
        return [Accepted(answer["task_id"], answer, repeated=True) for answer in answers]

    async def submit_all(
        self,
        submissions: Sequence[Submission],
        owner: str | None = None,
        key: str | None = None,
        aside: Aside | None = None,
        also: Also | None = None,
        trace: Trace | None = None,
    ) -> list[Accepted]:
        """Take all or none, in one transaction, with what is to be stored `also`."""
        return await self._counted(submissions, owner, key, aside, also, trace)

    async def _counted(
        self,
        asked: Submission | Sequence[Submission],
        owner: str | None,
        key: str | None,
        aside: Aside | None,
        also: Also | None,
        trace: Trace | None,
    ) -> list[Accepted]:
        """Take one submission, or several as one body; a refusal is counted."""
        try:
            if key is not None:
                return await shielded(self._take_once(asked, owner, key, aside, also, trace))
            submissions = [asked] if isinstance(asked, Submission) else asked
            return await self._take(submissions, owner, aside=aside, also=also, trace=trace)
        except (RequestError, StorageUnavailable) as error:
            self._task_counters.refuse(error)
            raise

    async def submit_prepared(
        self,
        submission: Submission,
        owner: str | None,
        prepare: Prepare,
        discard: Callable[[str], Awaitable[None]],
    ) -> Accepted:
        """Take one task after something else was made for it; where it is not stored, that is
        discarded, by the task's id."""
        made: list[str] = []

        async def prepared(new_task: NewTask) -> NewTask:
            made.append(new_task.request.id)
            return await prepare(new_task)

        async def take() -> Accepted:
            try:
                return (await self._take([submission], owner, prepare=prepared))[0]
            except BaseException:
                for task_id in made:
                    await discard(task_id)
                raise

        with self._counting():
            return await shielded(take())

    async def fire(self, submission: Submission, owner: str | None, origin: Origin) -> Accepted:
        """Take a schedule's task, in one transaction with what the schedule notes of it."""
        return (await shielded(self._take([submission], owner, origin=origin)))[0]

    async def check(self, submission: Submission) -> None:
        """Refuse what no model of the settings could ever serve. Raises RequestError."""
        with suppress(NoModel):  # its key may be there by the time that it is needed
            submission = self._admission.named(submission)
            self._admission.check_model(submission)
            if submission.type == "agent":
                await self._admission.agents.check(submission)

    def check_open(self) -> None:
        """Raise ShuttingDown or Overloaded while no task is taken: worth knowing before a large
        body is read."""
        if self.closed:
            raise ShuttingDown("the service is stopping; try again", retry_after=RETRY_AFTER_S)
        if self.overload is not None and (reason := self.overload()) is not None:
            try:
                raise reason
            finally:
                del reason  # else it would hold its own frame, and all that is above

    def turn_away(self) -> None:
        """Raise what `check_open` raises, before `submit` is called, and count the refusal."""
        if self.closed or self.overload is not None:
            with self._counting():
                self.check_open()

    def turn_many_away(self, owner: str | None, count: int) -> None:
        """The same for many tasks before each of them is checked, where they have no room."""
        with self._counting():
            self._check_room(owner, count)

    @contextmanager
    def _counting(self) -> Generator[None]:
        """Count a refusal."""
        try:
            yield
        except (RequestError, StorageUnavailable) as error:
            self._task_counters.refuse(error)
            raise

    async def _take(
        self,
        submissions: Sequence[Submission],
        owner: str | None,
        key: Key | None = None,
        origin: Origin | None = None,
        aside: Aside | None = None,
        also: Also | None = None,
        prepare: Prepare | None = None,
        trace: Trace | None = None,
    ) -> list[Accepted]:
        self._check_room(owner, len(submissions))
        submissions, described = await self._checked(submissions)
        now = self._journal.now()

        def completed(index: int, request: Request) -> Request:
            if index in described:
                request = with_tools(request, described[index])
            if origin is not None:
                return replace(request, schedule_id=origin.schedule_id)
            return request if trace is None else replace(request, **trace._asdict())

        alone = not described and origin is None and trace is None
        pairs = await self._drafted(submissions, owner, now, aside, None if alone else completed)
        if aside is not None or described or len(submissions) > 1:
            self._check_room(owner, len(submissions))  # others may have come meanwhile
        new_tasks, taken = [new for new, _ in pairs], [accepted for _, accepted in pairs]
        if prepare is not None:
            new_tasks = [await prepare(one) for one in new_tasks]
            self._check_room(owner, len(submissions))
        if key is not None:  # with the first task, which stands for all
            answers = orjson.dumps([one.answer for one in taken]).decode()
            named = (key.name, key.fingerprint, answers)
            new_tasks[0] = replace(new_tasks[0], key=named, count=len(new_tasks))
        notes: list[PersistedValue | Row] = (
            [origin.note(one.task_id) for one in taken] if origin else []
        )
        notes += also([one.task_id for one in taken]) if also else []
        self._entering += len(new_tasks)
        self._quotas.begin(owner, len(new_tasks))
        self._quotas.submitted(owner, len(new_tasks))
        # Not after the await: the client may hang up meanwhile, and a task that is on the
        # disk must find its waiting place all the same.
        await self._journal.append(*new_tasks, *notes, then=partial(self._enter, owner, taken))
        return taken

    async def _drafted(
        self,
        submissions: Sequence[Submission],
        owner: str | None,
        now: int,
        aside: Aside | None,
        completed: Callable[[int, Request], Request] | None,
    ) -> list[tuple[NewTask, Accepted]]:
        """Each as it is stored and as it is answered; of many, a part in each turn. `completed`
        adds to the request of each index what the submission does not say."""

        async def of(part: Sequence[int]) -> list[tuple[NewTask, Accepted]]:
            chosen, made = submissions[part[0] : part[-1] + 1], []
            if aside is None:
                drafts = drafted(self._router, chosen, owner, now)
            else:
                drafts = await aside(drafted, self._router, chosen, owner, now)
            for index, (request, body) in zip(part, drafts, strict=True):
                if completed is not None:
                    request = completed(index, request)
                answer = self._admission.answer(request, submissions[index], now)
                made.append((NewTask(request, body), Accepted(request.id, answer)))
            return made

        if len(submissions) == 1:
            return await of(range(1))
        return await self._turns.of_parts(of, range(len(submissions)))

    async def _checked(
        self, submissions: Sequence[Submission]
    ) -> tuple[list[Submission], dict[int, int]]:
        """The submissions with their models' names, and by the number of each agent how many
        tokens the descriptions of its tools cost. Raises RequestError."""
        found, described = [self._admission.named(one) for one in submissions], {}
        for index, submission in enumerate(found):
            try:
                self._admission.check(submission)
                if submission.type == "agent":
                    described[index] = await self._admission.agents.check(submission)
            except RequestError as error:
                error.at = index
                raise
        return found, described

    def _enter(self, owner: str | None, taken: Sequence[Accepted], outcome: Outcome) -> None:
        """Place the tasks once they are stored; give their room back where they are refused."""
        self._entering -= len(taken)
        self._quotas.end(owner, len(taken))
        if not isinstance(outcome, AsyncsvcError):
            self._entrance.enter(outcome, taken)

    def _check_room(self, owner: str | None, count: int) -> None:
        if self.closed or self.overload is not None:
            self.check_open()
        most = self._settings.queue.max_length
        held = len(self._journal.live) + self._entering
        if held + count > most:
            raise QueueFull(
                f"the queue holds {held} of {most} unfinished tasks", retry_after=RETRY_AFTER_S
            )
        self._quotas.check(owner, count)

    @contextmanager
    def room(self, count: int, owner: str | None = None) -> Generator[None]:
        """Room for so many unfinished tasks while the caller writes them. Raises RequestError."""
        self._check_room(owner, count)
        self._entering += count
        self._quotas.begin(owner, count)
        try:
            yield
        finally:
            self._entering -= count
            self._quotas.end(owner, count)

    def new_task(self, submission: Submission, owner: str | None) -> NewTask:
        """The task of a submission as it would be stored now; models are not checked."""
        submission = self._admission.named(submission)
        return NewTask(*draft(self._router, submission, owner, self._journal.now()))

    async def route(self, submission: Submission, aside: Aside = at_once) -> dict[str, Any]:
        """The routing of a submission that came now; nothing is stored. `aside` runs what takes
        long for a large one. Raises RequestError."""
        submission = self._admission.named(submission)
        self._admission.check_model(submission)
        now, body = self._journal.now(), submission.body()
        request = await aside(request_of, self._router, submission, body, None, now)
        size, count = await aside(tokens.of_body, body)
        return self._scheduler.explain(request, now) | {"bytes": size, "prompt_tokens": count}
