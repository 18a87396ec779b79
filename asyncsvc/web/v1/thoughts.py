"""Reasoning items: a model's thinking on its way to a client and back.

Owns `encrypted_content`, in which a client that stores nothing here carries the thinking to the
next turn: providers want it back beside the calls that it led to. It is packed, not secret: the
client sees the same text. Promises that content of another service is read as no thinking.
"""

import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Self

ENCRYPTED = "reasoning.encrypted_content"
"""What a client lists under `include` that wants `encrypted_content`."""
MARK = "asyncsvc1."
MOST_CHARS = 4 << 20
"""Of thinking that is unpacked."""


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

    def shown(self, text: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """The fields of a reasoning item."""
        sealed = {"encrypted_content": packed(text)} if self.sealed and text else {}
        if self.summary:
            return {"summary": parts, **sealed}
        return {"summary": [], "content": parts, **sealed}


def packed(text: str) -> str:
    """`encrypted_content` for that thinking."""
    return MARK + b64encode(zlib.compress(text.encode())).decode("ascii")


def text(item: dict[str, Any]) -> str:
    """The thinking of a reasoning item; empty where it has none that can be read."""
    for name in ("content", "summary"):
        given = item.get(name)
        parts = given if isinstance(given, list) else []
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        if found := "".join(text for text in texts if isinstance(text, str)):
            return found
    sealed = item.get("encrypted_content")
    return _unpacked(sealed) if isinstance(sealed, str) and sealed.startswith(MARK) else ""


def _unpacked(sealed: str) -> str:
    try:
        data = b64decode(sealed.removeprefix(MARK), validate=True)
        return zlib.decompressobj().decompress(data, MOST_CHARS).decode()
    except (ValueError, zlib.error):
        return ""
