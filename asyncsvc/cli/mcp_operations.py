"""The operations that `mcp` offers: one MCP tool each, made of calls of the public API.

Promises that stdout holds the protocol alone, that the service decides who may do what (by the
token in ASYNCSVC_TOKEN), and that a refusal of the service is the tool's error, with its message.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from asyncsvc import __version__
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.following import follow
from asyncsvc.cli.options import Failure, States
from asyncsvc.cli.transcript import TaskView, waiting

Answer = dict[str, Any]
T = TypeVar("T")
TaskId = Annotated[str, Field(min_length=1, description="a task's id, or the end of it")]
READS = ToolAnnotations(read_only_hint=True)
CANCELS = ToolAnnotations(destructive_hint=True, idempotent_hint=True)
SUBMITS = ToolAnnotations(destructive_hint=False)
INSTRUCTIONS = (
    "A queue of tasks for language models. submit gives a task to a model and answers at once with "
    "its task_id, or with the finished task if wait is true; wait, show and explain take that id."
)


def serve(url: str | None) -> None:
    """Serve until stdin ends. Raises Failure or SettingsError for an unusable address."""
    with reach(url) as api:
        server = MCPServer(
            "asyncsvc", version=__version__, instructions=INSTRUCTIONS, log_level="CRITICAL"
        )
        operations = Operations(api)
        server.tool(annotations=SUBMITS)(operations.submit)
        server.tool(annotations=READS)(operations.wait)
        server.tool(annotations=CANCELS)(operations.cancel)
        server.tool(name="list", annotations=READS)(operations.list_tasks)
        server.tool(annotations=READS)(operations.show)
        server.tool(annotations=READS)(operations.explain)
        server.tool(annotations=READS)(operations.models)
        server.run()


class Operations:
    """The tools; the docstring of each is the description that a model reads."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def submit(
        self,
        context: Context,
        content: Annotated[str, Field(min_length=1, description="the prompt")],
        model: Annotated[str | None, Field(description="a model's name; else routed")] = None,
        lane: Annotated[
            Literal["priority", "short", "long"], Field(description="which queue")
        ] = "short",
        priority: Annotated[int, Field(ge=0, le=9, description="higher first in its lane")] = 5,
        wait: Annotated[bool, Field(description="answer with the finished task")] = False,
        fields: Annotated[
            Answer | None, Field(description="further fields of POST /tasks, such as session_id")
        ] = None,
    ) -> Answer:
        """Submit a task. Cancelling a call that waits cancels its task."""
        given = {"content": content, "lane": lane, "priority": priority}
        given |= ({} if model is None else {"model": model}) | (fields or {})
        accepted = await _told(partial(self._api.post, "/tasks", given))
        if not wait:
            return accepted
        task_id = str(accepted["task_id"])
        try:
            return await self._finished(task_id, context)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(ToolError):
                await _told(partial(self._api.command, task_id, "cancel"))
            raise

    async def wait(self, context: Context, task_id: TaskId) -> Answer:
        """Wait until a task has ended, and return it with its result."""
        return await self._finished(await self._id(task_id), context)

    async def cancel(self, task_id: TaskId) -> Answer:
        """Cancel a task; a running one is cut off at once."""
        found = await self._id(task_id)
        return await _told(partial(self._api.command, found, "cancel"))

    async def list_tasks(
        self,
        status: Annotated[States | None, Field(description="only those in this state")] = None,
        q: Annotated[str | None, Field(description="only those whose text holds these words")] = (
            None
        ),
        limit: Annotated[int, Field(ge=1, le=500, description="at most so many")] = 20,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> Answer:
        """List tasks, newest first."""
        query = {"status": status, "q": q, "limit": limit, "cursor": cursor}
        return await _told(partial(self._api.get, "/tasks", query))

    async def show(self, task_id: TaskId) -> Answer:
        """Show one task with its texts, result or error."""
        return await _told(partial(self._api.task, await self._id(task_id)))

    async def explain(self, task_id: TaskId) -> Answer:
        """Say what happened to a task, and what it waited for."""
        path = f"/tasks/{quote(await self._id(task_id), safe='')}/explain"
        return await _told(partial(self._api.get, path))

    async def models(self) -> Answer:
        """Show the models: enabled or what each lacks, load and limits."""
        return await _told(partial(self._api.get, "/models"))

    async def _id(self, given: str) -> str:
        return await _told(partial(self._api.resolve, given))

    async def _finished(self, task_id: str, context: Context) -> Answer:
        """The task once it has ended; what it does meanwhile goes out as progress."""
        await _told(partial(self._api.task, task_id))  # tells an unknown id by name
        view, steps, last = TaskView(task_id), 0, ""
        try:
            async with aclosing(follow(self._api.address, task_id)) as events:
                async for event in events:
                    view.take(event)
                    now = view.status if view.ended else waiting(view)
                    if event["type"] != "chunk" and now != last:
                        steps, last = steps + 1, now
                        await context.report_progress(steps, None, now)
        except Failure as failure:
            raise ToolError(str(failure)) from None
        return await _told(partial(self._api.task, task_id))


async def _told(call: Callable[[], T]) -> T:
    """The result of a blocking call, made in a thread. Raises ToolError."""
    try:
        return await asyncio.to_thread(call)
    except Failure as failure:
        raise ToolError(str(failure)) from None
