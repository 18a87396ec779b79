"""`GET /models`, and how a model and its keys look to a client: `model`.

Never reads anything but the service's state.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.clock import optional_rfc3339, rfc3339
from asyncsvc.errors import ProviderError
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.verdict import Reason, Stage
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import for_client
from asyncsvc.web.tasks.schemas import Breaker, Count, Name, Object, Time

RECENT_MOST = 200
"""Calls of a rate window that are listed."""


class RecentCall(TypedDict):
    """A call that counts in the rate window."""

    ago_s: Annotated[float, Field(ge=0)]
    refused: bool


class LastRefusal(TypedDict):
    """What the provider has answered the latest call that it refused, keys removed."""

    at: Time
    code: str
    status: Annotated[int | None, Field(description="null: it came within a stream")]
    retry_after_s: float | None
    message: str


class Gate(TypedDict):
    """One key of a model: what is used of what is allowed."""

    name: str
    in_flight: Count
    calls_in_window: Count
    concurrency: int
    window_used: Count
    window_limit: Annotated[int, Field(description="0: unlimited")]
    window_s: float
    tokens_used: Count
    tokens_limit: Annotated[int, Field(description="0: unlimited")]
    learned: Object | None
    breaker: Breaker
    waiting_for: Annotated[str | None, Field(description="why no call may begin, in words")]
    why: Annotated[Reason | None, Field(description="the same as a value; null: one may begin")]
    next_in_s: Annotated[
        float | None,
        Field(ge=0, description="until a call may begin; null: until something changes"),
    ]
    recent_calls: Annotated[
        list[RecentCall],
        Field(description=f"calls in the rate window, newest first, {RECENT_MOST} at most"),
    ]
    last_refusal: LastRefusal | None
    latency_s: Annotated[float | None, Field(description="average seconds of a call")]
    first_token_s: Annotated[float | None, Field(description="average seconds to the first token")]
    tokens_per_s: Annotated[
        float | None, Field(description="average tokens in a second, from the first on")
    ]


class ModelState(TypedDict):
    name: Name
    aliases: Annotated[list[str], Field(description="other names for it in a request")]
    type: Literal["chat", "embedding"]
    model: Annotated[str, Field(description="the provider's own id")]
    enabled: bool
    reason: Annotated[str | None, Field(description="why it is not enabled")]
    paused: Annotated[bool, Field(description="held by `POST /models/{name}/pause`")]
    paused_at: Time | None
    in_flight: Count
    concurrency: int | None
    concurrency_auto: Annotated[bool, Field(description="learned")]
    calls_last_60s: Count
    rpm: Annotated[int | None, Field(description="0: unlimited")]
    rpm_auto: Annotated[bool, Field(description="learned")]
    tpm: Annotated[int, Field(description="0: unlimited")]
    breaker: Breaker
    queue_depth: Count
    latency_s: Annotated[float | None, Field(description="of the fastest key")]
    first_token_s: Annotated[float | None, Field(description="of the fastest key")]
    tokens_per_s: Annotated[float | None, Field(description="of the fastest key")]
    calls: Count
    errors: Count
    waiting_for: str | None
    ready: Annotated[
        bool | None, Field(description="what a gateway's /readyz says; null: no gateway")
    ]
    gates: list[Gate]


class Models(TypedDict):
    """The models of the settings, in their order."""

    models: list[ModelState]


@operation(scope=Permission.READ, answer=Models)
async def models(request: Request) -> Response:
    """GET /models: each model, its limits and what is used of them."""
    parts = services(request)
    await parts.reloader.client.look(parts.catalogue.upstreams)
    await for_client(request.receive, parts.turns.next)
    return JSON({"models": [model(parts, name) for name in parts.settings.models]})


def model(parts: Services, name: str) -> ModelState:
    """One model of the settings."""
    settings = parts.settings.models[name]
    upstreams = parts.catalogue.of(name)
    gates = [_gate(upstream.gate, parts.journal.now()) for upstream in upstreams]
    statistics = [upstream.gate.statistics for upstream in upstreams]
    lacks = parts.catalogue.lacking().get(name)
    since = parts.holds.since(name)
    states = [gate["breaker"] for gate in gates]
    return {
        "name": name,
        "aliases": settings.aliases,
        "type": settings.type,
        "model": upstreams[0].model_id if upstreams else settings.model_ids[0],
        "enabled": lacks is None,
        "reason": lacks or (None if since is None else f"{name} is paused"),
        "paused": since is not None,
        "paused_at": optional_rfc3339(since),
        "in_flight": sum(gate["in_flight"] for gate in gates),
        "concurrency": _all_keys(settings.concurrency, [u.gate.concurrency for u in upstreams]),
        "concurrency_auto": settings.concurrency == "auto",
        "calls_last_60s": sum(gate["calls_in_window"] for gate in gates),
        "rpm": _all_keys(settings.rpm, [u.gate.window.limit for u in upstreams]),
        "rpm_auto": settings.rpm == "auto",
        "tpm": settings.tpm * max(len(upstreams), 1),
        "breaker": "closed" if "closed" in states or not states else states[0],
        "queue_depth": parts.scheduler.depth(name),
        "latency_s": _best(min, [figures.service_s for figures in statistics]),
        "first_token_s": _best(min, [figures.first_token_s for figures in statistics]),
        "tokens_per_s": _best(max, [figures.tokens_per_s for figures in statistics]),
        "calls": sum(figures.calls for figures in statistics),
        "errors": sum(figures.errors for figures in statistics),
        "waiting_for": next((gate["waiting_for"] for gate in gates if gate["waiting_for"]), None),
        "ready": next((u.ready for u in upstreams), None),
        "gates": gates,
    }


def _all_keys(setting: int | Literal["auto"], of_gates: list[int]) -> int | None:
    """A limit over all keys, as it is now; None where it is learned and no key is there."""
    if of_gates:
        return sum(of_gates)
    return None if setting == "auto" else setting


def _best(which: Callable[[list[float]], float], found: list[float | None]) -> float | None:
    known = [figure for figure in found if figure is not None]
    return _rounded(which(known)) if known else None


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


def _gate(gate: AccountLimiter, wall_ms: int) -> Gate:
    now, figures = gate.time(), gate.statistics
    found = gate.verdict(Stage.START, tokens=1)
    return {
        "name": gate.name,
        "in_flight": gate.busy,
        "calls_in_window": figures.recent(60.0),
        "concurrency": gate.concurrency,
        "window_used": gate.window.used(now),
        "window_limit": gate.window.limit,
        "window_s": gate.window.span_s,
        "tokens_used": gate.budget.used(now),
        "tokens_limit": gate.budget.limit,
        "learned": gate.adaptive.as_dict() if gate.adaptive.learns else None,
        "breaker": gate.breaker.state(now).value,
        "waiting_for": gate.describe(),
        "why": found.reason,
        "next_in_s": None if math.isinf(wait_s := found.wait_s(now)) else round(wait_s, 3),
        "recent_calls": [
            {"ago_s": round(age_s, 3), "refused": refused}
            for age_s, refused in gate.window.calls(now, RECENT_MOST)
        ],
        "last_refusal": _refusal(figures.refusal, now, wall_ms),
        "latency_s": _rounded(figures.service_s),
        "first_token_s": _rounded(figures.first_token_s),
        "tokens_per_s": _rounded(figures.tokens_per_s),
    }


def _refusal(
    found: tuple[float, ProviderError] | None, now: float, wall_ms: int
) -> LastRefusal | None:
    if found is None:
        return None
    at, error = found
    return {
        "at": rfc3339(wall_ms - round((now - at) * 1000)),
        "code": error.code,
        "status": error.status,
        "retry_after_s": error.retry_after,
        "message": str(error),
    }


ROUTES = [resource("/models", GET=models)]
