"""The service's own description: `GET /openapi.json`, and `GET /docs` for people.

Owns the two routes and the moment of making: once, when first asked, off the loop. Promises a
page that loads nothing from anywhere and runs no script. Never tells anything of tasks or
settings, so that both are open without a token.
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

from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.tasks.schemas import Object


@dataclass(frozen=True, slots=True)
class Made:
    """Both forms, ready to be sent."""

    document: bytes
    page: bytes
    policy: str
    """The page's Content-Security-Policy."""


def make(routes: Sequence[BaseRoute]) -> Made:
    """Some tens of milliseconds of work."""
    # Here and not above: nobody but the first to ask should pay for these.
    from asyncsvc.web.openapi.document import document
    from asyncsvc.web.openapi.page import STYLE, page

    found = document(routes)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return Made(orjson.dumps(found), page(found).encode(), policy)


class Description:
    """The description of these routes, made when a client first asks for it, outside the loop."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._made: Made | None = None

    async def made(self) -> Made:
        """Both forms. Two clients that ask at once may both cause the work, with one result."""
        if self._made is None:
            self._made = await asyncio.to_thread(make, self._routes)
        return self._made


def _description(request: Request) -> Description:
    found: Description = request.scope["state"]["description"]
    return found


@operation(answer=Object)
async def openapi(request: Request) -> Response:
    """GET /openapi.json: this description, as OpenAPI 3.1."""
    return Response((await _description(request).made()).document, media_type="application/json")


@operation(answer=str, media=("text/html; charset=utf-8",))
async def docs(request: Request) -> Response:
    """GET /docs: this description, as a page for people."""
    made = await _description(request).made()
    headers = {
        "Content-Security-Policy": made.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Response(made.page, media_type="text/html", headers=headers)


ROUTES = [resource("/openapi.json", GET=openapi), resource("/docs", GET=docs)]
