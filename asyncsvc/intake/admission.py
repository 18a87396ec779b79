"""Admission: the checks of one submission, the request it makes, and its idempotency key.

`drafted`, the part that takes the longer the larger a task is, touches nothing that others use, so
that it may run in another thread. Requests with one idempotency key run one after the other, so
that the second finds what the first has stored; a key with another body is refused, whichever
endpoint either came to. Nothing is stored here: the key of a task is written with the task.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

import orjson

from asyncsvc.clock import from_rfc3339, new_id
from asyncsvc.errors import Conflict, InvalidRequest, Overloaded
from asyncsvc.intake.agent_checks import AgentChecks
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.providers import tokens
from asyncsvc.providers.registry import Catalogue
from asyncsvc.routing.router import NAMED, Asked, Router
from asyncsvc.scheduling.cache import request_key
from asyncsvc.scheduling.eta import UNKNOWN, EtaEstimator, Forecast
from asyncsvc.storage.entries import KeyUsed, loads
from asyncsvc.tasks.state import Request
from asyncsvc.tasks.submission import Submission
from asyncsvc.webhooks.deliveries import Webhooks

CLOSED_S = 60.0
"""When to submit again where nothing says when a model takes calls."""
P = ParamSpec("P")
T = TypeVar("T")


class Aside(Protocol):
    """Runs a function on a large value without holding up the event loop."""

    async def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


async def at_once(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work on something small: where it is."""
    return work(*args, **kwargs)


@dataclass(slots=True)
class Accepted:
    """A task that is in the queue, and the answer to its submit."""

    task_id: str
    answer: dict[str, Any]
    repeated: bool = False
    """Whether the answer is that of an earlier submit with the same idempotency key."""


@dataclass(slots=True)
class Origin:
    """The schedule that makes a task, and the value that it stores in the same transaction."""

    schedule_id: str
    note: Callable[[str], PersistedValue]
    """Given the task's id."""


class Admission:
    """`check` a submission, draft it by `drafted`, and say by `answer` when it would start."""

    def __init__(
        self,
        catalogue: Catalogue,
        eta_estimator: EtaEstimator,
        router: Router,
        webhooks: Webhooks,
        agents: AgentChecks,
    ) -> None:
        self.router = router
        self.agents = agents
        self._catalogue = catalogue
        self._eta_estimator = eta_estimator
        self._webhooks = webhooks

    def named(self, submission: Submission) -> Submission:
        """The submission with the model's name where an alias is given."""
        asked = submission.model
        if asked is None or (name := self._catalogue.name_of(asked)) == asked:
            return submission
        return submission.model_copy(update={"model": name})

    def check(self, submission: Submission) -> None:
        """Raises RequestError where no model can serve the task or its callback is refused."""
        self.check_model(submission)
        if submission.callback_url is not None:
            self._webhooks.check(submission.callback_url)

    def check_model(self, submission: Submission) -> None:
        """Raises RequestError where the model is unknown or of another type than the task."""
        kind = "embedding" if submission.type == "embedding" else "chat"
        self._catalogue.require(submission.model, kind)
        if submission.model is None:
            return
        model = self._catalogue.settings.models[submission.model]
        if model.type != kind:
            raise InvalidRequest(
                f"model {submission.model} is of type {model.type}, the task of type "
                f"{submission.type}",
                param="model",
            )

    def answer(self, request: Request, submission: Submission, now: int) -> dict[str, Any]:
        """The answer to a submit. Raises Overloaded where the task would start too late."""
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


def with_tools(request: Request, described: int) -> Request:
    """The request of an agent, whose calls also carry the descriptions of its tools."""
    more = math.ceil(described * tokens.MARGIN)
    return replace(request, need=request.need + more, tokens=request.tokens + described)


def drafted(
    router: Router, submissions: Sequence[Submission], owner: str | None, now: int
) -> list[tuple[Request, bytes]]:
    """The request, with its class, and the body as it is stored, of each submission."""
    return [draft(router, submission, owner, now) for submission in submissions]


def draft(
    router: Router, submission: Submission, owner: str | None, now: int
) -> tuple[Request, bytes]:
    """The request and the stored body of one submission."""
    body = submission.body()
    return request_of(router, submission, body, owner, now), orjson.dumps(body)


def request_of(
    router: Router, submission: Submission, body: dict[str, Any], owner: str | None, now: int
) -> Request:
    """The request of one submission, with its class."""
    route = _decide(router, submission)
    if submission.notes:
        route["warnings"] = submission.notes
    return _request(submission, body, owner, now, route)


def _decide(router: Router, submission: Submission) -> dict[str, Any]:
    """The routing decision: the class of the task and the reason."""
    if submission.model is not None:
        return dict(NAMED)
    one = submission
    asked = Asked(one.type, one.asked(), one.lane, one.params, one.route_as)
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
    """A digest that differs between bodies, also between one task and a batch of one."""
    if isinstance(asked, Submission):
        value: Any = asked.model_dump()
    else:
        value = [one.model_dump() for one in asked]
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Key:
    """A key of one owner, with the fingerprint of the body that came with it."""

    name: str
    fingerprint: str

    @classmethod
    def of(cls, owner: str | None, key: str, fingerprint: str) -> Self:
        return cls(f"{owner or ''}\x00{key}", fingerprint)

    def made(self, made_id: str) -> KeyUsed:
        """The record that the key has made something which is no task."""
        return KeyUsed(self.name, self.fingerprint, made_id)


class Keys:
    """`once` for each request that comes with a key."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock lives as long as a request holds it or waits for it."""

    @asynccontextmanager
    async def once(self, key: Key) -> AsyncGenerator[Any]:
        """The first answer of the key, None where there is none yet; the key is locked meanwhile.

        Raises Conflict where the first request had another body, and StorageUnavailable.
        """
        lock = self._locks.setdefault(key.name, asyncio.Lock())
        async with lock:
            first = await self._journal.store.first_answer(key.name)
            if first is None:
                yield None
                return
            if first[0] != key.fingerprint:
                raise Conflict(
                    "idempotency_conflict",
                    "this Idempotency-Key was used for another body; use a new key",
                )
            yield loads(first[1])


def fingerprint(kind: str, *parts: Any) -> str:
    """A digest of the parts of a request, led by its kind."""
    data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return f"{kind}:{hashlib.sha256(data).hexdigest()}"
