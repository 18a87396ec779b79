"""Reasoning items: a model's thinking on its way to a client and back.

Owns `encrypted_content`, in which a client that stores nothing here carries the thinking to the
next turn: providers want it back beside the calls that it led to. It is packed, not secret: the
client sees the same text. Promises that content of another service is read as no thinking.
"""

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Self

import orjson

PREFIX = "asyncsvc1:"


def sealed(fields: dict[str, Any]) -> str:
    """The fields as one opaque text."""
    return PREFIX + b64encode(orjson.dumps(fields)).decode()


def opened(text: Any) -> dict[str, Any]:
    """The fields of such a text; none where it is another one."""
    if not isinstance(text, str) or not text.startswith(PREFIX):
        return {}
    try:
        fields = orjson.loads(b64decode(text[len(PREFIX) :], validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        return {}
    return fields if isinstance(fields, dict) else {}


ENCRYPTED = "reasoning.encrypted_content"
"""What a client lists under `include` that wants `encrypted_content`."""
FIELD = "reasoning_content"
"""What the thinking of a message is called in a chat call."""
OF_MESSAGE = frozenset({"role", "content", "tool_calls", FIELD})


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a response tells its thinking: as the content of an item, or as its summary where the
    request asks for one. `sealed`: with `encrypted_content`."""

    summary: bool = False
    sealed: bool = False

    @classmethod
    def of(cls, request: dict[str, Any]) -> Self:
        """As a request to `/v1/responses` asks for it."""
        wanted = request.get("reasoning") or {}
        asked = wanted.get("summary") or wanted.get("generate_summary")
        return cls(bool(asked), ENCRYPTED in (request.get("include") or []))

    @property
    def event(self) -> str:
        return f"response.reasoning_{'summary_' if self.summary else ''}text"

    @property
    def part(self) -> str:
        return "summary_text" if self.summary else "reasoning_text"

    @property
    def part_event(self) -> str:
        return "response.reasoning_summary_part" if self.summary else "response.content_part"

    @property
    def place(self) -> dict[str, Any]:
        return {"summary_index" if self.summary else "content_index": 0}

    def shown(
        self, text: str, parts: list[dict[str, Any]], opaque: str | None = None
    ) -> dict[str, Any]:
        """The fields of a reasoning item; `opaque` is what it carries in place of thinking."""
        if opaque is None and self.sealed and text:
            opaque = sealed({FIELD: text})
        more = {} if opaque is None else {"encrypted_content": opaque}
        if self.summary:
            return {"summary": parts, **more}
        return {"summary": [], "content": parts, **more}


def text(item: dict[str, Any]) -> str:
    """The thinking of a reasoning item; empty where it has none that can be read."""
    for name in ("content", "summary"):
        given = item.get(name)
        parts = given if isinstance(given, list) else []
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        if found := "".join(text for text in texts if isinstance(text, str)):
            return found
    carried = opened(item.get("encrypted_content")).get(FIELD)
    return carried if isinstance(carried, str) else ""


def carried(item: dict[str, Any]) -> dict[str, Any]:
    """The fields of a message that a reasoning item carries beside thinking."""
    fields = opened(item.get("encrypted_content"))
    return {name: value for name, value in fields.items() if name not in OF_MESSAGE}
