"""Decisions of a person on a call of a tool that waits for one: `approve`, `deny`, `decide`.

A decision is one append: the `approval` event that holds it, and the status that follows. Of two
that come at once one counts, and the other is an IllegalTransition, as is a decision on a call that
waits for none or for another one; then nothing has changed. What a decision means for the call is
for the next execution of the agent.
"""

from typing import Any

from asyncsvc.agents.history import CallState, ToolCall, history
from asyncsvc.errors import IllegalTransition, InterruptedUnknown
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.scheduling.scheduler import Scheduler, text_so_far
from asyncsvc.scheduling.steps import shielded
from asyncsvc.tasks.state import APPROVAL, REVIEW, Cause, Draft, EventType, State, Task, status

APPROVED, DENIED = "approved", "denied"
RERUN, SKIP, FAIL = "rerun", "skip", "fail"
AFTER_REVIEW = (RERUN, SKIP, FAIL)
SEND = {
    APPROVAL: "a call of a tool waits for an approval: send /approve or /deny",
    REVIEW: "a call of a tool was cut off and waits for a review: send /resume with "
    '{"decision": "rerun" | "skip" | "fail"}',
}
"""What ends the wait."""


def undecided(waiting_for: str) -> IllegalTransition:
    """What to raise for a resume that holds no decision."""
    return IllegalTransition(State.PAUSED.value, f"resumed: {SEND[waiting_for]}")


class Decisions:
    """Each gives the task as it then stands. `call_id` says which call is meant; None: the one
    that waits. Raises TaskNotFound, IllegalTransition or StorageUnavailable."""

    def __init__(self, journal: Journal, scheduler: Scheduler) -> None:
        self._journal = journal
        self._scheduler = scheduler

    async def approve(self, task_id: str, call_id: str | None = None) -> Task:
        """Let the call run."""
        return await shielded(self._append(task_id, APPROVAL, APPROVED, call_id))

    async def deny(
        self, task_id: str, reason: str | None = None, call_id: str | None = None
    ) -> Task:
        """Do not let the call run; the model is given the reason and goes on."""
        return await shielded(self._append(task_id, APPROVAL, DENIED, call_id, reason))

    async def decide(self, task_id: str, decision: str, call_id: str | None = None) -> Task:
        """Of a call that was cut off: run it again, leave it out, or end the task."""
        return await shielded(self._append(task_id, REVIEW, decision, call_id))

    async def _append(
        self,
        task_id: str,
        kind: str,
        decision: str,
        call_id: str | None,
        reason: str | None = None,
    ) -> Task:
        task = await self._journal.task(task_id)
        call = await self._waiting(task, kind, decision, call_id)
        drafts = [_decided(call, decision, reason)]
        result = None
        if decision == FAIL:
            drafts.append(_failed(call))
            result = await text_so_far(self._journal, task)
        else:
            drafts.append(status(Cause.RESUMED, State.PAUSED, error=None))
        # The epoch: another decision may have let the agent go on to its next call meanwhile.
        change = Change(
            task_id, drafts, result=result, source=State.PAUSED, epoch=task.epoch, durable=True
        )
        try:
            (task,) = await self._journal.append(change)
        except IllegalTransition as moved:
            raise _refused(moved.state, decision, "another decision was faster") from None
        if task.finished:
            self._scheduler.finish(task)
        else:
            self._scheduler.enqueue(task)
        return task

    async def _waiting(self, task: Task, kind: str, decision: str, call_id: str | None) -> ToolCall:
        """The call that the decision is about. Raises IllegalTransition."""
        waiting_for, state = task.waiting_for, task.state.value
        if waiting_for is None:
            raise _refused(state, decision, f"no call of it waits for {_a(kind)}")
        if waiting_for != kind:
            raise _refused(state, decision, SEND[waiting_for])
        call = (await history(self._journal, task)).waiting
        wanted = CallState.NEEDS_REVIEW if kind == REVIEW else CallState.NEEDS_APPROVAL
        if call is None or call.state is not wanted:
            raise _refused(state, decision, f"no call of it waits for {_a(kind)}")
        if call_id is not None and call_id != call.id:
            why = f"call {call_id[:80]!r} does not wait; {call.id!r} ({call.name}) does"
            raise _refused(state, decision, why)
        return call


def _a(kind: str) -> str:
    return f"an {kind}" if kind == APPROVAL else f"a {kind}"


WORDS = {RERUN: "decided", SKIP: "decided", FAIL: "decided"}


def _refused(state: str, decision: str, why: str) -> IllegalTransition:
    return IllegalTransition(state, f"{WORDS.get(decision, decision)}: {why}")


def _decided(call: ToolCall, decision: str, reason: str | None) -> Draft:
    asked: dict[str, Any] = {"id": call.id, "name": call.name, "arguments": call.arguments}
    return Draft(EventType.APPROVAL, asked | {"decision": decision, "reason": reason})


def _failed(call: ToolCall) -> Draft:
    """The end of a task whose cut call is not to be run again."""
    fault = InterruptedUnknown(
        f"the call {call.id} of {call.name} was cut off, and it was decided to end the task: what "
        "the call has done is not known"
    )
    return status(Cause.FAILED, State.PAUSED, error=fault.as_dict())
