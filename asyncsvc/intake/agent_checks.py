"""The checks of an agent's submission: its tools, its files, and a model that can call tools.

A name that no tool has and a path that leads out of the workspace are refused by the field that
holds them. An MCP server that is still starting is waited for shortly; after that its tools are
taken as they are named, and a call of one that does not exist is an error for the model.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from asyncsvc.config.settings import Settings
from asyncsvc.errors import InvalidRequest, NoModel, NotFound
from asyncsvc.providers import tokens
from asyncsvc.providers.registry import NO_MODEL_S, Catalogue
from asyncsvc.tasks.submission import Submission
from asyncsvc.tools.registry import Toolbox
from asyncsvc.tools.tool import Tool
from asyncsvc.tools.workspace import PathRefused, parts_of

log = logging.getLogger(__name__)

STARTING_S = 3.0
"""How long a submit waits for an MCP server that is starting."""
NAME_SHOWN = 80


class AgentChecks:
    """`check` the submission of an agent before it is stored."""

    def __init__(self, toolbox: Toolbox, catalogue: Catalogue, settings: Settings) -> None:
        self._toolbox = toolbox
        self._catalogue = catalogue
        self._settings = settings
        self._tokens: WeakKeyDictionary[Tool[Any], int] = WeakKeyDictionary()

    async def check(self, submission: Submission) -> int:
        """About how many tokens the descriptions of its tools cost. Raises InvalidRequest or
        NoModel."""
        if not self._settings.tools.enabled:
            raise InvalidRequest(
                "a task of type agent needs tools, which are switched off in the settings "
                "(tools.enabled = false)",
                param="type",
            )
        self._check_model(submission)
        check_files(submission.files or {})
        await self._found("approve", submission.approve or ())
        names = self._toolbox.names if submission.tools is None else submission.tools
        found = await self._found("tools", names)
        return sum(map(self._described, found))

    def _check_model(self, submission: Submission) -> None:
        """Raises InvalidRequest or NoModel where only agent gateways could serve the task: these
        run tools of their own and take none of ours."""
        if submission.model is None:
            able = [u for u in self._catalogue.upstreams if u.settings.type == "chat"]
            if able and all(upstream.preset.acts for upstream in able):
                raise NoModel(
                    "no model that takes tools is enabled: the models in use are agent gateways, "
                    "which run tools of their own",
                    retry_after=NO_MODEL_S,
                )
        elif any(one.preset.acts for one in self._catalogue.of(submission.model)):
            raise InvalidRequest(
                f"model {submission.model} is an agent gateway, which runs tools of its own and "
                "takes none of a task; name another model, or submit a task of type chat",
                param="model",
            )

    async def _found(self, field: str, names: Iterable[str]) -> list[Tool[Any]]:
        """The tools of those names, as far as they are known yet. Raises InvalidRequest."""
        listed = {tool.name: tool for tool in self._toolbox.tools}
        found: dict[str, Tool[Any]] = {}
        try:
            async with asyncio.timeout(STARTING_S):
                for name in names:
                    found[name] = listed.get(name) or await self._toolbox.find(name)
        except TimeoutError:
            log.info("an agent is taken before all MCP servers have listed their tools")
        except NotFound as unknown:
            raise InvalidRequest(f"{field}: {unknown}", param=field) from None
        return list(found.values())

    def _described(self, tool: Tool[Any]) -> int:
        count = self._tokens.get(tool)
        if count is None:
            text = orjson.dumps({"type": "function", "function": tool.function()}).decode()
            count = self._tokens[tool] = tokens.estimate(text)
        return count


def check_files(files: Mapping[str, str]) -> None:
    """Raises InvalidRequest for a path that is none of a file in the workspace, and for two of
    which one is the other or a folder before it."""
    seen: dict[tuple[str, ...], str] = {}
    for path in files:
        try:
            parts = tuple(parts_of(path))
        except (PathRefused, UnicodeEncodeError) as refusal:
            raise InvalidRequest(f"files: {refusal}", param="files") from None
        shown = path[:NAME_SHOWN]
        if not parts:
            raise InvalidRequest(f"files: {shown!r} names no file", param="files")
        if parts in seen:
            raise InvalidRequest(
                f"files: {shown!r} and {seen[parts][:NAME_SHOWN]!r} are the same file",
                param="files",
            )
        seen[parts] = path
    for parts, path in seen.items():
        for length in range(1, len(parts)):
            if (above := seen.get(parts[:length])) is not None:
                raise InvalidRequest(
                    f"files: {above[:NAME_SHOWN]!r} is a file, and {path[:NAME_SHOWN]!r} needs it "
                    "to be a folder",
                    param="files",
                )
