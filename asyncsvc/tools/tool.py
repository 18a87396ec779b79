"""`Tool`: a name, a description, parameters, and where its effects stay.

A tool is called with checked parameters and gives a `Result`. What goes wrong within a tool is a
`ToolFault`, a text for the model, which goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from asyncsvc.tools.workspace import Workspace


class Effects(StrEnum):
    """Where the effects of a tool stay."""

    NONE = "none"
    """It only reads."""
    WORKSPACE = "workspace"
    """In the workspace, which can be put back to what it was."""
    OUTSIDE = "outside"


class Parameters(BaseModel):
    """The parameters of a tool; one that does not exist is a fault."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ToolFault(Exception):
    """A tool cannot do what it was asked for; the message is for the model."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a call. `exit_code` is that of a program, 0 or 1 of any other tool."""

    ok: bool
    output: str
    exit_code: int = 0
    truncated: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "output": self.output,
            "exit_code": self.exit_code,
            "truncated": self.truncated,
        }


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a call may use: the workspace, the owner of the task, and the bound of its output."""

    workspace: Workspace
    owner: str | None
    max_output_bytes: int
    emit: Callable[[str], None]
    """Takes the output while it comes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as an MCP server lists it: `schema` is the JSON Schema of its parameters."""

    name: str
    description: str
    schema: dict[str, Any]
    reads_only: bool


P = TypeVar("P", bound=Parameters)


class Tool(Generic[P]):
    """A tool with parameters of one type."""

    name: str
    description: str
    effects: Effects
    parameters: type[P]

    @property
    def reads_only(self) -> bool:
        return self.effects is Effects.NONE

    def check(self, values: Mapping[str, Any]) -> P:
        """The parameters of a call. Raises ValidationError or InvalidRequest."""
        return self.parameters.model_validate(values)

    async def run(self, given: P, around: Surroundings) -> Result:
        """Raises ToolFault."""
        raise NotImplementedError

    async def preview(self, given: P, around: Surroundings) -> str | None:
        """What the call would change, as a diff, for the person who approves it; None where there
        is nothing to show. Changes nothing."""
        return None

    async def close(self) -> None:
        """End what the tool holds, such as threads of its own."""

    def function(self) -> dict[str, Any]:
        """The tool as OpenAI describes a function."""
        schema = self.parameters.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
        return {"name": self.name, "description": self.description, "parameters": schema}
