"""A path and what can be done to it.

Owns the choice among a path's methods. Promises that a wrong method is told all the right
ones, that HEAD goes where GET goes, and that OPTIONS has an answer. Never reads a body.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import Receive, Scope, Send

Verb = Callable[[Request], Awaitable[Response]]


class Resource:
    """ASGI application of one path: each method's function, by its name."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self.verbs = verbs
        """What each method calls; `operations.declared` tells what is said of it."""
        known = dict(verbs)
        if "GET" in known:
            known["HEAD"] = known["GET"]
        known["OPTIONS"] = self._options
        self._allow = {"Allow": ", ".join(sorted(known))}
        self._apps = {name: request_response(function) for name, function in known.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._apps.get(scope["method"])
        if app is None:
            raise HTTPException(405, headers=self._allow)
        await app(scope, receive, send)

    async def _options(self, _: Request) -> Response:
        return Response(status_code=204, headers=self._allow)


def resource(path: str, **verbs: Verb) -> Route:
    """One route for all methods of a path: two would each answer 405 for the other's."""
    route = Route(path, Resource(verbs))
    route.path = route.path_format  # as it is described: without how its parts are matched
    return route
