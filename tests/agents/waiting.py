"""Agents in any state, made by the events that lead there: no model is asked.

`placed` submits an agent whose model is paused, so that it runs at no time, and appends its events.
"""

from collections.abc import Sequence
from typing import Any

from asyncsvc.journal.journal import Change
from asyncsvc.tasks.state import Cause, Draft, EventType, State, status
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http.state import Services

APPROVAL = {"code": "needs_approval", "message": "a call waits", "retryable": False}
REVIEW = {"code": "needs_review", "message": "a call was cut off", "retryable": False}
WRITE = {"path": "a.txt", "content": "new"}


def step(number: int, text: str = "") -> list[Draft]:
    chunks = [Draft(EventType.CHUNK, {"text": text, "step": number})] if text else []
    return [Draft(EventType.STEP, {"number": number}), *chunks]


def ended(number: int, *calls: Draft, finish_reason: str = "tool_calls") -> list[Draft]:
    """The end of a step, with the calls of tools that the model asks for."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    facts = {"step": number, "usage": usage, "finish_reason": finish_reason}
    return [Draft(EventType.MESSAGE, facts), *calls]


def asked(call_id: str, name: str = "write_file", number: int = 1, **arguments: Any) -> Draft:
    data = {"id": call_id, "name": name, "arguments": arguments or WRITE, "step": number}
    return Draft(EventType.TOOL_CALL, data)


def started(call_id: str, checkpoint: str | None = None) -> Draft:
    return Draft(EventType.TOOL_STARTED, {"id": call_id, "checkpoint": checkpoint})


def result(call_id: str, name: str = "write_file", output: str = "done", **more: Any) -> Draft:
    facts = {"ok": True, "exit_code": 0, "duration_s": 0.25, "truncated": False} | more
    return Draft(EventType.TOOL_RESULT, {"id": call_id, "name": name, "output": output} | facts)


def waits(call_id: str, name: str = "write_file", **more: Any) -> list[Draft]:
    """The call waits for an approval, or with `review=True` for a review: the agent is paused."""
    data = {"id": call_id, "name": name, "arguments": WRITE} | more
    error = REVIEW if more.get("review") else APPROVAL
    paused = status(Cause.PAUSED, State.RUNNING, error=error)
    return [Draft(EventType.APPROVAL, data), paused]


def answered(**facts: Any) -> Draft:
    return status(Cause.COMPLETED, State.RUNNING, **facts)


BEGUN = (
    status(Cause.RESUMED, State.PAUSED),
    status(Cause.STARTED, State.PENDING),
    Draft(
        EventType.ATTEMPT,
        {"number": 1, "name": "fast", "model": "sim", "why": "named by the task", "route": {}},
    ),
)


async def placed(
    services: Services,
    drafts: Sequence[Draft],
    owner: str | None = None,
    text: str | None = None,
    **fields: Any,
) -> str:
    """The id of an agent that has had those events since its start."""
    if (model := fields.setdefault("model", next(iter(services.settings.models)))) is not None:
        await services.holds.pause(model)
    fields = {"type": "agent", "content": "mend it"} | fields
    accepted = await services.intake.submit(Submission.model_validate(fields), owner)
    await services.control.pause(accepted.task_id)
    change = Change(accepted.task_id, [*BEGUN, *drafts], result=text, durable=True)
    await services.journal.append(change)
    return accepted.task_id
