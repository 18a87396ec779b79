"""The files of the web page in memory: types, ETags, compressed forms, and one version of all.

`load` reads the folder once. The version is a hash over all files: a file's address below
`/page/VERSION/` never has other content, so that browsers keep it, and the modules of one page
load, which name each other by relative paths, are of one version. Files are found by their name in
a table; no path of a request reaches the file system.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
PREFIX = "/page/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""The types of what is served, by the end of the name; other files are not."""
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


def load(folder: Path = FOLDER) -> Files:
    """Read and compress the files of a folder. Raises OSError."""
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
    addressed = f'"{PREFIX}{version}/'.encode()
    index = File(".html", found[INDEX].content.replace(f'"{PREFIX}'.encode(), addressed))
    for file in (index, *found.values()):
        _ = file.compressed  # made here, as this is done outside the event loop
    return Files(version, index, found)
