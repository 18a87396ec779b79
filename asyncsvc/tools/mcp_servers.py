"""MCP servers as a source of tools: started in the background, started again when they die.

Owns one connection to each server of `[tools.mcp.NAME]`, and the tools that it has listed, as
NAME.tool. Promises that neither a start of the service nor the list of tools waits for a server,
that a call is sent at most once, and that a server's failure is a `ToolFault`. What a server lists
is bounded, and left out where it is unusable.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from asyncsvc.config.secrets import redacted
from asyncsvc.config.settings import McpServer
from asyncsvc.errors import InvalidRequest
from asyncsvc.tools.files import cut
from asyncsvc.tools.tool import (
    Effects,
    Listed,
    Parameters,
    Result,
    Surroundings,
    Tool,
    ToolFault,
)

if TYPE_CHECKING:
    from asyncsvc.tools.mcp_connection import Session

log = logging.getLogger(__name__)

START_S = 60.0
"""From the start of a server to its list; `npx` and `uvx` may fetch a program first."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 60.0
STEADY_S = 60.0
"""A server that has lived so long is started again after the first pause."""
LIST_PAUSE_S = 1.0
TOOLS_MOST = 200
SCHEMA_MOST = 32_768
DESCRIPTION_MOST = 4096
FAULT_MOST = 500
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MISSING = "the package mcp is not installed: pip install 'asyncsvc[mcp]'"


class McpParameters(Parameters):
    """The parameters of a call, which the server itself checks against its schema."""

    values: dict[str, Any]


class McpTool(Tool[McpParameters]):
    """A tool of an MCP server. What it does stays nowhere that could be put back."""

    effects = Effects.OUTSIDE
    parameters = McpParameters

    def __init__(self, connection: "Connection", listed: Listed) -> None:
        self.name = f"{connection.name}.{listed.name}"
        self.description = cut(listed.description, DESCRIPTION_MOST)[0]
        self._connection = connection
        self._listed = listed

    @property
    def reads_only(self) -> bool:
        return self._listed.reads_only

    def check(self, values: Mapping[str, Any]) -> McpParameters:
        """Refuse what is missing or unknown; types are left to the server, because patterns of a
        foreign schema could stop the event loop."""
        schema = self._listed.schema
        required = schema.get("required")
        for name in required if isinstance(required, list) else ():
            if isinstance(name, str) and name not in values:
                raise InvalidRequest(f"{name}: field required", param=name)
        known = schema.get("properties")
        if schema.get("additionalProperties") is False and "patternProperties" not in schema:
            for name in values:
                if not isinstance(known, dict) or name not in known:
                    raise InvalidRequest(f"{name[:80]}: there is no such parameter", param=name)
        return McpParameters(values=dict(values))

    async def run(self, given: McpParameters, around: Surroundings) -> Result:
        room = around.max_output_bytes

        def progress(message: str) -> None:
            nonlocal room
            shown = cut(message, room)[0]
            room -= len(shown.encode())
            if shown:
                around.emit(f"{shown}\n")

        return await self._connection.call(
            self._listed.name, given.values, around.max_output_bytes, progress
        )

    def function(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self._listed.schema,
        }


class Connection:
    """The connection to one server, which `run` keeps up."""

    def __init__(
        self, name: str, settings: McpServer, environ: Mapping[str, str], timeout_s: float
    ) -> None:
        self.name = name
        self.tools: dict[str, McpTool] = {}
        """By their name on the server; the last list is kept while the server is away."""
        self._settings = settings
        self._environ = environ
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._fault: str | None = None
        self._tried = asyncio.Event()
        self._left_out: dict[str, str] = {}

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost, until it is cancelled."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            began = loop.time()
            try:
                await self._stay_connected()
            except ModuleNotFoundError:
                self._failed(MISSING)
                log.warning("MCP server %s: %s", self.name, MISSING)
                return
            except Exception as error:  # a foreign program may fail in any way
                fault = _text(error)
            finally:
                self._session = None
            if loop.time() - began > STEADY_S:
                pause = FIRST_PAUSE_S
            self._failed(f"{fault}; it is started again")
            text = "MCP server %s: %s; it is started again in %g s"
            log.warning(text, self.name, fault, pause, extra={"server": self.name})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_S)

    async def _stay_connected(self) -> NoReturn:
        """Raises what ends the connection."""
        # The SDK takes half a second to import, in which the event loop must go on.
        sdk = await asyncio.to_thread(import_module, "asyncsvc.tools.mcp_connection")
        async with (
            asyncio.timeout(START_S) as limit,
            sdk.connected(self._settings, self._environ) as session,
        ):
            while True:
                self._take(await session.tools(TOOLS_MOST))
                limit.reschedule(None)
                self._session, self._fault = session, None
                self._tried.set()
                await session.changed()
                # A server that says so all the time is not asked all the time.
                await asyncio.sleep(LIST_PAUSE_S)
                limit.reschedule(asyncio.get_running_loop().time() + START_S)

    def _failed(self, fault: str) -> None:
        self._fault = fault
        self._tried.set()

    def _take(self, listed: list[Listed]) -> None:
        """Keep the tools that can be called and are described within bounds."""
        faults = {}
        self.tools = {}
        for one in listed:
            if (fault := _fault(one)) is not None:
                faults[one.name] = fault
            else:
                self.tools[one.name] = McpTool(self, one)
        log.info("MCP server %s: %d tools", self.name, len(self.tools))
        if faults and faults != self._left_out:
            name, fault = next(iter(faults.items()))
            text = "MCP server %s: %d tools are left out; the first, %.80r, for %s"
            log.warning(text, self.name, len(faults), name, fault)
        self._left_out = faults

    async def find(self, name: str) -> McpTool | None:
        """The tool of that name. None: the server has no such tool; where it cannot be asked, a
        tool that says why."""
        if name not in self.tools and not self._tried.is_set():
            try:
                await asyncio.wait_for(self._tried.wait(), self._timeout_s)
            except TimeoutError:
                self._fault = self._fault or "it is still starting"
        if name not in self.tools and self._fault is not None and TOOL_NAME.fullmatch(name):
            return McpTool(self, Listed(name, "", {"type": "object"}, False))
        return self.tools.get(name)

    async def call(
        self, name: str, values: dict[str, Any], most: int, progress: Callable[[str], None]
    ) -> Result:
        """The outcome of one call, with at most so many bytes of output. Raises ToolFault."""
        session = self._session
        if session is None:
            raise ToolFault(f"MCP server {self.name}: {self._fault or 'it is still starting'}")
        try:
            async with asyncio.timeout(self._timeout_s):
                ok, text = await session.call(name, values, progress)
        except TimeoutError:
            raise ToolFault(
                f"MCP server {self.name}: no answer within {self._timeout_s:g} s"
            ) from None
        except Exception as error:
            raise ToolFault(f"MCP server {self.name}: {_text(error)}") from None
        shown, truncated = cut(text, most)
        return Result(ok, shown, exit_code=0 if ok else 1, truncated=truncated)


class McpServers:
    """The servers of the settings by name."""

    def __init__(
        self,
        settings: Mapping[str, McpServer],
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._connections = {
            name: Connection(name, one, environ or {}, timeout_s) for name, one in settings.items()
        }
        self._running: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start the servers in the background."""
        if not self._running:
            self._running = [
                asyncio.create_task(one.run(), name=f"MCP server {name}")
                for name, one in self._connections.items()
            ]

    async def close(self) -> None:
        """End the servers: their stdin is closed, and what has not ended then is killed."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def tools(self) -> list[McpTool]:
        """The tools that the servers have listed so far."""
        return [tool for one in self._connections.values() for tool in one.tools.values()]

    async def find(self, name: str) -> McpTool | None:
        """The tool NAME.tool of a server. None where there is none."""
        server, _, tool = name.partition(".")
        connection = self._connections.get(server)
        if connection is None:
            return None
        self.begin()
        return await connection.find(tool)


def _fault(listed: Listed) -> str | None:
    """Why a tool cannot be offered to a model; None where it can."""
    if not TOOL_NAME.fullmatch(listed.name):
        return "its name"
    try:
        large = len(orjson.dumps(listed.schema)) > SCHEMA_MOST
    except TypeError:  # too deep, or a number too large
        large = True
    return "the size of its schema" if large else None


def _text(error: BaseException) -> str:
    """What has failed, in one line without keys."""
    if isinstance(error, TimeoutError):
        return f"no answer within {START_S:g} s of its start"
    text = " ".join(redacted(str(error)).split()) or type(error).__name__
    return cut(text, FAULT_MOST)[0]
