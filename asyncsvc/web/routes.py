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
from asyncsvc.web.v1 import batches, files, responses
from asyncsvc.web.v1 import routes as v1

ROUTES: list[BaseRoute] = [
    *api.ROUTES,
    *explain.ROUTES,
    *schedules.ROUTES,
    *holding.ROUTES,
    *v1.ROUTES,
    *responses.ROUTES,
    *files.ROUTES,
    *batches.ROUTES,
    *reload.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
    *transfer.ROUTES,
    *docs.ROUTES,
    *ws.ROUTES,
]
