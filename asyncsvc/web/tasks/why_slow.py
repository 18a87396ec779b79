"""`GET /stats/why-slow`: what all tasks of a time have waited for, and what would help most.

The tasks are read without their texts, by a slow read, and looked at a few at a time, so that the
event loop is not held up.
"""

import asyncio
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Caller, Permission
from asyncsvc.clock import rfc3339
from asyncsvc.monitoring.why_slow import WaitSummary
from asyncsvc.tasks.state import State
from asyncsvc.web.http.errors import JSON, check_query
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks.explain import Seconds
from asyncsvc.web.tasks.routes import integer
from asyncsvc.web.tasks.schemas import Count, Time

DEFAULT_S, LONGEST_S = 3600, 31 * 86_400
TASKS_MOST = 20_000
AT_ONCE = 200
"""Tasks that are looked at in one step of the event loop."""
FORECAST_MOST = 2_000
"""Waiting tasks whose reasons so far are looked up; of more, the newest."""

Reasons = Annotated[
    dict[str, Seconds],
    Field(
        description="seconds by reason: those of a task's explanation, and session, retry, paused, "
        "approval"
    ),
]


class WhySlowQuery(TypedDict, total=False):
    since_s: Annotated[int, Field(ge=1, le=LONGEST_S, description="how far back (default 3600)")]


class SlowReason(TypedDict):
    reason: str
    waited_s: Seconds
    tasks: Annotated[Count, Field(description="that have waited for it")]


class SlowModel(TypedDict):
    model: Annotated[str | None, Field(description="null: not chosen yet")]
    waited_s: Seconds
    reasons: Reasons


class SlowOwner(TypedDict):
    owner: str | None
    waited_s: Seconds
    reasons: Reasons


# A key of it is no name in Python.
BestChange = TypedDict(
    "BestChange",
    {
        "setting": Annotated[str, Field(description="its full name")],
        "from": Annotated[int | str | bool | None, Field(description="as it is")],
        "to": Annotated[int | bool | None, Field(description="null: no number says it")],
        "why": str,
        "reason": Annotated[str, Field(description="what it shortens the waiting for")],
        "model": str | None,
        "waited_s": Annotated[
            Seconds,
            Field(
                description="what tasks have waited for it, and no forecast of what it saves; the "
                "command rehearse makes one"
            ),
        ],
    },
)


class WhySlow(TypedDict):
    """What tasks have waited for, longest first."""

    since: Time
    until: Time
    tasks: Annotated[Count, Field(description="that came, waited, ran or ended in that time")]
    waited_tasks: Count
    waited_s: Annotated[Seconds, Field(description="of all tasks together, in that time")]
    reasons: list[SlowReason]
    models: list[SlowModel]
    owners: list[SlowOwner]
    change: Annotated[
        BestChange | None,
        Field(description="the setting likely to save most; null: none bounds the waits"),
    ]
    truncated: Annotated[bool, Field(description=f"whether only the newest {TASKS_MOST} count")]


@operation(scope=Permission.READ, answer=WhySlow, query=WhySlowQuery)
async def why_slow(request: Request) -> Response:
    """GET /stats/why-slow: what the caller's tasks have waited for, and what would help most.

    An administrator is answered about all tasks.
    """
    query = request.query_params
    check_query(query, WhySlowQuery.__annotations__, "parameter of why-slow")
    since_s = integer(query.get("since_s"), "since_s", DEFAULT_S, 1, LONGEST_S)
    return JSON(await summed_up(services(request), caller(request), since_s))


async def summed_up(parts: Services, asker: Caller, since_s: int) -> dict[str, Any]:
    """The `WhySlow` of a caller. Raises ReadTooSlow."""
    now = parts.journal.now()
    since = now - since_s * 1000
    rows = await parts.journal.store.waits.since(asker.only, since, TASKS_MOST + 1)
    found, forecasts = WaitSummary(since, now), 0
    for start in range(0, min(len(rows), TASKS_MOST), AT_ONCE):
        for row in rows[start : min(start + AT_ONCE, TASKS_MOST)]:
            waited = None
            if row.state == State.PENDING and forecasts < FORECAST_MOST:
                task = parts.journal.live.get(row.id)
                if task is not None and task.state is State.PENDING:
                    waited, forecasts = parts.scheduler.waited(task), forecasts + 1
            found.add(row, waited)
        await asyncio.sleep(0)
    times = {"since": rfc3339(since), "until": rfc3339(now)}
    return times | found.summary(parts.settings) | {"truncated": len(rows) > TASKS_MOST}


ROUTES = [resource("/stats/why-slow", GET=why_slow)]
