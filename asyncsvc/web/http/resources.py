"""`Resource`: the route of one path, with a function for each HTTP method.

Another method is answered 405 with all methods that the path has, HEAD is answered as GET,
OPTIONS with the list of methods, and an exception of a function with its error response.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from asyncsvc.errors import MethodNotAllowed
from asyncsvc.web.http import errors

Verb = Callable[[Request], Awaitable[Response]]


class Resource(Route):
    """One route for all methods of a path: two routes would each answer 405 for the other's."""

    def __init__(self, path: str, verbs: Mapping[str, Verb]) -> None:
        super().__init__(path, next(iter(verbs.values())))
        self.methods = None  # every method comes to `handle`
        self.path = self.path_format  # as it is described: without how its parts are matched
        self.verbs = verbs
        """The function of each method; `operations.declared` gives its declaration."""
        self._functions = dict(verbs)
        if "GET" in verbs:
            self._functions["HEAD"] = verbs["GET"]
        self._functions["OPTIONS"] = self._options
        self._allow = {"Allow": ", ".join(sorted(self._functions))}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        function = self._functions.get(scope["method"])
        response: Response
        if function is None:
            wrong = f"{scope['method']} is not possible on {scope['path']}"
            response = errors.response(MethodNotAllowed(wrong))
            response.headers.update(self._allow)
        else:
            try:
                response = await function(Request(scope, receive, send))
            except Exception as error:
                response = errors.answer(scope, error)
        await response(scope, receive, send)

    async def _options(self, _: Request) -> Response:
        return Response(status_code=204, headers=self._allow)


def resource(path: str, **verbs: Verb) -> Resource:
    """A route of this path: `resource("/tasks", POST=submit, GET=listing)`."""
    return Resource(path, verbs)
