"""Forks: a new agent that goes on from what another one was after one of its steps.

Its conversation is that of the other to the end of the step, its workspace what the other's was
then: the checkpoint of the first call after the step that has one, or the workspace as it is where
no later call can have written to it. Where neither is known, a fork is refused. The workspace is
whole before the new task is stored, so that the task never runs without it.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from asyncsvc.agents.history import History, Step, ToolCall, history
from asyncsvc.config.settings import Queue
from asyncsvc.errors import Conflict, InvalidRequest, NotFound, TaskTooLarge
from asyncsvc.intake.admission import Accepted
from asyncsvc.intake.intake import Intake
from asyncsvc.journal.journal import Journal, NewTask
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import Task
from asyncsvc.tasks.submission import OF_AGENTS, Submission
from asyncsvc.tools.registry import Toolbox
from asyncsvc.tools.task_workspaces import CheckpointDamaged, TaskWorkspaces
from asyncsvc.tools.tool import Effects

TRIES = 3
"""How often a workspace is copied anew because a call has written to it meanwhile."""
SAME = ("model", "lane", "priority", "timeout_s", "max_retries")
"""Fields of a request that a fork has as well."""
FORK = "fork"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fork's workspace comes from; no checkpoint: the workspace as it is."""

    generation: int
    checkpoint: str | None


class Forks:
    """`fork` an agent."""

    def __init__(
        self,
        journal: Journal,
        intake: Intake,
        toolbox: Toolbox,
        workspaces: TaskWorkspaces,
        queue: Queue,
    ) -> None:
        self._queue = queue
        self._journal = journal
        self._intake = intake
        self._toolbox = toolbox
        self._workspaces = workspaces

    async def fork(
        self, task: Task, number: int, content: str | None, owner: str | None
    ) -> Accepted:
        """Take a new agent that goes on after step `number` of the task; 0: from its beginning.
        `content` is a further message of the user. Raises RequestError or StorageUnavailable."""
        found = await history(self._journal, task)
        _check_step(found, number, content)
        source = await self._source(found, number)  # refused before anything is made
        begun = await self._begun(task, found, source, number)
        body = loads(await self._journal.store.body(task.n))
        submission = _submission(task, body, found, number, content, with_files=not begun)

        async def prepare(new: NewTask) -> NewTask:
            if (size := len(new.body)) > (most := self._queue.max_task_bytes):
                raise TaskTooLarge(
                    f"the conversation has {size} bytes, a task may have {most} (max_task_bytes)"
                )
            checkpoint = await self._copy(task, number, new.request.id) if begun else None
            origin = {"task_id": task.id, "step": number, "checkpoint": checkpoint}
            return NewTask(new.request, orjson.dumps(loads(new.body) | {"forked_from": origin}))

        return await self._intake.submit_prepared(submission, owner, prepare, self._discard)

    async def _begun(self, task: Task, found: History, source: Source, number: int) -> bool:
        """Whether there is a workspace to copy; an agent that has not begun has only its files, and
        a copy would make the folder that these are still to come into. Raises Conflict."""
        try:
            async with self._workspaces.look(task.id, source.generation):
                return True
        except FileNotFoundError:
            if any(call.started_at is not None for call in found.calls):
                raise _refused(number, "its workspace is gone") from None
            return False

    async def _copy(self, task: Task, number: int, target: str) -> str | None:
        """Make the workspace of the fork, and a checkpoint of it for a retry by hand, of which the
        name is given. Raises Conflict."""
        for _ in range(TRIES):
            source = await self._source(await history(self._journal, task), number)
            try:
                await self._workspaces.copy(task.id, source.generation, source.checkpoint, target)
            except (CheckpointDamaged, FileNotFoundError) as damage:
                raise _refused(number, f"its checkpoint is gone: {damage}") from None
            after = await self._source(await history(self._journal, task), number)
            if after == source:
                return await self._workspaces.take(target, 0, FORK)
            await self._workspaces.remove(target)
        raise _refused(number, "the agent writes to its workspace at this moment; pause it first")

    async def _discard(self, task_id: str) -> None:
        """Remove the workspace of a fork that was not stored."""
        with contextlib.suppress(OSError):
            await self._workspaces.remove(task_id)

    async def _source(self, found: History, number: int) -> Source:
        """Raises Conflict where the workspace after that step is not known any more."""
        for call in _later(found.steps, number):
            if call.started_at is None:
                continue
            if call.checkpoint is not None:
                return Source(found.generation, call.checkpoint)
            if await self._wrote(call):
                raise _refused(
                    number,
                    f"the call {call.id} of {call.name} may have changed the workspace since, and "
                    "there is no checkpoint from before it",
                )
        return Source(found.generation, None)

    async def _wrote(self, call: ToolCall) -> bool:
        """Whether a call may have written to the workspace: also one of a tool that is gone."""
        try:
            tool = await self._toolbox.find(call.name)
        except NotFound:
            return True
        return tool.effects is Effects.WORKSPACE


def _later(steps: Iterable[Step], number: int) -> list[ToolCall]:
    return [call for step in steps if step.number > number for call in step.calls]


def _check_step(found: History, number: int, content: str | None) -> None:
    """Raises InvalidRequest or Conflict for a step after which no agent can go on."""
    if number == 0:
        return
    step = next((step for step in found.ended if step.number == number), None)
    if step is None:
        ended = len(found.ended)
        raise InvalidRequest(
            f"step: the agent has ended {ended} steps; a fork begins after one of them, or at 0",
            param="step",
        )
    if not step.complete:
        open_calls = [c.id for c in step.calls if c.result is None]
        raise _refused(number, f"its calls {', '.join(open_calls)[:200]} have no results yet")
    if not step.calls and content is None:
        raise InvalidRequest(
            f"content: step {number} is the agent's answer; say what is to follow",
            param="content",
        )


def _submission(
    task: Task,
    body: dict[str, Any],
    found: History,
    number: int,
    content: str | None,
    *,
    with_files: bool,
) -> Submission:
    """The submission of the fork. Raises InvalidRequest."""
    own = body.get("messages") or [{"role": "user", "content": body["content"]}]
    messages = [*own, *(found.messages(number) if number else ())]
    if content is not None:
        messages.append({"role": "user", "content": content})
    request = task.request
    fields: dict[str, Any] = {name: body[name] for name in OF_AGENTS if name in body}
    if not with_files:
        fields.pop("files", None)  # they are in the workspace
    fields |= {name: getattr(request, name) for name in SAME}
    route = request.route or {}
    if request.model is None and route.get("rule") == "field: route_as":
        fields["route_as"] = route.get("class")
    return Submission(
        type="agent",
        messages=messages,
        params=body["params"],
        metadata=request.user_metadata,
        retry_unsafe=request.retry_unsafe,
        **fields,
    )


def _refused(number: int, why: str) -> Conflict:
    return Conflict("illegal_transition", f"the agent cannot be forked after step {number}: {why}")
