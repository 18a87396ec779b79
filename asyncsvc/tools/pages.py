"""Pages of the web as text for a model: bytes to characters, HTML to lines.

Promises time that grows with the length alone, whatever the page holds: `html.parser` takes minutes
for 100 KB of `<a <a <a` in some releases of Python. Scripts, styles and drawings are left out,
links keep their addresses. Nothing of a page is obeyed, no charset is used but those of pages.
"""

import codecs
import html
import re
from collections.abc import Iterator

from yarl import URL

LINK_MOST = 500
ATTRIBUTES_MOST = 4096
"""Characters of a tag's attributes that are looked into."""
META_BYTES = 1024
"""Where a page names its charset, as browsers look for it."""
_CHARSETS = re.compile(
    r"(?:utf-(?:8|16|16-le|16-be)|ascii|cp\d+|iso8859-\d+|koi8-[rtu]|mac-\w+|tis-620"
    r"|gb2312|gbk|gb18030|hz|big5\w*|euc_\w+|shift_jis\w*|iso2022_\w+|johab)\Z"
)
_AS_BROWSERS = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_META = re.compile(rb"<meta[^>]{1,200}?charset\s{0,9}=[\s\"']{0,9}([A-Za-z0-9_:.-]{1,40})", re.I)
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)])

_TAG = re.compile(r"<(?:!--|(/?)([A-Za-z][A-Za-z0-9-]{0,30})|[!?/])")
_QUOTED_OR_END = re.compile(r"=[ \t\r\n\f]*([\"'])|>")
_HREF = re.compile(r"(?i:\bhref)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_SPACES = re.compile(r"[ \t\r\n\f]+")
_NUMBER = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9A-Fa-f]{7,});?")
_LEFT_OUT = frozenset({"script", "style", "template", "svg", "math", "noframes", "iframe"})
_VERBATIM = frozenset({"title", "textarea"})
"""Elements without tags in them."""
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "dd", "details", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5",
    "h6", "header", "hr", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary",
    "table", "title", "tr", "ul",
})  # fmt: skip
_APART = frozenset({"p", "pre", "table", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "title"})
"""Blocks with an empty line around them."""
_BEFORE = {"li": "- ", "td": "\t", "th": "\t"} | {f"h{n}": "#" * n + " " for n in range(1, 7)}


def decoded(data: bytes, charset: str | None, is_html: bool) -> str:
    """The characters of a page, by its byte order mark, its header, its own word, else UTF-8;
    control characters are left out."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return cleaned(data[len(mark) :].decode(name, "replace"))
    if charset is None and is_html and (found := _META.search(data[:META_BYTES])):
        charset = found[1].decode("ascii")
        charset = "utf-8" if charset.lower().startswith("utf-16") else charset
    return cleaned(data.decode(_codec(charset), "replace"))


def cleaned(text: str) -> str:
    """The text without control characters but newlines and tabs."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS)


def _codec(charset: str | None) -> str:
    """Python's name of a charset; UTF-8 for what no page is written in, such as rot13 or zlib."""
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        return "utf-8"
    name = _AS_BROWSERS.get(name, name)
    return name if _CHARSETS.match(name) else "utf-8"


def readable(page: str, address: URL, most: int) -> str:
    """The text of an HTML page, until it has so many characters. `address` is that of the page."""
    lines = _Lines()
    link = ""
    for kind, closing, attributes in _tokens(page):
        if lines.length > most:
            break  # a short tag can give a long link
        if kind == "":
            lines.text(attributes)
            continue
        if kind == "a":
            if link:
                lines.text(f"]({link})", raw=True)
            link = "" if closing else _link(attributes, address)
            if link:
                lines.text("[", raw=True)
        if kind in _BLOCKS:
            lines.end(2 if kind in _APART else 1)
        if kind == "pre":
            lines.verbatim = not closing
        if not closing and kind in _BEFORE:
            lines.text(_BEFORE[kind], raw=True)
    return lines.joined()


class _Lines:
    """Text that is put together with the spaces and empty lines of a page for people."""

    def __init__(self) -> None:
        self.verbatim = False
        self.length = 0
        self._parts: list[str] = []
        self._breaks = 0
        self._space = False

    def text(self, text: str, raw: bool = False) -> None:
        if not raw:
            text = html.unescape(_NUMBER.sub("\ufffd", text))
        if not raw and not self.verbatim:
            text = _SPACES.sub(" ", text)
            if self._space or self._breaks or not self._parts:
                text = text.removeprefix(" ")
        if not text:
            return
        if self._breaks and self._parts:
            self._parts.append("\n" * self._breaks)
        self._breaks = 0
        self._parts.append(text)
        self.length += len(text)
        self._space = text.endswith((" ", "\t", "\n"))

    def end(self, breaks: int) -> None:
        """End the line, with empty lines after it."""
        self._breaks = max(self._breaks, breaks)

    def joined(self) -> str:
        text = "".join(self._parts)
        return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _tokens(page: str) -> Iterator[tuple[str, bool, str]]:
    """(name, whether it closes, attributes) of each tag, ("", False, text) of what is between. Each
    search begins where the one before ended, and one that finds nothing ends the page."""
    at = 0
    while (tag := _TAG.search(page, at)) is not None:
        if tag.start() > at:
            yield "", False, page[at : tag.start()]
        name, closing = (tag[2] or "").lower(), bool(tag[1])
        if not name:
            end, length = (page.find("-->", tag.start() + 2), 3) if tag[0] == "<!--" else (
                page.find(">", tag.end()), 1)  # fmt: skip
            at = end + length
        else:
            end = _end(page, tag.end())
            at = end + 1
        if end < 0:
            return
        if not name:
            continue
        yield name, closing, page[tag.end() : min(end, tag.end() + ATTRIBUTES_MOST)]
        if not closing and name in _LEFT_OUT | _VERBATIM:
            close = re.compile(f"</{name}(?![A-Za-z0-9-])", re.IGNORECASE).search(page, at)
            if name in _VERBATIM:
                yield "", False, page[at : close.start() if close else len(page)]
            if close is None:
                return
            at = close.start()
    yield "", False, page[at:]


def _end(page: str, at: int) -> int:
    """Where a tag ends; -1: nowhere."""
    while (found := _QUOTED_OR_END.search(page, at)) is not None:
        if found[1] is None:
            return found.start()
        if (close := page.find(found[1], found.end())) < 0:
            break
        at = close + 1
    return -1


def _link(attributes: str, address: URL) -> str:
    """The address that a link leads to; "" where a model could not call it."""
    found = _HREF.search(attributes)
    if found is None:
        return ""
    target = html.unescape(_NUMBER.sub("\ufffd", next(filter(None, found.groups()), ""))).strip()
    if not target or target.startswith("#"):
        return ""
    try:
        joined = address.join(URL(target))
    except (ValueError, UnicodeError):
        return ""
    text = str(joined)
    return text if joined.scheme in ("http", "https") and len(text) <= LINK_MOST else ""
