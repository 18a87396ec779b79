"""From a submission to the request that is stored of it.

Owns what is worked out once, when a task comes: its id, its time, how much it needs, what it is the
same as. Never checks anything.
"""

import hashlib
from typing import Any

import orjson

from asyncsvc.clock import from_rfc3339, new_id
from asyncsvc.engine.cache import request_key
from asyncsvc.providers import tokens
from asyncsvc.providers.tokens import context_needed
from asyncsvc.tasks.submission import Submission
from asyncsvc.tasks.task import Request


def request_of(
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


def fingerprint(submission: Submission) -> str:
    body = orjson.dumps(submission.model_dump(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()
