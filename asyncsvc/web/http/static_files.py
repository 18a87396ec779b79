"""Files of a page in memory, and their answers: types, ETags, gzip, and one version of all.

`load` reads a folder once. The version is a hash over all files: a file's address below
`PREFIX/VERSION/` never has other content, so that browsers keep it, and the modules of one page
load, which name each other by relative paths, are of one version. Files are found by their name in
a table; no path of a request reaches the file system.
"""

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.errors import NotFound
from asyncsvc.web.http.made_once import MadeOnce
from asyncsvc.web.http.resources import operation

INDEX = "index.html"
HTML = ".html"
FOR_EVER = "public, max-age=31536000, immutable"
ASK_EACH_TIME = "no-cache"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""The types of what is served, by the end of the name; other files are not."""
page_of_all = operation(
    scope=Permission.OPEN,
    answer=str,
    media=(TYPES[HTML],),
    gives=("ETag",),
    also={304: "the client has the page already"},
)
"""Declares the route of a page, which holds no data and is open without a token."""
file_of_all = operation(
    scope=Permission.OPEN,
    answer=str,
    media=tuple(dict.fromkeys(TYPES.values())),
    errors=("not_found",),
    gives=("ETag",),
    also={304: "the client has the file already"},
)
"""Declares the route of a page's files."""
COMPRESSED_ALREADY = frozenset({".woff2"})
HASH_CHARS = 16
VENDOR = "vendor/"
_TO_ITS_END = rb"(?:[^*]|\*(?!/))*\*/"
COMMENTS = re.compile(
    rb"^[ \t]*/\*\*" + _TO_ITS_END + rb"[ \t]*\n|/\*\* @" + _TO_ITS_END + rb" ?|^[ \t]*\n|^[ \t]+",
    re.MULTILINE,
)
"""JSDoc, on lines of its own or as a type within one, indents and empty lines: a fifth of our
scripts, which no browser needs. Templates of several lines are HTML, in which an indent means
nothing."""
STYLE_COMMENTS = re.compile(rb"/\*(?:[^*]|\*(?!/))*\*/|^[ \t]+|\n(?=[ \t]*\n)", re.MULTILINE)
"""The same in a style sheet."""
UNREAD = {".js": COMMENTS, ".css": STYLE_COMMENTS}


@dataclass(frozen=True)
class File:
    """One file, and its gzip form for clients that take it."""

    suffix: str
    content: bytes

    @property
    def media_type(self) -> str:
        return TYPES[self.suffix]

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:HASH_CHARS]

    @cached_property
    def compressed(self) -> bytes | None:
        """None: compressing makes it no smaller."""
        if self.suffix in COMPRESSED_ALREADY:
            return None
        packed = gzip.compress(self.content, mtime=0)
        return packed if len(packed) < len(self.content) else None


@dataclass(frozen=True, slots=True)
class Files:
    """All files by their paths below the folder, `index` with the addresses of this version."""

    version: str
    index: File
    by_path: Mapping[str, File]


def load(folder: Path, prefix: str) -> Files:
    """Read and compress the files of a folder; the index names them below the prefix, which ends
    with a slash. Raises OSError."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in TYPES and path.is_file():
            name = path.relative_to(folder).as_posix()
            content, unread = path.read_bytes(), UNREAD.get(path.suffix)
            if unread is not None and not name.startswith(VENDOR):
                content = unread.sub(b"", content)
            found[name] = File(path.suffix, content)
    whole = hashlib.sha256()
    for name, file in found.items():
        whole.update(f"{name}\0{file.digest}\0".encode())
    version = whole.hexdigest()[:HASH_CHARS]
    addressed = f'"{prefix}{version}/'.encode()
    index = File(HTML, found[INDEX].content.replace(f'"{prefix}'.encode(), addressed))
    for file in (index, *found.values()):
        _ = file.compressed  # made here, as this is done outside the event loop
    return Files(version, index, found)


class StaticFiles:
    """The files of one page, read when a client first asks for one; `policy` is the
    Content-Security-Policy of its HTML."""

    def __init__(self, folder: Path, prefix: str, policy: str) -> None:
        self.files = MadeOnce(partial(load, folder, prefix))
        """All of them."""
        self._policy = policy

    async def index(self, request: Request, vary: str = "Accept-Encoding") -> Response:
        """The page itself."""
        return self._answer(request, (await self.files()).index, ASK_EACH_TIME, vary)

    async def file(self, request: Request, path: str) -> Response:
        """A file by its path below the prefix. Raises NotFound."""
        found = await self.files()
        version, _, rest = path.partition("/")
        if version == found.version and rest in found.by_path:
            return self._answer(request, found.by_path[rest], FOR_EVER)
        if path not in found.by_path:
            raise NotFound("the page has no such file in this version; load the page again")
        return self._answer(request, found.by_path[path], ASK_EACH_TIME)

    def _answer(
        self, request: Request, one: File, caching: str, vary: str = "Accept-Encoding"
    ) -> Response:
        return answer(request, one, caching, vary, self._policy)


def answer(
    request: Request, one: File, caching: str, vary: str = "Accept-Encoding", policy: str = ""
) -> Response:
    """A file, or 304 where the client has it; compressed where the client takes that."""
    packed = one.compressed if _takes_gzip(request.headers.get("accept-encoding", "")) else None
    tag = f'"{one.digest}{"-gzip" if packed is not None else ""}"'
    headers = {"ETag": tag, "Cache-Control": caching, "Vary": vary}
    if one.suffix == HTML and policy:
        headers["Content-Security-Policy"] = policy
    if _has(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    body = one.content if packed is None else packed
    return Response(body, media_type=one.media_type, headers=headers)


def quality(parameters: str) -> float:
    """The `q` of a part of an Accept header; 0 for one that cannot be read."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip().lower() == "gzip":
            return quality(parameters) > 0
    return False


def _has(lists: Iterable[str], tag: str) -> bool:
    """Whether the client's ETags have this one; weak ones count, as RFC 9110 says."""
    given = [one.strip().removeprefix("W/") for one in ",".join(lists).split(",")]
    return tag in given or "*" in given
