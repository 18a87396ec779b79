"""`Resource`: the route of one path, with a declared function for each HTTP method.

`operation` declares the scope that a function needs of its caller, its types of body, query and
response and its error codes, from which `openapi.document` is made. A resource calls a function
only for a caller with that scope, and is not made without one: so is a `SocketResource`.

Another method is answered 405 with all methods that the path has, HEAD is answered as GET,
OPTIONS with the list of methods, and an exception of a function with its error response.
"""

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from asyncsvc.access import Caller, Permission
from asyncsvc.errors import MethodNotAllowed
from asyncsvc.web.http import errors
from asyncsvc.web.http.auth import subprotocol
from asyncsvc.web.http.body import ClientLeft
from asyncsvc.web.http.large_answers import deliver
from asyncsvc.web.http.sockets import REFUSED

JSON_MEDIA = "application/json"
REFUSED_MOST = 1000
"""Refusals that wait for their turn: as many as clients may be connected by default. Beyond that
they would wait for clients that have left."""
_MARK = "operation"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """All but the scope is optional; types are pydantic models or TypedDicts (`schemas.py`).

    `answer` is the type of the body at `status`; None: it has none. `query` and `headers` are
    TypedDicts of what may be given. `errors` are codes beyond those that every operation of its
    kind has (a body: invalid_json, task_too_large, invalid_request; a query: invalid_request).
    `also` are further statuses of success, with their meaning; `links` says that the answer's
    `task_id` is one to ask for.
    """

    scope: Permission
    answer: Any = None
    status: int = 200
    media: tuple[str, ...] = (JSON_MEDIA,)
    body: Any = None
    takes: str = JSON_MEDIA
    """What the body is."""
    needs_body: bool = True
    upload: str | None = None
    """The name of a file that may be the body, where the body has no type."""
    example: Any = None
    query: Any = None
    headers: Any = None
    errors: tuple[str, ...] = ()
    also: Mapping[int, str] = field(default_factory=dict)
    gives: tuple[str, ...] = ()
    """Headers of the answer."""
    invalid: int = 422
    """The status of `invalid_request`: OpenAI's API has another."""
    fails: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Codes by status, where the answer is that of a task and the task may fail."""


def operation(**declared: Any) -> Callable[[F], F]:
    """Mark a route's function with an `Operation` of these fields."""
    found = Operation(**declared)

    def mark(function: F) -> F:
        setattr(function, _MARK, found)
        return function

    return mark


def declared(function: Callable[..., Any]) -> Operation | None:
    """Its declaration; None: it has none."""
    found: Operation | None = getattr(function, _MARK, None)
    return found


Verb = Callable[[Request], Awaitable[Response]]


class Resource(Route):
    """One route for all methods of a path: two routes would each answer 405 for the other's.

    Raises TypeError for a function that declares no scope.
    """

    def __init__(self, path: str, verbs: Mapping[str, Verb]) -> None:
        self.scopes = {method: _scope(path, function) for method, function in verbs.items()}
        """The scope that each method needs of its caller."""
        super().__init__(path, next(iter(verbs.values())))
        self.methods = None  # every method comes to `handle`
        self.path = self.path_format  # as it is described: without how its parts are matched
        self.verbs = verbs
        """The function of each method; `operations.declared` gives its declaration."""
        self._functions = dict(verbs)
        if "GET" in verbs:
            self._functions["HEAD"] = verbs["GET"]
            self.scopes["HEAD"] = self.scopes["GET"]
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
                scope["caller"].require(self.scopes.get(scope["method"], Permission.OPEN))
                response = await function(Request(scope, receive, send))
            except ClientLeft:
                return  # waiting for a turn, it would hold the closed connection
            except Exception as error:
                response = errors.answer(scope, error)
                # Refused requests cost their client nothing: a flood of them is answered in turns.
                turns = scope["state"]["services"].turns
                if turns.waiting < REFUSED_MOST:
                    await turns.next()
        await deliver(response, scope, receive, send)

    async def _options(self, _: Request) -> Response:
        return Response(status_code=204, headers=self._allow)


def _scope(path: str, function: Verb) -> Permission:
    found = declared(function)
    if found is None:
        raise TypeError(f"{path}: {function.__qualname__} declares no scope")
    return found.scope


class SocketResource(WebSocketRoute):
    """The route of a WebSocket; a caller needs one of the scopes to open it. `query` is a TypedDict
    of the parameters of its URL."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[[WebSocket], Awaitable[None]],
        *scopes: Permission,
        query: Any = None,
    ) -> None:
        if not scopes:
            raise TypeError(f"{path}: {endpoint.__qualname__} declares no scope")
        super().__init__(path, endpoint)
        self.scopes = scopes
        self.query = query

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = scope["caller"].scopes
        if Permission.OPEN not in self.scopes and held.isdisjoint(self.scopes):
            socket = WebSocket(scope, receive, send)
            await socket.accept(subprotocol=subprotocol(scope))
            await socket.close(REFUSED, "forbidden_scope")
            return
        await super().handle(scope, receive, send)


def caller(connection: HTTPConnection) -> Caller:
    """Who makes the request or has opened the WebSocket."""
    found: Caller = connection.scope["caller"]
    return found


class OpenPaths(Container[str]):
    """The paths that may be read without a token: single ones, and all below a prefix."""

    def __init__(self, single: Iterable[str], below: Iterable[str]) -> None:
        self.single = frozenset(single)
        self.below = tuple(below)

    def __contains__(self, path: object) -> bool:
        return path in self.single or (isinstance(path, str) and path.startswith(self.below))


def open_paths(routes: Iterable[BaseRoute]) -> OpenPaths:
    """The paths that may be read without a token. Raises TypeError for a route that declares no
    scope: none may be reached by accident."""
    single = set[str]()
    below = set[str]()
    for route in routes:
        if not isinstance(route, Resource | SocketResource):
            raise TypeError(f"{route!r} declares no scope")
        if isinstance(route, Resource) and Permission.OPEN in route.scopes.values():
            prefix, parameter, _ = route.path.partition("{")
            (below if parameter else single).add(prefix)
    return OpenPaths(single, below)


def resource(path: str, **verbs: Verb) -> Resource:
    """A route of this path: `resource("/tasks", POST=submit, GET=listing)`."""
    return Resource(path, verbs)
