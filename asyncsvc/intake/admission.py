"""From a submission to what is stored of it, and to what its submitter is told.

Owns the checks of a single submission, the request that it makes and the words of its answer.
Promises that `drafted`, the part that takes the longer the larger a task is, touches nothing that
others use, so that it may run in another thread. Never looks at room, never stores anything.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

import orjson

from asyncsvc.clock import from_rfc3339, new_id
from asyncsvc.errors import InvalidRequest, Overloaded
from asyncsvc.journal.journal import PersistedValue
from asyncsvc.providers import tokens
from asyncsvc.providers.registry import Catalogue
from asyncsvc.routing.router import NAMED, Asked, Router
from asyncsvc.scheduling.cache import request_key
from asyncsvc.scheduling.eta import UNKNOWN, EtaEstimator, Forecast
from asyncsvc.tasks.state import Request
from asyncsvc.tasks.submission import Submission
from asyncsvc.webhooks.deliveries import Webhooks

CLOSED_S = 60.0
"""When to submit again where nothing says when a model takes calls."""
P = ParamSpec("P")
T = TypeVar("T")


class Aside(Protocol):
    """Does work on something large where it holds nobody up."""

    async def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


@dataclass(slots=True)
class Accepted:
    """A task that is in the queue, and what its submitter is told."""

    task_id: str
    answer: dict[str, Any]
    repeated: bool = False
    """Whether the answer is that of an earlier submit with the same idempotency key."""


@dataclass(slots=True)
class Origin:
    """The schedule that makes a task, and what it writes down in the same transaction."""

    schedule_id: str
    note: Callable[[str], PersistedValue]
    """Given the task's id."""


class Admission:
    """`check` a submission, draft it by `drafted`, and say by `answer` when it would start."""

    def __init__(
        self, catalogue: Catalogue, eta_estimator: EtaEstimator, router: Router, webhooks: Webhooks
    ) -> None:
        self.router = router
        self._catalogue = catalogue
        self._eta_estimator = eta_estimator
        self._webhooks = webhooks

    def named(self, submission: Submission) -> Submission:
        """The same with the model's name where an alias is given."""
        asked = submission.model
        if asked is None or (name := self._catalogue.name_of(asked)) == asked:
            return submission
        return submission.model_copy(update={"model": name})

    def check(self, submission: Submission) -> None:
        """Raises RequestError for what could not be served or told of its end."""
        self.check_model(submission)
        if submission.callback_url is not None:
            self._webhooks.check(submission.callback_url)

    def check_model(self, submission: Submission) -> None:
        """A chat sent to an embedding model would only fail later, and cost a call."""
        kind = "embedding" if submission.type == "embedding" else "chat"
        self._catalogue.require(submission.model, kind)
        if submission.model is None:
            return
        model = self._catalogue.settings.models[submission.model]
        if model.type != submission.type:
            raise InvalidRequest(
                f"model {submission.model} is of type {model.type}, the task of type "
                f"{submission.type}",
                param="model",
            )

    def answer(self, request: Request, submission: Submission, now: int) -> dict[str, Any]:
        """What its submitter is told. Raises Overloaded where it would start too late for it."""
        forecast = self._eta_estimator.newcomer(request, now)
        if submission.max_wait_s is not None:
            _check_wait(forecast, submission.max_wait_s)
        message = "accepted" if forecast.reason is None else f"accepted; {forecast.reason}"
        return {
            "task_id": request.id,
            "status": "pending" if forecast is not UNKNOWN else "scheduled",
            "message": message,
            "model": request.model,
            "position": forecast.position,
            "eta_s": forecast.eta_s,
        }


def _check_wait(forecast: Forecast, limit: float) -> None:
    """Raises Overloaded where the task starts later than that, as far as anything is known."""
    least = max(forecast.eta_s or 0.0, forecast.least_s)
    if least <= limit:
        return
    why = f": {forecast.reason}" if forecast.reason else ""
    if least == math.inf:
        raise Overloaded(f"no model takes calls at the moment{why}", retry_after=CLOSED_S)
    raise Overloaded(
        f"the task would start in about {least:.0f} s, later than max_wait_s = {limit:g}{why}",
        retry_after=least - limit,
    )


def drafted(
    router: Router, submissions: Sequence[Submission], owner: str | None, now: int
) -> list[tuple[Request, bytes]]:
    """Of each: its request with class and reasons, and its body as it is stored."""
    return [draft(router, submission, owner, now) for submission in submissions]


def draft(
    router: Router, submission: Submission, owner: str | None, now: int
) -> tuple[Request, bytes]:
    """The same of one."""
    body, route = submission.body(), _decide(router, submission)
    if submission.notes:
        route["warnings"] = submission.notes
    request = _request(submission, body, owner, now, route)
    return request, orjson.dumps(body)


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
    need, cost = tokens.expected(body)
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
        need=need,
        created_at=now,
        tokens=cost,
        callback_url=submission.callback_url,
        delayed=submission.run_at is None and run_at is not None,
    )


def fingerprint_of(asked: Submission | Sequence[Submission]) -> str:
    """Tells two bodies of one idempotency key apart, also one task from a batch of one."""
    if isinstance(asked, Submission):
        value: Any = asked.model_dump()
    else:
        value = [one.model_dump() for one in asked]
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
