"""`GET /`, the web page for a browser and the status for others, and `GET /page/{path}`, its files.

All are open without a token, since the page holds no data: it asks the API for it, with a token
that the user gives. The page may run its own scripts and speak to its own service, nothing else.
"""

import asyncio
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc import __version__
from asyncsvc.access import Permission
from asyncsvc.errors import NotFound
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import JSON_MEDIA, operation, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.page import files
from asyncsvc.web.page.files import File, Files
from asyncsvc.web.tasks.schemas import Front

HTML = "text/html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No script may turn a text into HTML, so that no text of a model can become an element.
`'self'` allows the WebSocket of the same host and port, too."""
FOR_EVER = "public, max-age=31536000, immutable"
ASK_EACH_TIME = "no-cache"


class Page:
    """The files of the page, read when a client first asks for one."""

    def __init__(self) -> None:
        self._files: Files | None = None

    async def files(self) -> Files:
        """All of them. Two clients that ask at once may both cause the work, with one result."""
        if self._files is None:
            self._files = await asyncio.to_thread(files.load)
        return self._files


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
        found = await _page(request).files()
        return _answer(request, found.index, ASK_EACH_TIME, vary="Accept, Accept-Encoding")
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
        rated[kind.strip().lower()] = _quality(parameters)
    html = rated.get(HTML, 0.0)
    return html > 0 and html >= rated.get(JSON_MEDIA, 0.0)


def _quality(parameters: str) -> float:
    """The `q` of a part of an Accept header; 0 for one that cannot be read."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


@operation(
    scope=Permission.OPEN,
    answer=str,
    media=tuple(dict.fromkeys(files.TYPES.values())),
    errors=("not_found",),
    gives=("ETag",),
    also={304: "the client has the file already"},
)
async def file(request: Request) -> Response:
    """GET /page/{path}: a file of the web page.

    Below `/page/VERSION/`, as `/` names it, a file never changes."""
    found = await _page(request).files()
    path: str = request.path_params["path"]
    version, _, rest = path.partition("/")
    if version == found.version and rest in found.by_path:
        return _answer(request, found.by_path[rest], FOR_EVER)
    if path not in found.by_path:
        raise NotFound("the web page has no such file in this version; load the page again")
    return _answer(request, found.by_path[path], ASK_EACH_TIME)


def _answer(request: Request, one: File, caching: str, vary: str = "Accept-Encoding") -> Response:
    packed = one.compressed if _takes_gzip(request.headers.get("accept-encoding", "")) else None
    tag = f'"{one.digest}{"-gzip" if packed is not None else ""}"'
    headers = {"ETag": tag, "Cache-Control": caching, "Vary": vary}
    if one.suffix == ".html":
        headers["Content-Security-Policy"] = POLICY
    if _has(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    body = one.content if packed is None else packed
    return Response(body, media_type=one.media_type, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip().lower() == "gzip":
            return _quality(parameters) > 0
    return False


def _has(lists: Iterable[str], tag: str) -> bool:
    """Whether the client's ETags have this one; weak ones count, as RFC 9110 says."""
    given = [one.strip().removeprefix("W/") for one in ",".join(lists).split(",")]
    return tag in given or "*" in given


ROUTES = [resource("/", GET=root), resource("/page/{path:path}", GET=file)]
