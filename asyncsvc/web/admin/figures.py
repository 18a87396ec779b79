"""`GET /stats/history`: figures of the whole service over time, for charts."""

from typing import Annotated, Literal, cast

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.errors import InvalidRequest
from asyncsvc.monitoring.figures import EVERY_S
from asyncsvc.web.http.errors import JSON, check_query
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.tasks.schemas import Count, Time

Span = Literal["15m", "6h"]
Figures = list[Annotated[float, Field(ge=0)]]


class HistoryQuery(TypedDict, total=False):
    span: Annotated[Span, Field(description="15m (default) or 6h")]


class Levels(TypedDict):
    """Averages of each row. `priority`, `short` and `long` are pending tasks by lane."""

    priority: Figures
    short: Figures
    long: Figures
    scheduled: Figures
    running: Figures
    paused: Figures
    memory_mb: Figures
    cpu_percent: Figures
    loop_lag_ms: Annotated[Figures, Field(description="99th percentile")]


class Totals(TypedDict):
    """What was added in each row."""

    accepted: list[Count]
    refused: Annotated[list[Count], Field(description="submits that were not taken")]
    completed: list[Count]
    failed: list[Count]
    cancelled: list[Count]
    calls: list[Count]
    errors: Annotated[list[Count], Field(description="calls that failed")]
    tokens: Annotated[list[Count], Field(description="pieces of answers: about one a token")]


class FiguresOverTime(TypedDict):
    """Rows since the start of the service, oldest first: each list has one figure a row."""

    span: Span
    every_s: Annotated[Count, Field(description="what a row is about; see `at`")]
    at: Annotated[list[Time], Field(description="the end of each row")]
    levels: Levels
    totals: Totals
    waits: Annotated[
        dict[str, Figures],
        Field(description="seconds that tasks had waited which were claimed in a row, by reason"),
    ]
    waited_s: Annotated[
        dict[str, Annotated[float, Field(ge=0)]],
        Field(description="the same since the start of the service"),
    ]


@operation(scope=Permission.ADMIN, answer=FiguresOverTime, query=HistoryQuery)
async def history(request: Request) -> Response:
    """GET /stats/history: figures of the last 15 minutes or 6 hours.

    They begin with the service, and tell of all owners' tasks.
    """
    check_query(request.query_params, HistoryQuery.__annotations__, "parameter of a history")
    span = request.query_params.get("span", "15m")
    if span not in EVERY_S:
        raise InvalidRequest(f"span must be one of {', '.join(EVERY_S)}", param="span")
    return JSON(services(request).figures.as_dict(cast(Span, span)))


ROUTES = [resource("/stats/history", GET=history)]
