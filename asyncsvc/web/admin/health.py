"""`/health`, `/livez` and `/readyz`: whether the service lives, is ready and is well.

The answers come at once even when the disk hangs: they hold what the monitor has measured within
the last second, and how the last write went.
"""

import asyncio
import os
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from asyncsvc import __version__
from asyncsvc.access import Permission
from asyncsvc.clock import rfc3339
from asyncsvc.limits.verdict import Stage
from asyncsvc.storage.database import VERSION
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks.schemas import Health

DEGRADED_BREAKER = "open"
PLAIN = ("text/plain; charset=utf-8",)
ALARMS_TOLD = 20


@operation(scope=Permission.OPEN, answer=Health)
async def health(request: Request) -> Response:
    """GET /health: what works and what does not."""
    parts = services(request)
    monitor = parts.monitor
    monitor.judge()  # the last write may be newer than the last look
    queue_ok = not parts.intake.closed
    models = _models(parts)
    reasons = [reason.as_dict() for reason in monitor.alarms.reasons.values()]
    sqlite_ok = monitor.writes_go_well
    problems = [reason["message"] for reason in reasons]
    problems += [] if queue_ok else ["the service is stopping"]
    problems += _ailing(parts)
    return JSON(
        {
            "status": "degraded" if problems else "ok",
            "problems": problems,
            "reasons": reasons,
            "alarms": monitor.alarms.changes()[-ALARMS_TOLD:],
            "taking_tasks": queue_ok and parts.intake.overload is None,
            "gateway_running": queue_ok,
            "components": {
                "queue": queue_ok,
                "cache": parts.settings.cache.enabled,
                "sqlite_persistence": sqlite_ok,
                "storage_mode": "sqlite",
            },
            "v1_compatible": True,
            "version": __version__,
            "sqlite_version": VERSION,
            "started_at": rfc3339(parts.started_ms),
            "uptime_s": round((parts.journal.now() - parts.started_ms) / 1000, 3),
            "unfinished": len(parts.journal.live),
            "waiting": len(parts.scheduler),
            "running": len(parts.executor.executions),
            "cache": parts.cache.figures(),
            "worker_restarts": parts.pool.restarts,
            "workers": parts.pool.figures(),
            **_figures(parts),
            "pid": os.getpid(),
            "sandbox": parts.toolbox.runner.as_dict() if parts.toolbox.runner else None,
            "models": models,
        }
    )


def _figures(parts: Services) -> dict[str, Any]:
    """What the machine has shown at the latest look."""
    monitor, writes = parts.monitor, parts.journal.writes
    seen, lag = monitor.process_statistics, monitor.lag
    return {
        "memory_mb": round(seen.memory / 1e6, 1),
        "cpu_percent": seen.cpu_percent,
        "loop_lag_ms": {
            "p50": round(lag.quantile(0.5) * 1000, 2),
            "p99": round(lag.quantile(0.99) * 1000, 2),
        },
        "fds": {"open": seen.fds, "limit": seen.fds_limit},
        "storage": {
            "database_bytes": seen.database,
            "wal_bytes": seen.wal,
            "disk_free_mb": None if seen.disk_free is None else seen.disk_free // 1_000_000,
            "last_write_ok": writes.refusal is None,
            "last_write_s_ago": round(asyncio.get_running_loop().time() - writes.ended, 3),
            "writes_refused": writes.refusals,
        },
        "websockets": len(parts.sockets),
    }


def _models(parts: Services) -> dict[str, dict[str, Any]]:
    now = asyncio.get_running_loop().time()
    enabled = {
        upstream.name: {
            "enabled": True,
            "breaker": upstream.gate.breaker.state(now).value,
        }
        for upstream in parts.catalogue.upstreams
    }
    lacking = parts.catalogue.lacking()
    return enabled | {name: {"enabled": False, "reason": why} for name, why in lacking.items()}


def _ailing(parts: Services) -> list[str]:
    """What is wrong with the accounts."""
    upstreams = parts.catalogue.upstreams
    usable = [upstream for upstream in upstreams if upstream.gate.fault is None]
    none = [] if usable else ["no model is enabled"]
    gates = [upstream.gate for upstream in upstreams]
    refused = [f"model {gate.name}: {gate.fault}" for gate in gates if gate.fault is not None]
    opened = [
        f"model {gate.describe(Stage.QUEUE) if gate.refusals.resting else f'{name}: breaker open'}"
        for name, gate in ((upstream.name, upstream.gate) for upstream in upstreams)
        if gate.breaker.state(gate.time()).value == DEGRADED_BREAKER
    ]
    return [*none, *refused, *opened]


@operation(scope=Permission.OPEN, answer=str, media=PLAIN)
async def livez(_: Request) -> Response:
    """GET /livez: whether the process answers."""
    return PlainTextResponse("ok")


@operation(scope=Permission.OPEN, answer=str, media=PLAIN, also={503: "the service is stopping"})
async def readyz(request: Request) -> Response:
    """GET /readyz: whether tasks are taken."""
    parts = services(request)
    if parts.intake.closed:
        return PlainTextResponse("stopping", status_code=503)
    if (overload := parts.monitor.overload()) is not None:
        return PlainTextResponse(f"overloaded: {overload}", status_code=503)
    return PlainTextResponse("ok")


ROUTES = [
    resource("/health", GET=health),
    resource("/livez", GET=livez),
    resource("/readyz", GET=readyz),
]
