"""`GET /`, the web page for a browser and the status for others, and `GET /page/{path}`, its files.

All are open without a token, since the page holds no data: it asks the API for it, with a token
that the user gives. The page may run its own scripts and speak to its own service, nothing else.
"""

from collections.abc import Iterable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc import __version__
from asyncsvc.access import Permission
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import JSON_MEDIA, operation, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.http.static_files import StaticFiles, file_of_all, quality
from asyncsvc.web.tasks.schemas import Front

FOLDER = Path(__file__).parent / "static"
PREFIX = "/page/"
HTML = "text/html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No script may turn a text into HTML, so that no text of a model can become an element.
`'self'` allows the WebSocket of the same host and port, too."""


class Page(StaticFiles):
    """The files of the web page."""

    def __init__(self) -> None:
        super().__init__(FOLDER, PREFIX, POLICY)


def _page(request: Request) -> Page:
    found: Page = request.scope["state"]["page"]
    return found


@operation(
    scope=Permission.OPEN,
    answer=Front,
    media=(JSON_MEDIA, f"{HTML}; charset=utf-8"),
    also={304: "the client has the page already"},
)
async def root(request: Request) -> Response:
    """GET /: who this is, or the web page.

    A client that names `text/html` in `Accept`, as browsers do, is given the page."""
    if _wants_page(request.headers.getlist("accept")):
        return await _page(request).index(request, vary="Accept, Accept-Encoding")
    parts = services(request)
    return JSON(
        {
            "name": "asyncsvc",
            "version": __version__,
            "status": "stopping" if parts.intake.closed else "ok",
            "unfinished": len(parts.journal.live),
            "running": len(parts.executor.executions),
            "models": [upstream.name for upstream in parts.catalogue.upstreams],
            "links": {
                "tasks": "/tasks",
                "models": "/models",
                "health": "/health",
                "websocket": "/ws",
                "openapi": "/openapi.json",
                "asyncapi": "/asyncapi.json",
                "docs": "/docs",
            },
        },
        headers={"Vary": "Accept"},
    )


def _wants_page(accept: Iterable[str]) -> bool:
    """Whether the client names HTML, and rates it no lower than JSON."""
    rated = {}
    for part in ",".join(accept).split(","):
        kind, _, parameters = part.partition(";")
        rated[kind.strip().lower()] = quality(parameters)
    html = rated.get(HTML, 0.0)
    return html > 0 and html >= rated.get(JSON_MEDIA, 0.0)


@file_of_all
async def file(request: Request) -> Response:
    """GET /page/{path}: a file of the web page.

    Below `/page/VERSION/`, as `/` names it, a file never changes."""
    return await _page(request).file(request, request.path_params["path"])


ROUTES = [resource("/", GET=root), resource("/page/{path:path}", GET=file)]
