"""`GET /openapi.json` and `/asyncapi.json`, the service's documents, and `GET /docs`, their page.

All are made once, when a client first asks, outside the event loop. All are open without a token,
since they hold nothing of tasks or settings. The page loads no other file and runs one script,
which the policy names by its hash. `GET /docs/try` is a vendored explorer, loaded from here.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from asyncsvc.access import Permission
from asyncsvc.web.http.made_once import MadeOnce
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.http.static_files import (
    ASK_EACH_TIME,
    HTML,
    File,
    StaticFiles,
    answer,
    file_of_all,
    page_of_all,
)
from asyncsvc.web.tasks.schemas import Object

EXPLORER = Path(__file__).parent / "static" / "explorer"
PREFIX = "/docs/try/"
EXPLORER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The explorer runs the files of its folder and calls this service, nothing else."""


@dataclass(frozen=True, slots=True)
class Made:
    """The bytes of the documents and of the page."""

    document: bytes
    asyncapi: bytes
    pages: Mapping[bool, File]
    """The page by whether tokens are in use, which its commands then send."""
    policy: str
    """The page's Content-Security-Policy."""


def make(routes: Sequence[BaseRoute]) -> Made:
    """The documents and the page of these routes: some tens of milliseconds of work."""
    # Imported here: a start of the service shall not take the time for them.
    from asyncsvc.web.openapi.asyncapi import asyncapi
    from asyncsvc.web.openapi.document import document
    from asyncsvc.web.openapi.page import SCRIPT, STYLE, page

    found, sockets = document(routes), asyncapi(routes)
    pages = {tokens: File(HTML, page(found, sockets, tokens).encode()) for tokens in (False, True)}
    for one in pages.values():
        _ = one.compressed  # made here, as this is done outside the event loop
    policy = (
        f"default-src 'none'; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Made(orjson.dumps(found), orjson.dumps(sockets), pages, policy)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class Description:
    """The documents and the page of a list of routes, made when a client first asks for them."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.made = MadeOnce(partial(make, routes))
        """All of them."""
        self.explorer = StaticFiles(EXPLORER, PREFIX, EXPLORER_POLICY)


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


@page_of_all
async def docs(request: Request) -> Response:
    """GET /docs: this description, as a page for people."""
    made = await _description(request).made()
    page = made.pages[services(request).clients.in_use]
    return answer(request, page, ASK_EACH_TIME, policy=made.policy)


@page_of_all
async def explorer(request: Request) -> Response:
    """GET /docs/try: a page that makes calls of this description.

    A token that is entered there is forgotten with the page.
    """
    return await _description(request).explorer.index(request)


@file_of_all
async def explorer_file(request: Request) -> Response:
    """GET /docs/try/{path}: a file of that page."""
    found, path = _description(request).explorer, request.path_params["path"]
    return await (found.file(request, path) if path else found.index(request))


ROUTES = [
    resource("/openapi.json", GET=openapi),
    resource("/asyncapi.json", GET=asyncapi),
    resource("/docs", GET=docs),
    resource("/docs/try", GET=explorer),
    resource("/docs/try/{path:path}", GET=explorer_file),
]
