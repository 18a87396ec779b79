"""All routes, in the order in which they are tried.

Owns the list. Promises that what is served and what is described are the same. Never says
what a route does.
"""

from starlette.routing import BaseRoute

from asyncsvc.web import (
    api,
    docs,
    explain,
    health,
    holding,
    metrics,
    reload,
    schedules,
    transfer,
    ws,
)

ROUTES: list[BaseRoute] = [
    *api.ROUTES,
    *explain.ROUTES,
    *schedules.ROUTES,
    *holding.ROUTES,
    *reload.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
    *transfer.ROUTES,
    *docs.ROUTES,
    *ws.ROUTES,
]
