"""Runs of OpenClaw: their status after a cut, their end, and whether a gateway is ready.

Owns the questions (the session's history over HTTP, its last run's status over the WebSocket) and
the reading of the replies as one `RunStatus`. Promises that only a whole answer counts as one: a
run that was aborted leaves its partial text in the history with the same stop reason as a good one;
that a gateway which cannot be reached is a status, not an error. Never waits for a run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import orjson

from asyncsvc.errors import ProviderError, UpstreamAuth
from asyncsvc.providers.agents import RunState, RunStatus, origin
from asyncsvc.providers.dialects import target
from asyncsvc.providers.openclaw.socket import Gateway
from asyncsvc.providers.upstream import Upstream

_DEAD = frozenset({"killed", "failed", "aborted", "timeout", "error", "cancelled"})
READY_S = 0.5
FRESH_S = 2.0
"""How long the readiness that a gateway reported counts."""

Fetch = Callable[[str, dict[str, str]], Awaitable[tuple[int, Any]]]
"""A GET: status and JSON."""


async def look(fetch: Fetch, upstreams: Sequence[Upstream]) -> None:
    """Let each gateway's upstream know whether it is ready, by its `/readyz`."""
    now = asyncio.get_running_loop().time()
    due = [u for u in upstreams if u.preset.acts and now - u.looked_at >= FRESH_S]
    for upstream in due:
        upstream.looked_at = now
    await asyncio.gather(*(_look(fetch, upstream) for upstream in due))


async def _look(fetch: Fetch, upstream: Upstream) -> None:
    # One that starts leaves requests without an answer until it is ready.
    try:
        async with asyncio.timeout(READY_S):
            status, _ = await fetch(f"{origin(upstream.base_url)}/readyz", {})
    except (ProviderError, TimeoutError):
        status = 0
    upstream.ready = status == 200


async def run_status(fetch: Fetch, gateway: Gateway, upstream: Upstream, key: str) -> RunStatus:
    """The status of the run of that session. Raises UpstreamAuth, nothing else."""
    full = _full(upstream, key)
    url = history_url(upstream.base_url, full)
    try:
        status, history = await fetch(url, upstream.headers())
    except ProviderError as error:
        return RunStatus(RunState.AWAY, detail=str(error))
    if status in (401, 403):
        raise UpstreamAuth(f"the gateway answered {status} to a question for a run's history")
    run_status = None
    # An account that may only speak HTTP to the gateway goes without.
    with suppress(ProviderError):
        described = await gateway.call("sessions.describe", {"key": full})
        run_status = (described.get("session") or {}).get("status")
    return status_in(status, history, run_status)


async def abort(gateway: Gateway, upstream: Upstream, key: str) -> str:
    """End the run of that session; the gateway's reply, for people."""
    try:
        reply = await gateway.call("sessions.abort", {"key": _full(upstream, key)})
    except ProviderError as error:
        return f"could not be asked: {error}"
    return str(reply.get("status") or "aborted")


def full_key(key: str, agent: str | None) -> str:
    """The gateway's own key of a session; the default agent's sessions go by the plain key."""
    return key if agent is None else f"agent:{agent}:{key}"


def _full(upstream: Upstream, key: str) -> str:
    aim = target(upstream.model_id, upstream.settings.extra_headers)
    return full_key(key, aim.agent)


def history_url(base_url: str, key: str) -> str:
    return f"{origin(base_url)}/sessions/{quote(key, safe='')}/history"


def status_in(status: int, history: Any, run_status: str | None) -> RunStatus:
    """The status by an answer of `/sessions/KEY/history`; `run_status` is that of
    `sessions.describe`, None where it could not be asked."""
    if status == 404:
        detail = "the gateway has no such session: the run never began"
        return RunStatus(RunState.NEVER, detail=detail)
    if status != 200 or not isinstance(history, dict):
        return RunStatus(RunState.AWAY, detail=f"the gateway answered {status}")
    messages = history.get("messages")
    messages = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    last = messages[-1] if messages else {}
    if run_status in _DEAD:
        return RunStatus(RunState.LOST, detail=f"its last run is {run_status}")
    if last.get("role") == "assistant" and _whole(last) and (text := text_of(last)):
        usage = usage_in(last.get("usage"))
        return RunStatus(RunState.ANSWERED, text, usage, "the answer is in its history")
    if run_status == "done":
        return RunStatus(RunState.LOST, detail="its last run ended without an answer")
    detail = "the gateway has the run under way, or will take it up again"
    return RunStatus(RunState.RUNNING, detail=detail)


def _whole(message: dict[str, Any]) -> bool:
    """Whether a model ended the message: a text cut by an abort has no `responseId`."""
    return message.get("stopReason") in ("stop", "length") and bool(message.get("responseId"))


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, be it one string or parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        str(part.get("text") or "")
        for part in parts
        if isinstance(part, dict) and part.get("type") == "text"
    )


def usage_in(found: Any) -> dict[str, Any] | None:
    """OpenAI's names for what the gateway counts."""
    if not isinstance(found, dict):
        return None
    numbers = [found.get(name) for name in ("input", "output", "totalTokens")]
    prompt, completion, total = (n if isinstance(n, int) else 0 for n in numbers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total or prompt + completion,
    }


def json_text(value: Any) -> str:
    """A value as JSON, for people."""
    return orjson.dumps(value, default=str).decode()
