"""A connection to an MCP server by the official SDK, over stdio or HTTP.

This module and `mcp_stdio` alone of the service import the SDK, which is optional: they are
imported when the first server is connected to. Promises that a program of the settings gets no
variable of ours but those that its settings name, that no redirect is followed, and that no message
of a server is larger than `LINE_MOST`.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TextIO

import httpx2
import orjson
from mcp import Client, MCPError, types
from mcp.client import IncomingMessage
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client

from asyncsvc.config.settings import McpServer
from asyncsvc.tools.mcp_stdio import LINE_MOST, program
from asyncsvc.tools.pages import cleaned
from asyncsvc.tools.tool import Listed

STDERR_KEPT = 2000
"""Bytes of a program's last words on stderr, for the message of its failure."""
STDERR_S = 0.5
"""How long its last words are waited for, once it has gone."""
LABEL_MOST = 500
HTTP_S, HTTP_READ_S = 30.0, 300.0
"""Timeouts of HTTP: the SDK's own, for a server may hold an answer open."""
OF_THE_CALL = (types.INVALID_PARAMS, types.METHOD_NOT_FOUND, types.INTERNAL_ERROR)
"""Errors that concern one call; others over HTTP mean that the session is gone."""


# What a server does wrong becomes one message, by what is raised; the SDK would log a traceback.
logging.getLogger("mcp").setLevel(logging.CRITICAL)
logging.getLogger("httpx2").setLevel(logging.WARNING)


class Failed(Exception):
    """A server that could not be connected to, or has answered a call with an error."""


class Session:
    """An open connection; `gone` is set when the server has left."""

    def __init__(self, over_http: bool) -> None:
        self.gone = asyncio.Event()
        self.reason = ""
        """Why it has left, where that is known."""
        self.client: Client | None = None
        self._news = asyncio.Event()
        self._over_http = over_http

    def lost(self, reason: str) -> None:
        """Note that the server has left."""
        self.reason = reason
        self.gone.set()

    async def receive(self, message: IncomingMessage) -> None:
        """Note that the list of tools has changed; nothing else is asked for."""
        if isinstance(message, types.ToolListChangedNotification):
            self._news.set()

    async def changed(self) -> None:
        """Wait until the list of tools has changed. Raises Failed where the server has left."""
        waits = [asyncio.create_task(one.wait()) for one in (self.gone, self._news)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._news.clear()
        if self.gone.is_set():
            raise Failed(self.reason or "its connection was lost")

    async def tools(self, most: int) -> list[Listed]:
        """The tools of the server, at most so many."""
        assert self.client is not None
        found: list[Listed] = []
        cursor: str | None = None
        for _ in range(most):  # a page may be empty, but not for ever
            page = await self.client.list_tools(cursor=cursor)
            found += map(_listed, page.tools)
            cursor = page.next_cursor
            if cursor is None or len(found) >= most:
                break
        return found[:most]

    async def call(
        self, name: str, values: dict[str, Any], emit: Callable[[str], None]
    ) -> tuple[bool, str]:
        """Whether a call did what it should, and its output; `emit` takes what the server
        tells on the way. Raises Failed."""
        assert self.client is not None

        async def take(progress: float, total: float | None, message: str | None) -> None:
            if message:
                emit(message)

        try:
            result = await self.client.call_tool(name, values, progress_callback=take)
        except MCPError as error:
            if self._over_http and error.code not in OF_THE_CALL:
                self.gone.set()
            raise Failed(self.reason or error.message) from None
        except Exception as error:
            self.gone.set()
            raise Failed(self.reason or _cause(error)) from None
        text = "\n".join(map(_text, result.content))
        if not result.content and result.structured_content is not None:
            text = orjson.dumps(result.structured_content).decode()
        return not result.is_error, text


class _LastWords:
    """What a program writes to stderr, read by a thread so that it never waits; the end is kept."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.stream = os.fdopen(writing, "w", encoding="utf-8")
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._thread.start()

    def _read(self, reading: int) -> None:
        with open(reading, "rb", buffering=0) as stream:
            while part := stream.read(65536):
                self._kept = (self._kept + part)[-STDERR_KEPT:]

    async def line(self) -> str:
        """The last line that is not empty; "" where there is none."""
        await asyncio.to_thread(self._thread.join, STDERR_S)
        lines = self._kept.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@asynccontextmanager
async def connected(settings: McpServer, environ: Mapping[str, str]) -> AsyncGenerator[Session]:
    """An open session with the server of the settings. Raises Failed, also from within the block,
    for a server that cannot be started, leaves or breaks the protocol."""
    session = Session(bool(settings.url))
    words = None if settings.url else _LastWords()
    transport = (
        _http(settings, environ)
        if words is None
        else _stdio(settings, environ, words.stream, session.lost)
    )
    try:
        async with Client(transport, message_handler=session.receive, cache=None) as client:
            session.client = client
            yield session
    except Exception as error:  # a foreign program may fail in any way
        last = "" if words is None else await words.line()
        reason = session.reason or _cause(error)
        raise Failed(reason + (f" (its last words: {last})" if last else "")) from None
    finally:
        if words is not None:
            words.stream.close()


@asynccontextmanager
async def _stdio(
    settings: McpServer, environ: Mapping[str, str], errlog: TextIO, lost: Callable[[str], None]
) -> AsyncGenerator[Any]:
    """The streams of a program, which gets PATH, HOME and a few more of our variables. Raises
    Failed."""
    given = {name: environ[name] for name in settings.pass_envs if name in environ}
    async with AsyncExitStack() as stack:
        try:
            streams = await stack.enter_async_context(
                program(settings.command, get_default_environment() | given, errlog, lost)
            )
        except (OSError, ValueError) as error:
            raise Failed(f"{settings.command[0]} cannot be started: {error}") from None
        errlog.close()
        yield streams


@asynccontextmanager
async def _http(settings: McpServer, environ: Mapping[str, str]) -> AsyncGenerator[Any]:
    token = environ.get(settings.token_env or "", "").strip()
    timeout = httpx2.Timeout(HTTP_S, read=HTTP_READ_S)
    headers = {"Accept-Encoding": "identity"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    hooks = {"response": [_bound]}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks=hooks) as http,
        streamable_http_client(settings.url, http_client=http) as streams,
    ):
        yield streams


async def _bound(response: httpx2.Response) -> None:
    """Have the body of an answer read within bounds. Raises DecodingError for a packed one, which
    was not asked for."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx2.DecodingError("the answer is packed", request=response.request)
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    events = response.headers.get("content-type", "").startswith("text/event-stream")
    response.stream = _Bounded(stream, events)


class _Bounded(httpx2.AsyncByteStream):
    """A body of at most `LINE_MOST` bytes, or of events of which each has no more."""

    def __init__(self, stream: httpx2.AsyncByteStream, events: bool) -> None:
        self._stream = stream
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for part in self._stream:
            end = max(part.rfind(b"\n\n"), part.rfind(b"\r\n\r\n")) if self._events else -1
            length = len(part) - end if end >= 0 else length + len(part)
            if length > LINE_MOST:
                raise httpx2.ReadError(f"an answer has more than {LINE_MOST >> 20} MB")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _cause(error: BaseException) -> str:
    """The first cause of a failure, of which task groups make groups of failures."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _listed(tool: types.Tool) -> Listed:
    hints = tool.annotations
    reads_only = bool(hints and hints.read_only_hint)
    return Listed(tool.name, cleaned(tool.description or ""), tool.input_schema, reads_only)


def _text(block: types.ContentBlock) -> str:
    """A part of a result as text; of a picture or a sound its kind and size."""
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.EmbeddedResource):
        if isinstance(block.resource, types.TextResourceContents):
            return block.resource.text
        return _described(str(block.resource.uri), block.resource.blob)
    if isinstance(block, types.ResourceLink):
        return f"[{_label(str(block.uri))}]"
    return _described(block.mime_type, block.data)


def _described(label: str, data: str) -> str:
    return f"[{_label(label)}, {len(data) * 3 // 4} bytes]"


def _label(text: str) -> str:
    return " ".join(cleaned(text[:LABEL_MOST]).split())
