"""`tool` and `exec`: one call of a tool, under the same rules as an agent's.

A running service is asked first; without one the call is made here, in the workspace of the
settings or in one that goes with it.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import Unreachable, reach
from asyncsvc.cli.options import (
    MISUSED,
    THERE,
    Failure,
    Json,
    Url,
    environment,
    print_json,
    settings_file,
)
from asyncsvc.config.load import load
from asyncsvc.config.settings import Settings
from asyncsvc.errors import RequestError
from asyncsvc.tools.execute import Runner, exec_tools
from asyncsvc.tools.fetch import fetch_tools
from asyncsvc.tools.files import FILE_TOOLS
from asyncsvc.tools.mcp_servers import McpServers
from asyncsvc.tools.registry import Toolbox, Workspaces, timed
from asyncsvc.tools.tool import Surroundings

app = Commands()

CALL_S = 3700.0
"""How long a tool may run at most, and a little."""
Workspace = Annotated[
    str | None, Option(metavar="NAME", help="A workspace that stays for the next calls.")
]


@app.command(group=THERE)
def tool(
    name: Annotated[str, Argument(metavar="NAME", help="A tool; `GET /tools` lists them.")],
    parameters: Annotated[str, Argument(metavar="JSON", help="Its parameters.")] = "{}",
    workspace: Workspace = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Call one tool, as an agent would; exit 0 where it could do what it was asked for."""
    try:
        given = json.loads(parameters)
    except ValueError as error:
        raise Failure(f"the parameters are not JSON: {error}", MISUSED) from None
    if not isinstance(given, dict):
        raise Failure("the parameters must be a JSON object", MISUSED)
    return _shown(_called(name, given, workspace, url), as_json)


@app.command("exec", group=THERE)
def execute(
    argv: Annotated[list[str], Argument(metavar="-- ARGV...", help="Program, arguments.")],
    workspace: Workspace = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Run a program in the sandbox of agents; exit with its exit code."""
    return _shown(_called("exec_command", {"argv": argv}, workspace, url), as_json)


def _called(
    name: str, given: dict[str, Any], workspace: str | None, url: str | None
) -> dict[str, Any]:
    """The outcome of a call, by a service that runs, else here."""
    try:
        with reach(url) as api:
            query = "" if workspace is None else f"?workspace={quote(workspace)}"
            return api.post(f"/tools/{quote(name)}{query}", given, CALL_S)
    except Unreachable:
        if url is not None:
            raise
    file = settings_file(None)
    environ = environment(file)
    settings = load(file, environ)
    try:
        return asyncio.run(_here(settings, environ, name, given, workspace))
    except RequestError as error:
        raise Failure(str(error), MISUSED if error.status in (404, 422) else 1) from None


async def _here(
    settings: Settings,
    environ: Mapping[str, str],
    name: str,
    given: dict[str, Any],
    workspace: str | None,
) -> dict[str, Any]:
    tools = settings.tools
    runner = Runner(tools)
    every = [
        *(kind() for kind in FILE_TOOLS),
        *exec_tools(runner, tools.exec_allow),
        *fetch_tools(tools),
    ]
    servers = McpServers(tools.mcp, environ, tools.timeout_s)
    toolbox = Toolbox(every, Workspaces(Path(tools.workspace)), runner, servers)
    try:
        found = await toolbox.find(name)
        parameters = toolbox.given(found, given)
        async with toolbox.workspaces.use(None, workspace) as folder:
            with timed() as took:
                around = Surroundings(folder, None, tools.max_output_bytes, lambda _: None)
                result = await toolbox.run(found, parameters, around)
    finally:
        await toolbox.close()
    return result.as_dict() | {"duration_s": took[0]}


def _shown(outcome: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json(outcome)
    else:
        sys.stdout.write(outcome["output"])
        if outcome["output"] and not outcome["output"].endswith("\n"):
            sys.stdout.write("\n")
    return 0 if outcome["ok"] else outcome["exit_code"] or 1
