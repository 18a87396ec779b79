"""The tool that reads a page of the web: fetch_url. Off until the settings name hosts.

Promises that no request leaves for a host, a port or an address that the settings do not allow,
also after a redirect or a change of what a name means; that nothing of ours goes along but the URL;
and bounds on the time, on the bytes that are read and on what comes out of their decompression.
"""

import asyncio
import socket
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from pydantic import Field
from yarl import URL

from asyncsvc import __version__
from asyncsvc.config.settings import Tools
from asyncsvc.net.allowed_hosts import AllowedHosts
from asyncsvc.net.egress import LONGEST, Refused
from asyncsvc.net.pinned import Lookup, Resolver, admitted, session
from asyncsvc.tools.files import cut
from asyncsvc.tools.pages import decoded, readable
from asyncsvc.tools.tool import Effects, Parameters, Result, Surroundings, Tool, ToolFault

REDIRECTS_MOST = 5
REDIRECTS = (301, 302, 303, 307, 308)
PAGE_MOST = 1 << 20
"""Bytes of an HTML page that are read; its text is far shorter."""
STEP_BYTES = 16 << 10
"""Compressed bytes that are given to zlib at once, between two turns of the event loop."""
FAULT_MOST = 300
HEADERS = {
    "Accept": "text/html, text/plain, application/json, */*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": f"asyncsvc/{__version__}",
}
HTML = ("text/html", "application/xhtml+xml")
TEXTS = ("application/json", "application/xml", "application/javascript", "application/x-ndjson",
         "application/yaml", "application/toml")  # fmt: skip


class FetchParameters(Parameters):
    url: str = Field(
        min_length=1, max_length=LONGEST, description="an address that begins with http or https"
    )


class FetchUrl(Tool[FetchParameters]):
    """A GET may act at the other end, so a call that was cut off is not made again by itself."""

    name = "fetch_url"
    effects = Effects.OUTSIDE
    parameters = FetchParameters

    def __init__(self, settings: Tools, lookup: Lookup | None = None) -> None:
        self._hosts = AllowedHosts(settings.fetch_allow, "tools.fetch_allow")
        self._timeout_s = settings.timeout_s
        self._resolver = None if lookup else Resolver("fetch-names")
        self._lookup = lookup or self._resolver
        shown = cut(", ".join(settings.fetch_allow), 1000)[0]
        self.description = f"Read a page of the web as text. Hosts: {shown}"

    async def close(self) -> None:
        if self._resolver is not None:
            self._resolver.close()

    async def run(self, given: FetchParameters, around: Surroundings) -> Result:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(given.url, around.max_output_bytes)
        except TimeoutError:
            raise ToolFault(f"not read within {self._timeout_s:g} s") from None
        except Refused as refusal:
            raise ToolFault(f"refused: {refusal}") from None
        except socket.gaierror as error:
            raise ToolFault(f"its name cannot be resolved: {error.strerror or error}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # UnicodeError is a ValueError
            text = " ".join(str(error).split()) or type(error).__name__
            raise ToolFault(f"no answer: {cut(text, FAULT_MOST)[0]}") from None

    async def _follow(self, url: str, most: int) -> Result:
        """The page at the end of the redirects. Raises Refused and the errors of a connection."""
        for number in range(REDIRECTS_MOST + 1):
            found = await self._get(url, most, number)
            if isinstance(found, Result):
                return found
            url = found
        raise Refused(f"more than {REDIRECTS_MOST} redirects")

    async def _get(self, url: str, most: int, number: int) -> Result | str:
        """The page, or where a redirect leads."""
        assert self._lookup is not None
        try:
            target = self._hosts.target(url)
            addresses = await admitted(self._hosts.egress(target.port), target, self._lookup)
        except Refused as refusal:
            if number:
                raise Refused(f"{refusal} (redirect {number} leads there)") from None
            raise
        async with (
            session(addresses) as client,
            client.get(target.url, headers=HEADERS, allow_redirects=False) as response,
        ):
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location is not None:
                return _joined(target.url, location)
            return await _read(response, target.url, most)


def _joined(url: URL, location: str) -> str:
    """The URL of a redirect, as text, which is checked like the first one. Raises Refused."""
    try:
        return str(url.join(URL(location)).with_fragment(None))
    except (ValueError, UnicodeError):
        raise Refused("it redirects to what is not a URL") from None


async def _read(response: aiohttp.ClientResponse, url: URL, most: int) -> Result:
    """An answer as text: its status and URL, then what it holds."""
    # Without a type it is taken for text unless it looks otherwise.
    kind = response.content_type if "Content-Type" in response.headers else "text/plain"
    is_html = kind in HTML
    head = f"{response.status} {_phrase(response.status)}".rstrip() + f" {url}\n\n"
    ok = response.status < 400
    body = _Body(response.headers.get("Content-Encoding", ""))
    if not _is_text(kind) or not body.known:
        return _result(ok, head + _left_out(response), most, False)
    await body.read(response.content, PAGE_MOST if is_html else most + 1)
    if b"\0" in body.data and not body.data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _result(ok, head + _left_out(response), most, False)
    text = decoded(body.data, response.charset, is_html)
    if is_html:
        text = await asyncio.to_thread(readable, text, url, most)
    return _result(ok, head + text, most, body.cut)


def _result(ok: bool, text: str, most: int, was_cut: bool) -> Result:
    shown, truncated = cut(text, most)
    return Result(ok, shown, exit_code=0 if ok else 1, truncated=truncated or was_cut)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in TEXTS or kind.endswith(("+json", "+xml"))


def _left_out(response: aiohttp.ClientResponse) -> str:
    """The line in place of a body that no model could read."""
    encoding = response.headers.get("Content-Encoding")
    kind = "".join(sign for sign in response.content_type[:100] if sign.isprintable())
    kind += f", packed as {encoding[:20]!r}" if encoding else ""
    length = response.content_length
    size = "of unknown size" if length is None else f"{length} bytes"
    return f"[{kind}, {size}: not text]"


@dataclass(slots=True)
class _Body:
    """The body of an answer, decompressed; `known` says whether its encoding is."""

    encoding: str
    data: bytes = b""
    cut: bool = False
    _engine: Any = None
    _members: int = 0
    _bits: int = zlib.MAX_WBITS | 32

    def __post_init__(self) -> None:
        self.encoding = self.encoding.strip().lower()

    @property
    def known(self) -> bool:
        return self.encoding in ("", "identity", "gzip", "x-gzip", "deflate")

    async def read(self, stream: aiohttp.StreamReader, most: int) -> None:
        """Read at most so many bytes, before and after decompression. Raises ValueError."""
        received, parts, length = 0, [], 0
        packed, head = self.encoding not in ("", "identity"), b""
        while part := head + await stream.read(STEP_BYTES):
            received += len(part) - len(head)
            if packed and len(part) < 2 and not head:
                head = part  # too short to see how it is packed
                continue
            head = b""
            parts.append(self._inflated(part, most - length) if packed else part)
            length += len(parts[-1])
            if length >= most or received >= most:
                self.cut = True
                break
            await asyncio.sleep(0)
        self.data = b"".join(parts)[:most]

    def _inflated(self, data: bytes, room: int) -> bytes:
        found = b""
        while data and len(found) < room:
            first = self._engine is None
            engine = self._engine = self._engine or zlib.decompressobj(self._bits)
            try:
                found += engine.decompress(data, room - len(found))
            except zlib.error as error:
                if self._members:
                    break  # what follows the end, such as padding
                if first and self._bits > 0 and self.encoding == "deflate":
                    self._engine, self._bits = None, -zlib.MAX_WBITS  # as some servers send it
                    continue
                raise ValueError(f"its body is not {self.encoding}: {error}") from None
            if not engine.eof:
                break
            data, self._engine, self._members = engine.unused_data, None, self._members + 1
        return found


def fetch_tools(settings: Tools) -> list[Tool[Any]]:
    """The tool, where the settings allow any host."""
    return [FetchUrl(settings)] if settings.fetch_allow else []
