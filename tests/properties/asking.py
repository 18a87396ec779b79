"""The clients that ask something of the service of a story.

Owns what is sent and what is made of the answer. Promises to tell the oracle before anything is
asked that it may happen, and after the answer whether it has; a refusal that is not right, or
an answer that is not, raises Broken. Never knows when a service crashes: it is cancelled then.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from asyncsvc.errors import (
    Conflict,
    IllegalTransition,
    NoModel,
    QueueFull,
    ShuttingDown,
    StorageUnavailable,
    TaskNotFound,
)
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http.state import Services
from tests.properties.lives import SHARED, Request, law
from tests.properties.oracle import Asked, Oracle
from tests.properties.provider import now
from tests.properties.steps import Do, Hold, Repeat, Submit
from tests.virtual_time import wall_ms

SHORT_S, LONG_S, MOST_RETRIES, ROOM = 30.0, 100.0, 2, 14
REFUSED_FROM = {
    "cancel": {"completed", "failed", "cancelled"},
    "pause": {"completed", "failed", "cancelled", "paused"},
    "resume": {"scheduled", "pending", "running", "completed", "failed", "cancelled"},
    "retry": {"scheduled", "pending", "running", "paused"},
    "delete": {"scheduled", "pending", "running", "paused"},
}
LEADS_TO = {
    "cancel": {"cancelled"},
    "pause": {"paused"},
    "resume": {"pending", "scheduled"},
    "retry": {"pending"},
}


class Asking:
    """`ask` does a step; it raises Broken only."""

    def __init__(
        self, oracle: Oracle, services: Callable[[], Services], happened: Counter[str]
    ) -> None:
        self.oracle = oracle
        self.happened = happened
        self.stopping = False
        """Whether the service is being stopped: only then may the disk be refused."""
        self._services = services
        """The one that is open."""
        self._asked: list[tuple[Submission, str | None, str | None]] = []
        """The submission of each request, its owner and its Idempotency-Key."""

    async def ask(self, step: Submit | Repeat | Do | Hold) -> None:
        match step:
            case Submit():
                await self._submit(step)
            case Repeat():
                await self._repeat(step)
            case Do():
                await self._do(step)
            case Hold():
                await self._hold(step)

    async def _submit(self, step: Submit) -> None:
        numbers = [self._request(step) for _ in range(step.count)]
        submissions = [self._asked[number][0] for number in numbers]
        intake, (_, owner, key) = self._services().intake, self._asked[numbers[0]]
        asked = [self.oracle.submits[number] for number in numbers]
        if step.count > 1:
            self.oracle.groups.append(numbers)
            taking: Awaitable[list[Any]] = intake.submit_all(submissions, owner)
        else:
            taking = _one(intake.submit(submissions[0], owner, key))
        accepted = await self._answer(asked, taking)
        for number, taken in zip(numbers, accepted or [], strict=False):
            self.oracle.ids[number] = taken.task_id

    def _request(self, step: Submit) -> int:
        number = len(self._asked)
        content = SHARED if step.shared else f"request {number}"
        limit_s = step.timeout_s or (LONG_S if step.lane == "long" else SHORT_S)
        retries = MOST_RETRIES if step.max_retries is None else step.max_retries
        session = None if step.session is None else (step.owner, step.session)
        self.oracle.submitted.append(
            Request(
                *(number, content, session, step.delay_s, retries, round(limit_s * 1000)),
                timed=step.timeout_s is not None,
            )
        )
        fields = {
            "content": content,
            "model": step.model,
            "lane": step.lane,
            "priority": step.priority,
            "session_id": step.session,
            "delay_s": step.delay_s,
            "max_retries": step.max_retries,
            "timeout_s": step.timeout_s,
            "cache": step.shared,
            "metadata": {"request": number},
        }
        key = f"key {number}" if step.keyed else None
        self._asked.append((Submission.model_validate(fields), step.owner, key))
        return number

    async def _repeat(self, step: Repeat) -> None:
        keyed = [number for number, (_, _, key) in enumerate(self._asked) if key is not None]
        if not keyed:
            return
        number = keyed[-1 - step.task % len(keyed)]
        submission, owner, key = self._asked[number]
        if step.other:
            submission = submission.model_copy(update={"priority": 1})
        asked = self.oracle.submits[number]
        known, deleted = self.oracle.ids.get(number), self.oracle.gone[number]
        taking = self._services().intake.submit(submission, owner, key)
        accepted = await self._answer([asked], _one(taking))
        if accepted:
            self.happened["repeated"] += accepted[0].repeated
            gone = known and self.oracle.verbs["delete", known].most > 0
            same = known in (None, accepted[0].task_id)
            law(same or deleted or gone, f"the same key gave {known}, then {accepted[0].task_id}")
            self.oracle.ids[number] = accepted[0].task_id

    async def _answer(self, asked: list[Asked], taking: Awaitable[list[Any]]) -> list[Any] | None:
        """Until it is answered it is not known whether it is taken."""
        for each in asked:
            each.open += 1
        try:
            accepted = await taking
        except (QueueFull, ShuttingDown, StorageUnavailable, Conflict, NoModel) as refusal:
            self.happened[type(refusal).__name__] += 1
            known = isinstance(refusal, QueueFull | Conflict | NoModel)
            law(self.stopping or known, repr(refusal))
            if isinstance(refusal, NoModel):
                law(self.oracle.provider.denied >= 2, f"nothing was refused twice: {refusal}")
            if isinstance(refusal, QueueFull):
                self._is_full()
            accepted = None
        for each in asked:
            each.open -= 1
            each.done += accepted is not None
        return accepted

    def _is_full(self) -> None:
        """There is no room, or was not in this moment."""
        self.oracle.look()
        lives = self.oracle.lives.values()
        live = sum(not life.finished or life.events[-1].ts == wall_ms() for life in lives)
        verbs = self.oracle.verbs.items()
        entering = sum(asked.open for asked in self.oracle.submits.values())
        entering += sum(asked.open for (verb, _), asked in verbs if verb == "retry")
        law(live + entering > ROOM, f"full with {live} and {entering} of {ROOM}")

    async def _do(self, step: Do) -> None:
        known = sorted(self.oracle.ids.items())
        if not known:
            return
        task_id = known[-1 - step.task % len(known)][1]
        verb: Callable[[str], Awaitable[Any]] = getattr(self._services().control, step.verb)
        asked = self.oracle.verbs[step.verb, task_id]
        together = asked.open > 0
        asked.open += 1
        try:
            task = await verb(task_id)
        except IllegalTransition as refusal:
            asked.open -= 1
            self.happened[f"{step.verb} refused"] += 1
            right = refusal.state in REFUSED_FROM[step.verb]
            law(right, f"{step.verb} of {task_id} refused from {refusal.state}")
            self._was(task_id, refusal.state)
        except TaskNotFound:
            asked.open -= 1
            law(self.oracle.verbs["delete", task_id].most, f"{task_id} is not found")
        except QueueFull:
            law(step.verb == "retry", f"{step.verb} of {task_id} needs no room")
            self._is_full()
            asked.open -= 1
            self.happened["retry without room"] += 1
        except (ShuttingDown, StorageUnavailable) as refusal:
            asked.open -= 1
            self.happened[type(refusal).__name__] += 1
            law(self.stopping, repr(refusal))
        else:
            if not together:  # who asks while another asks the same may be answered with it
                asked.open -= 1
                asked.done += 1
            self.happened[step.verb] += 1
            if task is not None:
                right = task.state.value in LEADS_TO[step.verb]
                law(right, f"{step.verb} gave {task.state}")

    async def _hold(self, step: Hold) -> None:
        """Where no other asks the same, it is known from the answer on whether it is held."""
        holds, hold = self._services().holds, self.oracle.holds[step.model]
        alone = hold.open == 0
        hold.open += 1
        hold.since = None
        try:
            await (holds.resume if step.free else holds.pause)(step.model)
        except StorageUnavailable:
            pass  # stopping: it may have been refused, and stays unknown
        else:
            hold.open -= 1
            self.oracle.look()
            self.oracle.held()
            if alone and hold.open == 0 and not step.free:
                hold.since = now()
                self.happened["held"] += 1

    def _was(self, task_id: str, state: str) -> None:
        """A position that is answered is one at which the task has stood."""
        self.oracle.look()
        for life in self.oracle.lives.values():
            if life.id == task_id:
                states = {event.data.get("status") for event in life.events}
                law(state in states, f"never {state}: {life.story()}")


async def _one(accepting: Awaitable[Any]) -> list[Any]:
    return [await accepting]
