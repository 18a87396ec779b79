"""The calls of tools of one step of an agent: each has a result in the end, or waits for a person.

Owns the order: what is wrong with a call, the person who allows it, the checkpoint, the event that
it begins, the call, its result. Promises that a call whose result is on the disk is never made
again; that a call which was cut off while it ran is made again only where it changed nothing, or
what it changed in the workspace was put back, or a person has decided it; and that what goes
wrong with a call is a text for the model.
"""

import asyncio
import contextlib
import errno
import itertools
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from asyncsvc.agents.history import CallState, ToolCall
from asyncsvc.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    SandboxUnavailable,
    StorageUnavailable,
)
from asyncsvc.execution.outcome import Waiting
from asyncsvc.execution.records import Records
from asyncsvc.tasks.state import Draft, EventType
from asyncsvc.tools.registry import Toolbox, timed
from asyncsvc.tools.task_workspaces import CheckpointDamaged, TaskWorkspaces
from asyncsvc.tools.tool import Effects, Parameters, Result, Surroundings, Tool, ToolFault
from asyncsvc.tools.workspace import Workspace

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Calls of one step that run at once, where all of them only read."""
ARGUMENTS_MOST = 100_000
"""Characters of a call's arguments: an event with more would be no frame for many clients."""
NEEDS_APPROVAL, NEEDS_REVIEW = "needs_approval", "needs_review"
CUT_OFF = (
    "the service ended while this call ran, and what it changed cannot be put back: it may have "
    "acted or not"
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A call with its tool and parameters; or `wrong`, why it is not made, for the model."""

    call: ToolCall
    tool: Tool[Any] | None = None
    given: Parameters | None = None
    wrong: str | None = None


class ToolRunner:
    """`run` the calls of a step. `allowed` are the names of the agent's tools, `approve` of those
    that wait for a person."""

    def __init__(
        self,
        records: Records,
        toolbox: Toolbox,
        workspaces: TaskWorkspaces,
        *,
        allowed: Collection[str],
        approve: Collection[str],
        max_output_bytes: int,
    ) -> None:
        self._records = records
        self._toolbox = toolbox
        self._workspaces = workspaces
        self._allowed = allowed
        self._approve = approve
        self._max_output_bytes = max_output_bytes

    async def run(self, calls: Sequence[ToolCall]) -> Waiting | None:
        """Give each call without a result one, in their order, those together that only read.
        What the task has to wait for, where a person is to decide about one of them."""
        checked = [await self._check(call) for call in calls if call.result is None]
        for alone, group in itertools.groupby(checked, key=self._alone):
            together = list(group)
            if not alone:
                await self._run_together(together)
                continue
            for each in together:
                if (waiting := await self._run_one(each)) is not None:
                    return waiting
        return None

    # What is wrong with a call ------------------------------------------------------------------

    async def _check(self, call: ToolCall) -> Checked:
        """Find the tool and read the arguments."""
        if call.state is CallState.DENIED:
            reason = f": {call.reason}" if call.reason else ""
            return Checked(call, wrong=f"a person has denied this call{reason}")
        if call.decision == "skip":
            return Checked(call, wrong=f"{CUT_OFF}; a person has decided not to make it again")
        try:
            if call.name not in self._allowed:
                known = ", ".join(self._allowed) or "none"
                raise NotFound(f"there is no tool {call.name[:80]!r}; tools: {known}")
            tool = await self._toolbox.find(call.name)
            if not isinstance(call.arguments, Mapping):
                raise InvalidRequest(_no_object(call.arguments))
            return Checked(call, tool, self._toolbox.given(tool, call.arguments))
        except (NotFound, InvalidRequest) as error:
            return Checked(call, wrong=str(error))

    def _alone(self, checked: Checked) -> bool:
        """Whether no other call may run beside this one."""
        tool = checked.tool
        return tool is None or not tool.reads_only or self._waits(checked.call)

    def _waits(self, call: ToolCall) -> bool:
        """Whether a person is to allow the call first."""
        return call.name in self._approve and call.decision is None

    # A call -------------------------------------------------------------------------------------

    async def _run_together(self, together: Sequence[Checked]) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def run(checked: Checked) -> None:
            async with room:
                await self._run_one(checked)

        ends = await asyncio.gather(*map(run, together), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _run_one(self, checked: Checked) -> Waiting | None:
        call, tool, given = checked.call, checked.tool, checked.given
        if tool is None or given is None:
            await self._finish(call, Result(False, checked.wrong or "", exit_code=1), 0.0)
            return None
        if call.state is CallState.NEEDS_REVIEW:
            return _review(call)
        if call.state is CallState.STARTED:
            if (waiting := await self._after_cut(call, tool)) is not None:
                return waiting
        elif self._waits(call):
            return await self._ask(call, tool, given)
        await self._make(call, tool, given)
        return None

    async def _after_cut(self, call: ToolCall, tool: Tool[Any]) -> Waiting | None:
        """Make the workspace what it was before a call that was cut off; what to wait for, where
        that cannot be done."""
        if tool.reads_only:
            return None
        why = CUT_OFF
        if tool.effects is Effects.WORKSPACE and call.checkpoint is not None:
            history, task_id = self._records.history, self._records.execution.task.id
            try:
                with disk_faults("put back"):
                    await self._workspaces.restore(task_id, history.generation, call.checkpoint)
            except CheckpointDamaged as damage:
                why = f"{CUT_OFF}: {damage}"
            else:
                data = {"id": call.id, "checkpoint": call.checkpoint}
                await self._records.append(Draft(EventType.ROLLBACK, data), durable=True)
                await self._workspaces.settle(task_id, history.generation)
                return None
        return _review(call, why)

    async def _ask(self, call: ToolCall, tool: Tool[Any], given: Parameters) -> Waiting:
        """What a person is asked for, with what the call would change."""
        async with self._use() as workspace:
            with contextlib.suppress(ToolFault):  # the call will fail by itself
                diff = await tool.preview(given, self._around(workspace, lambda _: None))
                return _waiting(call, {} if diff is None else {"diff": diff})
        return _waiting(call, {})

    async def _make(self, call: ToolCall, tool: Tool[Any], given: Parameters) -> None:
        """Make the call, with a checkpoint before it where it writes to the workspace."""
        task_id, history = self._records.execution.task.id, self._records.history
        checkpoint = None
        if tool.effects is Effects.WORKSPACE:
            try:
                name = f"call-{call.seq}"
                checkpoint = await self._workspaces.take(task_id, history.generation, name)
            except OSError as error:
                wrong = f"the workspace cannot be saved before the call: {error.strerror or error}"
                await self._finish(call, Result(False, wrong, exit_code=1), 0.0)
                return
        started = Draft(EventType.TOOL_STARTED, {"id": call.id, "checkpoint": checkpoint})
        await self._records.append(started, durable=not tool.reads_only)
        output = self._records.output(call.id)
        async with self._use() as workspace:
            with timed() as took:
                result = await self._outcome(tool, given, self._around(workspace, output.write))
            if tool.effects is Effects.WORKSPACE:  # or a power cut takes what the result tells of
                with disk_faults("written"):
                    await self._workspaces.sync(task_id, history.generation)
        await output.drained()
        await self._finish(call, result, took[0], durable=not tool.reads_only)

    async def _outcome(self, tool: Tool[Any], given: Parameters, around: Surroundings) -> Result:
        try:
            return await self._toolbox.run(tool, given, around)
        except (SandboxUnavailable, StorageUnavailable) as error:
            return Result(False, f"{tool.name} is not available: {error}", exit_code=1)
        except Exception as error:
            log.exception("a fault of ours in the tool %s", tool.name)
            return Result(False, f"a fault of ours: {type(error).__name__}", exit_code=1)

    async def _finish(
        self, call: ToolCall, result: Result, duration_s: float, durable: bool = False
    ) -> None:
        data = {"id": call.id, "name": call.name, **result.as_dict(), "duration_s": duration_s}
        await self._records.append(Draft(EventType.TOOL_RESULT, data), durable=durable)

    def _use(self) -> AbstractAsyncContextManager[Workspace]:
        task_id = self._records.execution.task.id
        return self._workspaces.use(task_id, self._records.history.generation)

    def _around(self, workspace: Workspace, emit: Callable[[str], None]) -> Surroundings:
        owner = self._records.execution.task.request.owner
        return Surroundings(workspace, owner, self._max_output_bytes, emit)


@contextlib.contextmanager
def disk_faults(what: str) -> Generator[None]:
    """Raises StorageUnavailable for a disk without room, as it may have some later, and
    InternalError for other faults of the disk."""
    try:
        yield
    except OSError as error:
        words = f"the workspace cannot be {what}: {error.strerror or error}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (StorageUnavailable if full else InternalError)(words) from None


def _no_object(arguments: str) -> str:
    if len(arguments) > ARGUMENTS_MOST:
        return f"the arguments are longer than {ARGUMENTS_MOST:,} characters; ask for less at once"
    return f"the arguments are no JSON object: {arguments[:200]!r}"


def _waiting(call: ToolCall, facts: dict[str, Any]) -> Waiting:
    """Let the task wait until a person has allowed the call."""
    message = f"{call.name} waits for an approval: approve or deny the call {call.id}"
    return _paused(call, facts, NEEDS_APPROVAL, message)


def _review(call: ToolCall, why: str = CUT_OFF) -> Waiting:
    """Let the task wait until a person has looked at what a cut call has done."""
    message = f"{call.name}: {why}; resume with a decision: rerun, skip or fail"
    return _paused(call, {"review": True}, NEEDS_REVIEW, message)


def _paused(call: ToolCall, facts: dict[str, Any], code: str, message: str) -> Waiting:
    data = {"id": call.id, "name": call.name, "arguments": call.arguments, **facts}
    error = {"code": code, "message": message, "retryable": False}
    return Waiting(Draft(EventType.APPROVAL, data), error)
