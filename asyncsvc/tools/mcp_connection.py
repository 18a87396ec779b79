"""A connection to an MCP server by the official SDK, over stdio or HTTP.

This is the only module of the service that imports the SDK, which is optional: it is imported
when the first server is connected to. Promises that a program of the settings gets no variable of
ours but those that its settings name.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TextIO

import anyio
import httpx2
import orjson
from mcp import Client, MCPError, StdioServerParameters, types
from mcp.client import IncomingMessage
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from asyncsvc.config.settings import McpServer
from asyncsvc.tools.tool import Listed

STDERR_KEPT = 2000
"""Bytes of a program's last words on stderr, for the message of its failure."""
STDERR_S = 0.5
"""How long its last words are waited for, once it has gone."""
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
        self.client: Client | None = None
        self._news = asyncio.Event()
        self._over_http = over_http

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
            raise Failed("its connection was lost")

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

    async def call(self, name: str, values: dict[str, Any]) -> tuple[bool, str]:
        """Whether a call did what it should, and its output. Raises Failed."""
        assert self.client is not None
        try:
            result = await self.client.call_tool(name, values)
        except MCPError as error:
            if self._over_http and error.code not in OF_THE_CALL:
                self.gone.set()
            raise Failed(error.message) from None
        except Exception as error:
            self.gone.set()
            raise Failed(_cause(error)) from None
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
        else _stdio(settings, environ, session.gone, words.stream)
    )
    try:
        async with Client(transport, message_handler=session.receive, cache=None) as client:
            session.client = client
            yield session
    except Exception as error:  # a foreign program may fail in any way
        last = "" if words is None else await words.line()
        raise Failed(_cause(error) + (f" (its last words: {last})" if last else "")) from None
    finally:
        if words is not None:
            words.stream.close()


@asynccontextmanager
async def _http(settings: McpServer, environ: Mapping[str, str]) -> AsyncGenerator[Any]:
    token = environ.get(settings.token_env or "", "").strip()
    timeout = httpx2.Timeout(HTTP_S, read=HTTP_READ_S)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
        streamable_http_client(settings.url, http_client=http) as streams,
    ):
        yield streams


@asynccontextmanager
async def _stdio(
    settings: McpServer, environ: Mapping[str, str], gone: asyncio.Event, errlog: TextIO
) -> AsyncGenerator[Any]:
    """The streams of a program. The SDK gives it PATH, HOME and a few more of our variables, and
    ends it with all its children. Raises Failed."""
    given = {name: environ[name] for name in settings.pass_envs if name in environ}
    program, *rest = settings.command
    parameters = StdioServerParameters(command=program, args=rest, env=given)
    sender, receiver = anyio.create_memory_object_stream[Any](0)

    async def pump() -> None:
        """Pass messages on; their end is the end of the program, of which no call might tell."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with sender:
                async for message in read:
                    await sender.send(message)
        gone.set()

    async with AsyncExitStack() as stack:
        stack.callback(receiver.close)
        stack.callback(sender.close)
        try:
            read, write = await stack.enter_async_context(stdio_client(parameters, errlog))
        except (OSError, ValueError) as error:
            raise Failed(f"{program} cannot be started: {error}") from None
        errlog.close()
        group = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(group.cancel_scope.cancel)
        group.start_soon(pump)
        yield receiver, write


def _cause(error: BaseException) -> str:
    """The first cause of a failure, of which task groups make groups of failures."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _listed(tool: types.Tool) -> Listed:
    hints = tool.annotations
    reads_only = bool(hints and hints.read_only_hint)
    return Listed(tool.name, tool.description or "", tool.input_schema, reads_only)


def _text(block: types.ContentBlock) -> str:
    """A part of a result as text; of a picture or a sound its kind and size."""
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.EmbeddedResource):
        if isinstance(block.resource, types.TextResourceContents):
            return block.resource.text
        return f"[{block.resource.uri}, {len(block.resource.blob) * 3 // 4} bytes]"
    if isinstance(block, types.ResourceLink):
        return f"[{block.uri}]"
    return f"[{block.mime_type}, {len(block.data) * 3 // 4} bytes]"
