"""The outcome of an execution, as one value, and the decision what follows from a fault.

Owns the decision between trying again, waiting for the provider and giving up. Promises that
only faults which the task could not help cost no attempt, and that a call which may have acted
on the world is not repeated unless the task allows it. Never records anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncsvc.config.settings import Retry as RetrySettings
from asyncsvc.errors import (
    AsyncsvcError,
    ContextTooLong,
    EmptyAnswer,
    InternalError,
    InterruptedUnknown,
    ModelGone,
    ProviderError,
    QuotaExhausted,
    TaskTimeout,
    Unexplained,
    UpstreamAuth,
    UpstreamUnsupported,
)
from asyncsvc.limits.backoff import backoff
from asyncsvc.providers.upstream import Upstream
from asyncsvc.tasks.state import Cause, Draft, Task


@dataclass(frozen=True, slots=True)
class Completed:
    """The provider answered. `result` is the text, or JSON for embeddings."""

    result: str
    usage: dict[str, Any] | None
    tool_calls: bool = False
    """The answer calls tools."""
    finish_reason: str | None = None
    """Why the provider ended it, in OpenAI's words; None for what has no end but the last."""
    finish_reason_raw: str | None = None
    """The same in the provider's own word."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The task ends with the error."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt is used up and another follows after the delay."""

    error: ProviderError
    delay_s: float


@dataclass(frozen=True, slots=True)
class Deferred:
    """The provider asked to wait: the task is pending again, and the attempt does not count."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Stopped:
    """The execution was stopped: `cause` is cancelled, paused or interrupted."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call of an agent's tool waits for a person: the task is paused. `approval` is the event
    that asks, `error` why the task is paused."""

    approval: Draft
    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """The task was no longer pending when its start was written; there is nothing to record."""

    reason: AsyncsvcError


REFUSED = UpstreamAuth | QuotaExhausted | ModelGone | ContextTooLong | UpstreamUnsupported
"""The account cannot serve the task, but another may."""

Outcome = Completed | Failed | Retried | Deferred | Stopped | Waiting | Dropped


def after_fault(
    error: ProviderError,
    task: Task,
    upstream: Upstream,
    model_id: str,
    *,
    begun: bool,
    left_s: float,
    retry: RetrySettings,
    elsewhere: Callable[[], bool],
) -> Outcome:
    """The outcome that follows from a fault. `model_id`: the provider's id that was called;
    `begun`: the provider had begun to answer; `left_s`: seconds until the deadline; `task`: as it
    was before this attempt was counted; `elsewhere` excludes the account for the task and gives
    whether another one may still serve it."""
    if upstream.preset.acts and begun and not task.request.retry_unsafe and cut_off(error):
        return Failed(
            InterruptedUnknown(
                f"{error}. The gateway's agent may already have acted, so the call is not "
                "repeated; submit with retry_unsafe to allow that"
            )
        )
    if error.slow_down:
        return Deferred(error)
    if isinstance(error, ModelGone):
        if upstream.drop_model(model_id):
            return Deferred(error)
        upstream.gate.disable(error)
    if isinstance(error, REFUSED) and elsewhere():
        return Deferred(error)
    if not error.again:
        return Failed(error)
    allowed = task.request.max_retries
    allowed = retry.max_retries if allowed is None else allowed
    tries = task.tries + 1
    if tries > allowed:
        return Failed(error)
    delay = error.retry_after
    if delay is None:
        delay = backoff(tries - 1, retry.base_s, retry.max_s)
    return Failed(error) if delay >= left_s else Retried(error, delay)


def cut_off(error: ProviderError) -> bool:
    """Whether the call ended with the provider still at work. A gateway that has begun and then
    passes on a refusal of its own provider may have acted before."""
    passed_on = error.slow_down or isinstance(error, Unexplained)
    other = isinstance(error, EmptyAnswer | TaskTimeout | InternalError)
    return error.trips or passed_on or other
