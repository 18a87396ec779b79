"""The HTTP routes of tools: which there are, and one call of one.

A tool that fails is a result with `ok` false; only a wrong call is refused. A call works in a
workspace of its own that goes with it, or in a named one of the caller that stays.
"""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.tools.registry import timed
from asyncsvc.tools.tool import Surroundings
from asyncsvc.web.http import body
from asyncsvc.web.http.errors import JSON, check_query
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.http.streaming import unless_left
from asyncsvc.web.tasks.schemas import Object

HUNG_UP = 499
"""For the log alone: the client hung up before the answer."""


class Function(TypedDict):
    name: str
    description: str
    parameters: Annotated[Object, Field(description="a JSON Schema")]


class ListedTool(TypedDict):
    """A tool, as OpenAI describes one, and what its calls need."""

    type: str
    function: Function
    reads_only: Annotated[bool, Field(description="it changes nothing")]
    approval: Annotated[bool, Field(description="in an agent task it waits for an approval")]


class ListedTools(TypedDict):
    tools: list[ListedTool]


class ToolQuery(TypedDict, total=False):
    workspace: Annotated[
        str,
        Field(
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            description="a workspace that stays for the caller's next calls",
        ),
    ]


class ToolResult(TypedDict):
    """The outcome of a call."""

    ok: bool
    output: str
    exit_code: int
    truncated: Annotated[bool, Field(description="some output was left out")]
    duration_s: float


@operation(scope=Permission.READ, answer=ListedTools)
async def tools(request: Request) -> Response:
    """GET /tools: the tools that agent tasks may use, and their parameters."""
    parts = services(request)
    return JSON({"tools": parts.toolbox.listed(parts.settings.tools.approve)})


@operation(
    scope=Permission.SUBMIT,
    answer=ToolResult,
    body=Object,
    query=ToolQuery,
    errors=("not_found", "sandbox_unavailable"),
    example={"path": "."},
)
async def call(request: Request) -> Response:
    """POST /tools/{tool}: one call of a tool, under the same rules as an agent's.

    The body holds its parameters. A client that hangs up ends the call.
    """
    parts, query = services(request), request.query_params
    check_query(query, ToolQuery.__annotations__, "parameter of a call")
    tool = await parts.toolbox.find(request.path_params["tool"])
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        given = parts.toolbox.given(tool, await aside(body.as_object, data))
    owner, most = caller(request).owner, parts.settings.tools.max_output_bytes
    async with parts.toolbox.workspaces.use(owner, query.get("workspace")) as workspace:
        with timed() as took:
            around = Surroundings(workspace, owner, most, lambda _: None)
            running = parts.toolbox.run(tool, given, around)
            result = await unless_left(request.receive, running)
    if result is None:
        return Response(status_code=HUNG_UP)
    return JSON(result.as_dict() | {"duration_s": took[0]})


ROUTES = [resource("/tools", GET=tools), resource("/tools/{tool}", POST=call)]
