"""An MCP server of the tests, over stdio or with `http PORT` over HTTP; the SDK's own server."""

import asyncio
import os
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ImageContent, ToolAnnotations

server = MCPServer("of the tests", log_level="ERROR")
READS = ToolAnnotations(read_only_hint=True)


@server.tool(annotations=READS)
def echo(text: str) -> str:
    """Say the text again."""
    return text


@server.tool()
def pid() -> str:
    return str(os.getpid())


@server.tool(annotations=READS)
def variables() -> str:
    """The names of the environment's variables."""
    return " ".join(sorted(os.environ))


@server.tool()
def refuse(why: str) -> str:
    raise ToolError(why)


@server.tool()
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


@server.tool()
def die() -> str:
    print("the disk is full", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
def picture() -> ImageContent:
    return ImageContent(data="AAAA", mime_type="image/png")


@server.tool(name="odd name/..")
def odd() -> str:
    return "never"


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
