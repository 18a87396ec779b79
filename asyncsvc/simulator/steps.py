"""One answer of an agent's model: a text, calls of tools, or both."""

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call of a tool that the model makes; `arguments` is JSON as text."""

    id: str
    name: str
    arguments: str

    def as_dict(self) -> dict[str, Any]:
        """The call in OpenAI's shape."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}

    def as_block(self) -> str:
        """The call in the text protocol."""
        try:
            arguments = orjson.loads(self.arguments)
        except orjson.JSONDecodeError:
            arguments = self.arguments
        text = orjson.dumps({"name": self.name, "arguments": arguments}).decode()
        return f"```tool_call\n{text}\n```"


@dataclass(frozen=True, slots=True)
class Step:
    """What the model answers."""

    text: str
    calls: tuple[PlannedCall, ...] = ()
    thoughts: str = ""

    def as_text(self) -> str:
        """The answer in the text protocol."""
        return "\n\n".join(
            part for part in (self.text, *map(PlannedCall.as_block, self.calls)) if part
        )
