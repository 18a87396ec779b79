"""From a submission to what is stored of it.

Owns the request that a submission makes, and what its submitter is told. Promises to be the part
of admission that takes the longer the larger a task is, and to touch nothing that others use, so
that it may run in another thread. Never decides whether a task is taken.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

import orjson

from asyncsvc.clock import from_rfc3339, new_id
from asyncsvc.engine.cache import request_key
from asyncsvc.providers import tokens
from asyncsvc.providers.routing import NAMED, Asked, Router
from asyncsvc.providers.tokens import context_needed
from asyncsvc.record import record
from asyncsvc.tasks.journal import Kept
from asyncsvc.tasks.submission import Submission
from asyncsvc.tasks.task import Request

P = ParamSpec("P")
T = TypeVar("T")


class Aside(Protocol):
    """Does work on something large where it holds nobody up."""

    async def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


@record
class Accepted:
    """A task that is in the queue, and what its submitter is told."""

    task_id: str
    answer: dict[str, Any]
    repeated: bool = False
    """Whether the answer is that of an earlier submit with the same idempotency key."""


@record
class Origin:
    """The schedule that makes a task, and what it writes down in the same transaction."""

    schedule_id: str
    note: Callable[[str], Kept]
    """Given the task's id."""


def drafted(
    router: Router, submissions: Sequence[Submission], owner: str | None, now: int
) -> list[tuple[Request, bytes]]:
    """Of each: its request with class and reasons, and its body as it is stored."""
    drafts = []
    for submission in submissions:
        body = submission.body()
        request = _request(submission, body, owner, now, _decide(router, submission))
        drafts.append((request, orjson.dumps(body)))
    return drafts


def _decide(router: Router, submission: Submission) -> dict[str, Any]:
    """Its class and why."""
    if submission.model is not None:
        return dict(NAMED)
    said, one = submission.asked(), submission
    asked = Asked(one.type, said, one.lane, one.params, one.route_as)
    return router.classify(asked).as_dict()


def _request(
    submission: Submission,
    body: dict[str, Any],
    owner: str | None,
    now: int,
    route: dict[str, Any],
) -> Request:
    run_at = None
    if submission.run_at is not None:
        run_at = from_rfc3339(submission.run_at)
    elif submission.delay_s:
        run_at = now + round(submission.delay_s * 1000)
    return Request(
        id=new_id(now),
        type=submission.type,
        model=submission.model,
        lane=submission.lane,
        priority=submission.priority,
        session_id=submission.session_id,
        owner=owner,
        run_at=run_at,
        timeout_s=submission.timeout_s,
        max_retries=submission.max_retries,
        retry_unsafe=submission.retry_unsafe,
        cache=submission.cache,
        cache_key=request_key(submission, submission.route_as),
        user_metadata=submission.metadata,
        preview=submission.preview(),
        route=route,
        need=context_needed(submission.texts(), _max_tokens(submission.params)),
        created_at=now,
        tokens=tokens.expected(body),
        callback_url=submission.callback_url,
    )


def _max_tokens(params: dict[str, Any]) -> int:
    """How long the answer may become, as far as the request says so."""
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(value := params.get(name), int):
            return max(value, 0)
    return 0


def fingerprint_of(asked: Submission | Sequence[Submission]) -> str:
    """Tells two bodies of one idempotency key apart, also one task from a batch of one."""
    if isinstance(asked, Submission):
        value: Any = asked.model_dump()
    else:
        value = [one.model_dump() for one in asked]
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
