"""The toolbox: the tools that the settings allow, and one call of one.

Owns the list of tools and the folders that they work in. Promises that a call is refused or made
the same way for a model and for a client, and that what goes wrong within a tool is a
result and never an exception.
"""

import asyncio
import contextlib
import difflib
import hashlib
import re
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from asyncsvc.config.settings import Tools
from asyncsvc.errors import InvalidRequest, NotFound
from asyncsvc.tools.execute import ExecCommand, ExecPython, Git, Runner
from asyncsvc.tools.fetch import FetchUrl
from asyncsvc.tools.files import FILE_TOOLS
from asyncsvc.tools.mcp_servers import McpServers
from asyncsvc.tools.memory import MemorySearch, MemoryWrite
from asyncsvc.tools.tool import Parameters, Result, Surroundings, Tool, ToolFault
from asyncsvc.tools.workspace import Workspace

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KINDS: tuple[type[Tool[Any]], ...] = (
    *FILE_TOOLS, ExecCommand, ExecPython, Git, FetchUrl, MemorySearch, MemoryWrite,
)  # fmt: skip
OUR_TOOLS = tuple(kind.name for kind in _KINDS)
"""The names of all tools but those of MCP servers, whether the settings allow them or not."""


def warnings(settings: Tools) -> list[str]:
    """One line for each name in `tools.approve` that no tool can have; what an MCP server of the
    settings lists is not known before it runs."""
    lines = []
    for name in settings.approve:
        server, dot, _ = name.partition(".")
        if name in OUR_TOOLS or (dot and server in settings.mcp):
            continue
        near = difflib.get_close_matches(name, OUR_TOOLS, 1)
        remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(OUR_TOOLS)}"
        if dot:
            remedy = f"there is no MCP server {server[:40]!r} in [tools.mcp]"
        lines.append(f"tools.approve names {name[:80]!r}, which no tool is called: {remedy}")
    return lines


class Workspaces:
    """Folders below `root`, each of one owner."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def use(self, owner: str | None, name: str | None) -> AsyncGenerator[Workspace]:
        """The workspace of that name, which stays, or one without a name, which goes at the end.
        Raises InvalidRequest."""
        wanted = None if name is None else self.folder(owner, name)
        found = await asyncio.to_thread(self._opened, wanted)
        try:
            yield found
        finally:
            await asyncio.to_thread(found.remove if name is None else found.close)

    def _opened(self, folder: Path | None) -> Workspace:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder is None:
            return Workspace(Path(tempfile.mkdtemp(prefix="call-", dir=self._root)))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Workspace(folder)

    def folder(self, owner: str | None, name: str) -> Path:
        """Raises InvalidRequest for a name that is none."""
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                "workspace: 1 to 64 letters, digits and . _ -, the first a letter or a digit",
                param="workspace",
            )
        return self._root / "named" / hashlib.sha256((owner or "").encode()).hexdigest()[:32] / name


class Toolbox:
    """The tools by name."""

    def __init__(
        self,
        tools: Iterable[Tool[Any]],
        workspaces: Workspaces,
        runner: Runner | None = None,
        servers: McpServers | None = None,
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.workspaces = workspaces
        self.runner = runner
        """Runs the programs of tools; None where no tool runs any."""
        self._servers = servers or McpServers({})

    def begin(self) -> None:
        """Try the sandbox and start the MCP servers in the background, so that the first call
        need not wait for them."""
        if self.runner is not None and self._tools:
            self.runner.begin()
        self._servers.begin()

    async def close(self) -> None:
        """Stop the MCP servers, and trying the sandbox; end what tools hold."""
        for tool in self._tools.values():
            await tool.close()
        await self._servers.close()
        if self.runner is not None:
            await self.runner.close()

    @property
    def names(self) -> list[str]:
        return [tool.name for tool in self.tools]

    @property
    def tools(self) -> list[Tool[Any]]:
        """All tools, those of MCP servers as far as they are known by now."""
        return [*self._tools.values(), *self._servers.tools()]

    def listed(self, approve: Iterable[str]) -> list[dict[str, Any]]:
        """The tools as `GET /tools` shows them; those in `approve` wait for an approval."""
        waiting = set(approve)
        return [
            {
                "type": "function",
                "function": tool.function(),
                "reads_only": tool.reads_only,
                "approval": tool.name in waiting,
            }
            for tool in self.tools
        ]

    async def find(self, name: str) -> Tool[Any]:
        """The tool of that name; for one of an MCP server that is starting it waits. Raises
        NotFound."""
        return await self._servers.find(name) or self.tool(name)

    async def known(self, name: str) -> bool:
        """Whether there is such a tool; for one of an MCP server that is starting it waits."""
        try:
            await self.find(name)
        except NotFound:
            return False
        return True

    def tool(self, name: str) -> Tool[Any]:
        """The tool of that name, of those that are listed. Raises NotFound."""
        tool = next((one for one in self.tools if one.name == name), None)
        if tool is None:
            known = ", ".join(self.names) or "none"
            raise NotFound(f"there is no tool {name[:80]!r}; tools: {known}", param="name")
        return tool

    def given(self, tool: Tool[Any], values: Mapping[str, Any]) -> Parameters:
        """The parameters of a call. Raises InvalidRequest."""
        try:
            found: Parameters = tool.check(values)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in fault["loc"])
            text = fault["msg"].removeprefix("Value error, ")
            raise InvalidRequest(f"{name}: {text[:1].lower()}{text[1:]}", param=name) from None
        return found

    async def run(self, tool: Tool[Any], given: Parameters, around: Surroundings) -> Result:
        """The outcome of a call; a fault of the tool is one that is not `ok`. Raises
        SandboxUnavailable."""
        try:
            return await tool.run(given, around)
        except ToolFault as fault:
            return Result(False, str(fault), exit_code=1)


@contextlib.contextmanager
def timed() -> Generator[list[float]]:
    """The seconds that the block takes, in a list that is empty until then."""
    seconds: list[float] = []
    began = perf_counter()
    try:
        yield seconds
    finally:
        seconds.append(round(perf_counter() - began, 3))
