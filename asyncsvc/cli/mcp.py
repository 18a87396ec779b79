"""`mcp`: the operations of a running service as an MCP server over stdio.

Needs the extra `mcp`, which is imported when the command runs.
"""

from asyncsvc.cli.arguments import Commands
from asyncsvc.cli.options import MISUSED, THERE, Failure, Url

app = Commands()


@app.command(group=THERE)
def mcp(url: Url = None) -> int:
    """Offer submit, wait, cancel and more to an MCP client, over stdin and stdout."""
    try:
        from asyncsvc.cli.mcp_operations import serve
    except ModuleNotFoundError:
        raise Failure(
            "the package mcp is not installed; do: pip install 'asyncsvc[mcp]'", MISUSED
        ) from None
    serve(url)
    return 0
