"""All routes, in the order in which they are tried.

Owns the list. Promises that what is served and what is described are the same. Never says
what a route does.
"""

from starlette.routing import BaseRoute

from asyncsvc.web import api, docs, health, reload, ws

ROUTES: list[BaseRoute] = [
    *api.ROUTES,
    *reload.ROUTES,
    *health.ROUTES,
    *docs.ROUTES,
    *ws.ROUTES,
]
