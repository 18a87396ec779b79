"""`GET /openapi.json` and `/asyncapi.json`, the service's documents, and `GET /docs`, their page.

All are made once, when a client first asks, outside the event loop. All are open without a token,
since they hold nothing of tasks or settings; the page runs no script and loads no other file.
"""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from asyncsvc.access import Permission
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.tasks.schemas import Object


@dataclass(frozen=True, slots=True)
class Made:
    """The bytes of the documents and of the page."""

    document: bytes
    asyncapi: bytes
    page: bytes
    policy: str
    """The page's Content-Security-Policy."""


def make(routes: Sequence[BaseRoute]) -> Made:
    """The documents and the page of these routes: some tens of milliseconds of work."""
    # Imported here: a start of the service shall not take the time for them.
    from asyncsvc.web.openapi.asyncapi import asyncapi
    from asyncsvc.web.openapi.document import document
    from asyncsvc.web.openapi.page import STYLE, page

    found = document(routes)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    sockets = asyncapi(routes)
    return Made(orjson.dumps(found), orjson.dumps(sockets), page(found).encode(), policy)


class Description:
    """The documents and the page of a list of routes, made when a client first asks for them."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._made: Made | None = None

    async def made(self) -> Made:
        """All of them. Two clients that ask at once may both cause the work, with one result."""
        if self._made is None:
            self._made = await asyncio.to_thread(make, self._routes)
        return self._made


def _description(request: Request) -> Description:
    found: Description = request.scope["state"]["description"]
    return found


@operation(scope=Permission.OPEN, answer=Object)
async def openapi(request: Request) -> Response:
    """GET /openapi.json: this description, as OpenAPI 3.1."""
    return Response((await _description(request).made()).document, media_type="application/json")


@operation(scope=Permission.OPEN, answer=Object)
async def asyncapi(request: Request) -> Response:
    """GET /asyncapi.json: the description of the WebSockets, as AsyncAPI 3.0."""
    return Response((await _description(request).made()).asyncapi, media_type="application/json")


@operation(scope=Permission.OPEN, answer=str, media=("text/html; charset=utf-8",))
async def docs(request: Request) -> Response:
    """GET /docs: this description, as a page for people."""
    made = await _description(request).made()
    headers = {"Content-Security-Policy": made.policy}
    return Response(made.page, media_type="text/html", headers=headers)


ROUTES = [
    resource("/openapi.json", GET=openapi),
    resource("/asyncapi.json", GET=asyncapi),
    resource("/docs", GET=docs),
]
