"""What became of a run of OpenClaw, and ending one.

Owns the questions: the session's history over HTTP, its last run's status over the WebSocket,
and whether the gateway is ready. Promises that a gateway which cannot be reached is a run
status, not
an error. Never waits for a run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from asyncsvc.errors import ProviderError, UpstreamAuth
from asyncsvc.providers.openclaw import sessions as openclaw
from asyncsvc.providers.openclaw.sessions import RunStatus, State
from asyncsvc.providers.openclaw.socket import Gateway
from asyncsvc.providers.upstream import Upstream

READY_S = 0.5
FRESH_S = 2.0
"""How long what a gateway said of itself is believed."""

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
            status, _ = await fetch(f"{openclaw.origin(upstream.base_url)}/readyz", {})
    except (ProviderError, TimeoutError):
        status = 0
    upstream.ready = status == 200


async def run_status(fetch: Fetch, gateway: Gateway, upstream: Upstream, key: str) -> RunStatus:
    """What became of the run of that session. Raises UpstreamAuth, nothing else."""
    full = _full(upstream, key)
    url = openclaw.history_url(upstream.base_url, full)
    try:
        status, history = await fetch(url, upstream.headers())
    except ProviderError as error:
        return RunStatus(State.AWAY, detail=str(error))
    if status in (401, 403):
        raise UpstreamAuth(f"the gateway answered {status} to a question for a run's history")
    run_status = None
    # Whoever may only speak HTTP to the gateway goes without.
    with suppress(ProviderError):
        told = await gateway.call("sessions.describe", {"key": full})
        run_status = (told.get("session") or {}).get("status")
    return openclaw.fate_in(status, history, run_status)


async def abort(gateway: Gateway, upstream: Upstream, key: str) -> str:
    """End whatever runs in that session; what the gateway said to it, for people."""
    try:
        told = await gateway.call("sessions.abort", {"key": _full(upstream, key)})
    except ProviderError as error:
        return f"could not be asked: {error}"
    return str(told.get("status") or "aborted")


def _full(upstream: Upstream, key: str) -> str:
    aim = openclaw.target(upstream.model_id, upstream.settings.extra_headers)
    return openclaw.full_key(key, aim.agent)
